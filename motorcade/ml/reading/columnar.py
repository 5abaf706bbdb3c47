"""Telemetry ranges as columns, decoded block by block; reads from any version of Kafka."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from motorcade.fleet.avro import Schema
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.columns import HEADER, schema_id_of
from motorcade.fleet.errors import DecodeError
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns
from motorcade.ml.reading.ranges import BATCH, OffsetRange, check, range_client, values_of
from motorcade.runtime.registry import schema_by_id

SchemaLookup = Callable[[int], Schema]


class RangeDecoder:
    """Turns values of telemetry records into columns, whoever read them.

    Args:
        catalogue: the signals that rows are laid out by.
        lookup: the writer's schema of an id.
    """

    def __init__(self, catalogue: Catalogue, lookup: SchemaLookup) -> None:
        # No schema is ours here: every id is read as its writer registered it.
        self._codec = TelemetryAvro(catalogue, 0)
        self._lookup = lookup
        #: Writers' schemas by id, as far as read.
        self.schemas: dict[int, Schema] = {}

    def decode(
        self, one: OffsetRange, offset: int, values: list[bytes]
    ) -> Iterator[TelemetryColumns]:
        """Columns of a range's values, the first of which lies at `offset` or after.

        Raises:
            DecodeError: one is not telemetry; the message names its place.
        """
        try:
            if len({value[:HEADER] for value in values}) == 1:
                number = schema_id_of(values[0])
                self._learn(number)
                yield self._codec.decode(values, number)
                return
            for number, run in groupby(values, key=schema_id_of):
                self._learn(number)
                yield self._codec.decode(list(run), number)
        except DecodeError as error:
            raise DecodeError(
                f"{one.topic}[{one.partition}] from offset {offset}: {error.what}",
                "Is this a topic of telemetry in Confluent's Avro format?",
            ) from error

    def _learn(self, number: int) -> None:
        if number not in self.schemas:
            schema = self._lookup(number)
            self._codec.learn(number, schema)
            self.schemas[number] = schema


class RangeReader:
    """What every reader of telemetry ranges has; one says in `__iter__` how it reads.

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
        self._decoder = RangeDecoder(catalogue, lookup)
        self._batch = batch

    def __len__(self) -> int:
        """Offsets in all ranges: as many records, where every offset is one."""
        return sum(one.records for one in self._ranges)

    @property
    def schemas(self) -> dict[int, Schema]:
        """Writers' schemas by id, as far as read."""
        return self._decoder.schemas


class ColumnarReader(RangeReader):
    """Reads telemetry ranges as columns, in (partition, offset) order, as often as it is iterated.

    Arguments as `RangeReader`.
    """

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
                for first, _, values in values_of(client, one, self._batch):
                    yield from self._decoder.decode(one, first, values)


def registry_lookup(settings: ProcessSettings) -> SchemaLookup:
    """Looks schemas up in the registry, from any thread, with or without a running event loop."""

    def look_up(number: int) -> Schema:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(lambda: asyncio.run(schema_by_id(settings, number))).result()

    return look_up
