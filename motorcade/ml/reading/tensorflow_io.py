"""Telemetry ranges read by TensorFlow's own Kafka client (tensorflow-io), decoded as everywhere.

Same records, same order as `ColumnarReader`, with what that client needs for it (tensorflow-io
0.37, `kafka_kernels.cc`):

- `IODataset.from_kafka` reads from offset 0 whatever `start` says, in pieces of 1024 offsets, and
  gets nothing where the last piece is a single offset. Here its operation is given the offsets.
- The operation reads on from `start` until it has met an offset of at least `stop - 1`, and does
  not tell offsets. So where that offset is no record (a transaction ended there, compaction took
  it) it returns one record too many. Pieces overlap by one offset: whatever a piece met last is
  what the next one meets first, and is dropped there. The last piece stops at the range's last
  record, whose offset is asked for beforehand.
- It asks for nothing at all when `stop` is `start + 1`: the last record of a range of one is read
  together with the offset before it, or as the first one that Kafka has.
- The operation for streams is not used: at the end of a partition it leaves its client running
  without an owner, which crashes the process once Kafka goes away.
- A consumer is kept for the life of the process unless it is given a name and destroyed by it.
- It waits for ever for a Kafka that went away. So each reading has a thread of its own, and while
  it lasts Kafka is asked whether it is still there.
- Settings are strings "name=value" that must not hold another "=", are dropped silently where
  unknown, and are logged with their values: so there is no login, and no secret among ours.
- It cannot read from Kafka 4 and later, which no longer know the requests it makes, and would wait
  for ever: the broker is asked what it knows first.
- Its own `KafkaDataset` and `decode_avro` are not used: the one crashes TensorFlow 2.17, the other
  decodes 2,000 records/s and turns absent signals into 0.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any
from uuid import uuid4

from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import ApiVersionRequest

from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.errors import MotorcadeError, UnreachableError
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.engine import tensorflow
from motorcade.ml.errors import RangeError
from motorcade.ml.reading.columnar import RangeReader, SchemaLookup
from motorcade.ml.reading.ranges import (
    BATCH,
    OffsetRange,
    check,
    earliest,
    last_record,
    range_client,
)
from motorcade.runtime.kafka_access import KafkaAccess

#: Offsets per call of the operation, which returns all of them at once: some 10 MB.
_PIECE = 1 << 16
_REMEDY = "Read it with the columnar reader, which reads from any Kafka: --reader columnar."
_CONNECT_S = 10.0
#: A reading that lasts longer makes us ask Kafka whether it is there.
_PATIENCE_S = 5.0
#: librdkafka's name for the earliest offset that there is.
_EARLIEST = -2
#: Request type "Fetch" of Kafka's protocol. Kafka 4.0 dropped its versions 0 to 3 (KIP-896).
_FETCH = 1
_FETCH_OF_KAFKA_4 = 4


class TensorflowReader(RangeReader):
    """Reads telemetry ranges as columns, in (partition, offset) order, as often as it is iterated.

    Args:
        settings, ranges, catalogue, lookup, batch: as `RangeReader`.
        piece: offsets that tensorflow-io reads in one call, at least 2.
    """

    def __init__(
        self,
        settings: ProcessSettings,
        ranges: Sequence[OffsetRange],
        catalogue: Catalogue,
        lookup: SchemaLookup,
        *,
        batch: int = BATCH,
        piece: int = _PIECE,
    ) -> None:
        super().__init__(settings, ranges, catalogue, lookup, batch=batch)
        self._piece = piece

    def __iter__(self) -> Iterator[TelemetryColumns]:
        """Batches of at most `batch` rows.

        Raises:
            RangeError: Kafka no longer holds a range, or never did.
            DecodeError: a record is not telemetry; the message names its place.
            UnreachableError: Kafka does not answer, or the client gives up.
            MotorcadeError: this Kafka or this machine is none for tensorflow-io.
        """
        require_readable(self._settings)
        ops = operations()
        with range_client(self._settings) as client:
            for one in self._ranges:
                check(client, one)
            for one in self._ranges:
                last = last_record(client, one)
                if last is None:
                    continue
                at = one.start
                for values in self._pieces(ops, one, last, client):
                    for first in range(0, len(values), self._batch):
                        part = values[first : first + self._batch]
                        yield from self._decoder.decode(one, at + first, part)
                    at += len(values)
                # What Kafka removed meanwhile was perhaps not read.
                check(client, one)

    def _pieces(self, ops: Any, one: OffsetRange, last: int, client: Any) -> Iterator[list[bytes]]:
        """Values from the range's start to its record at offset `last`, piece by piece."""
        tf = tensorflow()
        low = earliest(client, one)
        try:
            consumer = ops.io_kafka_readable_init(
                one.topic,
                one.partition,
                offset=one.start,
                metadata=self._configuration(),
                # Else TensorFlow keeps it, connected, for the rest of the process.
                shared_name=f"motorcade-{uuid4().hex}",
            )

            def read(start: int, stop: int) -> list[bytes]:
                found = ops.io_kafka_readable_read(consumer, start=start, stop=stop)
                values: list[bytes] = found.message.numpy().tolist()
                return values

            def watched(start: int, stop: int) -> list[bytes]:
                return _watched(partial(read, start, stop), partial(earliest, client, one))

            try:
                if one.start < last:
                    yield from self._overlapping(watched, one, last)
                else:
                    yield watched(last - 1 if last > low else _EARLIEST, last + 1)[-1:]
            finally:
                tf.raw_ops.DestroyResourceOp(resource=consumer)
        except tf.errors.OpError as error:
            raise UnreachableError(
                f"tensorflow-io cannot read {one.topic}[{one.partition}] from Kafka at "
                f"{self._settings.kafka}: {error.message}.",
                _REMEDY,
            ) from error

    def _overlapping(
        self, read: Callable[[int, int], list[bytes]], one: OffsetRange, last: int
    ) -> Iterator[list[bytes]]:
        """As `_pieces`, of a range of two offsets or more."""
        begin = one.start
        before: bytes | None = None
        while begin < last:
            end = min(begin + self._piece, last + 1)
            values = read(begin, end)
            if before is not None and values[:1] != [before]:
                raise RangeError(
                    f"{one.topic}[{one.partition}] changed at offset {begin} while it was being "
                    "read.",
                    "Was the topic made anew, or its records deleted?",
                )
            yield values if before is None else values[1:]
            begin, before = end - 1, values[-1]

    def _configuration(self) -> list[str]:
        """Settings of librdkafka as tensorflow-io takes them."""
        wanted = {
            "bootstrap.servers": self._settings.kafka,
            # Never used: partitions are assigned by hand and nothing is committed.
            "group.id": "motorcade-range-reader",
            "enable.auto.commit": "false",
            "fetch.wait.max.ms": "10",
            "fetch.message.max.bytes": str(4 << 20),
            "queued.min.messages": "20000",
            "conf.topic.auto.offset.reset": "error",
        }
        return [f"{name}={value}" for name, value in wanted.items()]


