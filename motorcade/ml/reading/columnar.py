"""Telemetry ranges as columns, decoded block by block; reads from any version of Kafka."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.columns import schema_id_of
from motorcade.fleet.errors import DecodeError
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns
from motorcade.ml.reading.ranges import BATCH, OffsetRange, check, range_client, values_of
from motorcade.runtime.registry import schema_by_id

_HEADER = 5

SchemaLookup = Callable[[int], dict[str, Any]]


class ColumnarReader:
    """Reads telemetry ranges as columns, in (partition, offset) order, as often as it is iterated.

    Args:
        settings: where Kafka is.
        ranges: what to read.
        catalogue: the signals that rows are laid out by.
        lookup: the writer's schema of an id.
        batch: most records per batch.
    """

    def __init__(
        self,
        settings: ProcessSettings,
        ranges: Sequence[OffsetRange],
        catalogue: Catalogue,
        lookup: SchemaLookup,
        *,
        batch: int = BATCH,
    ) -> None:
        self._settings = settings
        self._ranges = sorted(ranges)
        self._catalogue = catalogue
        self._lookup = lookup
        self._batch = batch
        self._codec: TelemetryAvro | None = None
        #: Writers' schemas by id, as far as read.
        self.schemas: dict[int, dict[str, Any]] = {}

    @property
    def total(self) -> int:
        """Records in all ranges."""
        return sum(one.records for one in self._ranges)

    def __iter__(self) -> Iterator[TelemetryColumns]:
        """Batches of at most `batch` rows.

        Raises:
            RangeError: Kafka no longer holds a range, or never did.
            DecodeError: a record is not telemetry; the message names its place.
            UnreachableError: Kafka falls silent.
        """
        with range_client(self._settings) as client:
            for one in self._ranges:
                check(client, one)
            for one in self._ranges:
                for offset, values in values_of(client, one, self._batch):
                    yield from self._decode(one, offset, values)

    def _decode(
        self, one: OffsetRange, offset: int, values: list[bytes]
    ) -> Iterator[TelemetryColumns]:
        try:
            if len({value[:_HEADER] for value in values}) == 1:
                number = schema_id_of(values[0])
                yield self._codec_for(number).decode(values, number)
                return
            for number, run in groupby(values, key=schema_id_of):
                yield self._codec_for(number).decode(list(run), number)
        except DecodeError as error:
            raise DecodeError(
                f"{one.topic}[{one.partition}] from offset {offset}: {error.what}",
                "Is this a topic of telemetry in Confluent's Avro format?",
            ) from error

    def _codec_for(self, number: int) -> TelemetryAvro:
        if self._codec is None:
            # No schema is ours here: every id is read as its writer registered it.
            self._codec = TelemetryAvro(self._catalogue, 0)
        if number not in self.schemas:
            schema = self._lookup(number)
            self._codec.learn(number, schema)
            self.schemas[number] = schema
        return self._codec


def registry_lookup(settings: ProcessSettings) -> SchemaLookup:
    """Looks schemas up in the registry, from any thread, with or without a running event loop."""

    def look_up(number: int) -> dict[str, Any]:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(schema_by_id(settings, number))).result()

    return look_up
