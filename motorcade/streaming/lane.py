"""One Kafka partition as the bridge writes it: batches in order, acknowledged only after Kafka."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder
from prometheus_client import Counter, Gauge, Histogram

from motorcade.fleet.errors import MotorcadeError
from motorcade.runtime.failpoint import failpoint
from motorcade.runtime.kafka import KafkaError
from motorcade.runtime.mqtt import MqttSession
from motorcade.streaming.routes import Headers

_MESSAGES = Counter("motorcade_bridge_messages_total", "Messages that Kafka took", ["topic"])
_BATCHES = Counter("motorcade_bridge_batches_total", "Batches that Kafka took", ["topic"])
_PUBACKS = Counter("motorcade_bridge_pubacks_total", "PUBACKs sent to the broker")
_KAFKA_SECONDS = Histogram("motorcade_bridge_kafka_seconds", "Time Kafka took for a batch")
_HELD = Gauge("motorcade_bridge_held_messages", "Messages held, not yet taken by Kafka")
_HELD_BYTES = Gauge("motorcade_bridge_held_bytes", "Payload bytes held, not yet taken by Kafka")


class Receipts:
    """The packet ids received on one connection, acknowledged in the order they came.

    MQTT 5, 4.6 asks for that order; partitions finish in another.
    """

    __slots__ = ("_done", "_generation", "_order", "_session")

    def __init__(self, session: MqttSession) -> None:
        self._session = session
        self._generation = session.generation
        self._order: deque[int] = deque()
        self._done: set[int] = set()

    @property
    def current(self) -> bool:
        """Whether the connection that the ids belong to is still the session's."""
        return self._generation == self._session.generation

    def received(self, packet_id: int) -> None:
        self._order.append(packet_id)

    def settle(self, packet_ids: Sequence[int]) -> None:
        """Kafka holds these: acknowledge, in one write, every id that nothing older holds back."""
        order, done = self._order, self._done
        done.update(packet_ids)
        ready: list[int] = []
        while order and order[0] in done:
            packet_id = order.popleft()
            done.discard(packet_id)
            ready.append(packet_id)
        if ready and self.current:
            self._session.acknowledge(ready, self._generation)
            _PUBACKS.inc(len(ready))


class Held:
    """How much is held in all lanes together, and when reading must pause."""

    def __init__(
        self, limit_bytes: int, limit_messages: int, pause: Callable[[bool], None]
    ) -> None:
        self._limit_bytes = limit_bytes
        self._limit_messages = limit_messages
        self._pause = pause
        self._paused = False
        self.bytes = 0
        self.messages = 0

    def add(self, size: int) -> None:
        self.bytes += size
        self.messages += 1
        if not self._paused and (
            self.bytes > self._limit_bytes or self.messages > self._limit_messages
        ):
            self._paused = True
            self._pause(True)

    def remove(self, messages: int, size: int) -> None:
        self.bytes -= size
        self.messages -= messages
        _HELD.set(self.messages)
        _HELD_BYTES.set(self.bytes)
        if (
            self._paused
            and self.bytes <= self._limit_bytes // 2
            and self.messages <= self._limit_messages // 2
        ):
            self._paused = False
            self._pause(False)


class _Batch:
    """Records on their way to one partition, and the packet ids to acknowledge afterwards."""

    __slots__ = ("builder", "count", "receipts", "size")

    def __init__(self, builder: BatchBuilder) -> None:
        self.builder = builder
        self.receipts: dict[Receipts, list[int]] = {}
        self.count = 0
        self.size = 0


class Lane:
    """One (topic, partition): one batch under way at a time, so order survives.

    While a batch is under way the next one fills: the slower Kafka, the larger the batches.
    """

    def __init__(
        self,
        producer: AIOKafkaProducer,
        topic: str,
        partition: int,
        held: Held,
        opened: Callable[["Lane"], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._partition = partition
        self._held = held
        self._opened = opened
        self._failed = failed
        self._open: _Batch | None = None
        self._closed: deque[_Batch] = deque()
        self._task: asyncio.Task[None] | None = None
        self._due = False
        self._broken = False
        #: Monotonic time since when the batch under way is with Kafka; 0 when none is.
        self.waiting_since = 0.0

    def add(
        self, receipts: Receipts, packet_id: int, key: bytes, value: bytes, headers: Headers
    ) -> None:
        """Take a message; packet id 0 (QoS 0) needs no acknowledgement."""
        batch = self._open or self._begin()
        if batch.builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
            self._closed.append(batch)
            self._start()
            batch = self._begin()
            batch.builder.append(timestamp=None, key=key, value=value, headers=headers)
        batch.count += 1
        batch.size += len(value)
        if packet_id:
            ids = batch.receipts.get(receipts)
            if ids is None:
                ids = batch.receipts[receipts] = []
            ids.append(packet_id)
        self._held.add(len(value))

    def flush(self) -> None:
        """The linger is over: send what is open, at once or after the batch under way."""
        if self._open is not None:
            self._due = True
            self._start()

    async def drained(self) -> None:
        """Send everything and wait until Kafka has it."""
        self.flush()
        while self._task is not None:
            await asyncio.wait({self._task})

    def _begin(self) -> _Batch:
        self._open = _Batch(self._producer.create_batch())
        self._opened(self)
        return self._open

    def _start(self) -> None:
        if self._task is None and not self._broken:
            self._task = asyncio.get_running_loop().create_task(self._send_all())

    def _next(self) -> _Batch | None:
        if self._closed:
            return self._closed.popleft()
        if self._due:
            batch, self._open, self._due = self._open, None, False
            return batch
        return None

    async def _send_all(self) -> None:
        try:
            while (batch := self._next()) is not None:
                await self._send(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends the process
            self._broken = True  # what follows must not overtake what failed
            self._failed(error)
        finally:
            self._task = None

    async def _send(self, batch: _Batch) -> None:
        self.waiting_since = began = time.monotonic()
        batch.builder.close()
        failpoint("bridge.before-produce")
        try:
            await (
                await self._producer.send_batch(
                    batch.builder, self._topic, partition=self._partition
                )
            )
        except KafkaError as error:
            raise MotorcadeError(
                f"Kafka did not take a batch of {batch.count} messages for {self._topic} "
                f"partition {self._partition}: {error!r}. None of them was acknowledged.",
                "The broker delivers them again to the next start.",
            ) from error
        failpoint("bridge.after-produce")
        self.waiting_since = 0.0
        for receipts, packet_ids in batch.receipts.items():
            receipts.settle(packet_ids)
        self._held.remove(batch.count, batch.size)
        _KAFKA_SECONDS.observe(time.monotonic() - began)
        _MESSAGES.labels(self._topic).inc(batch.count)
        _BATCHES.labels(self._topic).inc()