def operations() -> Any:
    """tensorflow-io's operations.

    Raises:
        MotorcadeError: tensorflow-io is not installed, or does not load beside this TensorFlow.
    """
    tensorflow()
    try:
        from tensorflow_io.python.ops import core_ops

        # The library behind them is loaded when the first one is asked for.
        core_ops.io_kafka_readable_init  # noqa: B018
    except (ImportError, NotImplementedError, AttributeError) as error:
        raise MotorcadeError(
            f"tensorflow-io does not load here: {error}.",
            f"It loads beside TensorFlow 2.16 and 2.17 only. {_REMEDY}",
        ) from error
    return core_ops


def require_readable(settings: ProcessSettings) -> None:
    """Verify that tensorflow-io's client can read from this Kafka.

    Raises:
        UnreachableError: Kafka does not answer.
        MotorcadeError: it is one that tensorflow-io cannot read, or must not.
    """
    if KafkaAccess.of(settings).asked:
        raise MotorcadeError(
            "tensorflow-io is not used with a Kafka that asks for a login or for TLS: its client "
            "writes its settings into the log, and the password with them.",
            _REMEDY,
        )
    with ThreadPoolExecutor(1) as thread:
        # A thread of its own: an event loop may run in this one.
        oldest = thread.submit(lambda: asyncio.run(_oldest_fetch(settings.kafka))).result()
    if oldest >= _FETCH_OF_KAFKA_4:
        raise MotorcadeError(
            f"tensorflow-io cannot read from Kafka at {settings.kafka}: it is of version 4 or "
            f"later, which knows fetch requests from version {oldest} on only.",
            f"{_REMEDY} Or use Kafka 3.9.",
        )


async def _oldest_fetch(bootstrap: str) -> int:
    """The oldest version of a fetch request that Kafka knows."""
    failure: Exception | None = None
    for address in bootstrap.split(","):
        host, _, port = address.rpartition(":")
        try:
            async with asyncio.timeout(_CONNECT_S):
                connection = await create_conn(host.strip("[]"), int(port))
                try:
                    answer = await connection.send(ApiVersionRequest())
                finally:
                    connection.close()
        except (OSError, TimeoutError, KafkaError) as error:
            failure = error
            continue
        for kind, oldest, _ in answer.api_versions:
            if kind == _FETCH:
                return int(oldest)
    raise UnreachableError(
        f"Kafka at {bootstrap} does not say what it knows: {failure}.",
        "Check that it runs, and MOTORCADE_KAFKA or --kafka.",
    )


def _watched(work: Callable[[], list[bytes]], ask: Callable[[], Any]) -> list[bytes]:
    """The outcome of work in a thread of its own, which is left alone when `ask` raises."""
    outcome: SimpleQueue[list[bytes] | Exception] = SimpleQueue()

    def body() -> None:
        try:
            outcome.put(work())
        except Exception as error:  # noqa: BLE001 - raised below, by who waits for it
            outcome.put(error)

    Thread(target=body, daemon=True).start()
    while True:
        try:
            found = outcome.get(timeout=_PATIENCE_S)
        except Empty:
            ask()
            continue
        if isinstance(found, Exception):
            raise found
        return found
