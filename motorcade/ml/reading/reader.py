"""One way to read a recorded data set, whichever reader does it; what it lacks is said at once."""

from collections.abc import Iterator, Mapping
from typing import Literal, Protocol, get_args

from motorcade.fleet.avro import Schema
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.errors import SettingsError
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.errors import DatasetError
from motorcade.ml.reading.columnar import ColumnarReader, registry_lookup
from motorcade.ml.reading.ranges import check, range_client
from motorcade.ml.reading.records import DatasetRecord
from motorcade.ml.reading.tensorflow_io import TensorflowReader, operations, require_readable

ReaderName = Literal["columnar", "tensorflow-io"]


class Reader(Protocol):
    """Telemetry in (partition, offset) order, the same however often it is iterated."""

    @property
    def schemas(self) -> Mapping[int, Schema]:
        """Writers' schemas by id, as far as read."""

    def __len__(self) -> int:
        """Offsets in all ranges: as many records, where every offset is one."""

    def __iter__(self) -> Iterator[TelemetryColumns]:
        """Batches of rows; raises RangeError, DecodeError or UnreachableError."""


def open_reader(
    settings: ProcessSettings,
    record: DatasetRecord,
    catalogue: Catalogue,
    reader: str = "columnar",
) -> Reader:
    """A reader of a recorded data set; everything it needs has been found there.

    Args:
        settings: where Kafka and the registry are.
        record: what was recorded.
        catalogue: the signals that rows are laid out by.
        reader: "columnar", or "tensorflow-io" for TensorFlow's own Kafka client.

    Raises:
        RangeError: Kafka no longer holds a range, or never did.
        DatasetError: the records are of another catalogue, or their schema lacks a feature.
        UnreachableError: Kafka or the registry does not answer.
        SettingsError: there is no such reader.
        MotorcadeError: tensorflow-io does not load here, or cannot read from this Kafka.
    """
    if reader not in get_args(ReaderName):
        raise SettingsError(
            f"There is no reader {reader!r}.", f"There are: {', '.join(get_args(ReaderName))}."
        )
    if record.catalogue != catalogue.name:
        raise DatasetError(
            f"The data set {record.name} was recorded with the catalogue {record.catalogue!r}, "
            f"not with {catalogue.name!r}.",
            "Pass the one it was recorded with: --signals FILE, or MOTORCADE_SIGNALS.",
        )
    lookup = registry_lookup(settings)
    require_features(catalogue, {number: lookup(number) for number in record.schema_ids})
    with range_client(settings) as client:
        for one in (*record.telemetry, *record.dtc):
            check(client, one)
    if reader == "columnar":
        return ColumnarReader(settings, record.telemetry, catalogue, lookup)
    require_readable(settings)
    operations()
    return TensorflowReader(settings, record.telemetry, catalogue, lookup)


def require_features(catalogue: Catalogue, schemas: Mapping[int, Schema]) -> None:
    """Verify that the records' schemas hold every signal that models read.

    Raises:
        DatasetError: one lacks some; the message names them.
    """
    for number, schema in schemas.items():
        fields = {field["name"] for field in schema["fields"]}
        if missing := [name for name in catalogue.features if name not in fields]:
            raise DatasetError(
                f"The records' schema {number} lacks the feature {', '.join(missing)} of the "
                f"catalogue {catalogue.name!r}.",
                "Record only what was written with this catalogue, or pass the records' own: "
                "--signals FILE, or MOTORCADE_SIGNALS.",
            )
