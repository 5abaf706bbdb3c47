"""Reading `telemetry` as it comes: any writer's schema, and records that are no telemetry."""

from itertools import groupby

import numpy as np

from motorcade.fleet.arrays import Ints
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.columns import HEADER, schema_id_of
from motorcade.fleet.errors import DecodeError, MotorcadeError, UnreachableError
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns
from motorcade.fleet.vin import LENGTH
from motorcade.ml.reading.columnar import SchemaLookup
from motorcade.runtime.kafka import Record


class TelemetryRecords:
    """Decodes batches of records.

    Args:
        catalogue: the fleet's signals.
        codec: of `telemetry`.
        lookup: schema of a writer that is not known yet; called at most once an id.
    """

    def __init__(self, catalogue: Catalogue, codec: TelemetryAvro, lookup: SchemaLookup) -> None:
        self._catalogue = catalogue
        self._codec = codec
        self._lookup = lookup
        #: Schema ids that are none of ours or of the registry's, and why.
        self._strange: dict[int, str] = {}

    @property
    def feature_columns(self) -> Ints:
        """Columns of the signals that models see."""
        return self._catalogue.feature_columns

    def decode(self, records: list[Record]) -> tuple[TelemetryColumns, dict[int, str]]:
        """Columns of all records, and why some rows hold nothing but their key.

        Raises:
            UnreachableError: the registry does not answer.
        """
        payloads = [record.value or b"" for record in records]
        try:
            return self._decode_all(payloads), {}
        except DecodeError:
            pass
        # Somebody else wrote to the topic: find which records, so that the others are scored.
        rows: list[TelemetryColumns] = []
        broken: dict[int, str] = {}
        for row, (record, payload) in enumerate(zip(records, payloads, strict=True)):
            try:
                rows.append(self._decode_all([payload]))
            except DecodeError as error:
                rows.append(_unknown(record, len(self._catalogue.names)))
                broken[row] = f"the record is not telemetry: {error.what}"
        return TelemetryColumns.joined(rows), broken

    def _decode_all(self, payloads: list[bytes]) -> TelemetryColumns:
        if len({payload[:HEADER] for payload in payloads}) == 1:
            runs = [(schema_id_of(payloads[0]), payloads)]
        else:
            runs = [(number, list(run)) for number, run in groupby(payloads, key=schema_id_of)]
        for number, _ in runs:
            self._learn(number)
        return TelemetryColumns.joined([self._codec.decode(run, number) for number, run in runs])

    def _learn(self, number: int) -> None:
        if self._codec.knows(number):
            return
        if number not in self._strange:
            try:
                self._codec.learn(number, self._lookup(number))
                return
            except UnreachableError:
                raise
            except MotorcadeError as error:
                self._strange[number] = error.what
        raise DecodeError(self._strange[number])


def _unknown(record: Record, signals: int) -> TelemetryColumns:
    """A row for a record that cannot be read: its key, no signal, no identity."""
    vin = np.array([(record.key or b"")[:LENGTH].ljust(LENGTH, b"?")], dtype=f"S{LENGTH}")
    zero: Ints = np.zeros(1, dtype=np.int64)
    return TelemetryColumns(vin, np.full((1, signals), np.nan), zero, zero, zero, zero)
