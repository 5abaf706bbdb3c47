"""A lane to Kafka and its receipts, with a Kafka that answers when the test says so."""

import asyncio
from itertools import chain
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from aiokafka.producer.message_accumulator import BatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from motorcade.fleet.errors import MotorcadeError
from motorcade.streaming.lane import Held, Lane, Receipts


class Session:
    """An MQTT session that writes down its acknowledgements."""

    def __init__(self) -> None:
        self.generation = 1
        self.acknowledged: list[list[int]] = []

    def acknowledge(self, packet_ids: list[int], generation: int) -> None:
        assert generation == self.generation
        self.acknowledged.append(list(packet_ids))

    @property
    def flat(self) -> list[int]:
        return list(chain.from_iterable(self.acknowledged))


class Kafka:
    """A producer whose batches wait for `answer`."""

    def __init__(self, batch_size: int = 1 << 16) -> None:
        self.batch_size = batch_size
        self.batches: list[tuple[int, asyncio.Future[None]]] = []

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(self.batch_size, 0)

    async def send_batch(self, builder: BatchBuilder, topic: str, partition: int) -> Any:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.batches.append((builder.record_count(), future))
        return future

    async def answer(self, error: Exception | None = None) -> None:
        """The oldest unanswered batch is taken, or fails."""
        future = next(f for _, f in self.batches if not f.done())
        future.set_exception(error) if error else future.set_result(None)
        await settle()

    @property
    def counts(self) -> list[int]:
        return [count for count, _ in self.batches]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Rig:
    def __init__(self, batch_size: int = 1 << 16, limit: int = 1000) -> None:
        self.kafka = Kafka(batch_size)
        self.pauses: list[bool] = []
        self.failures: list[BaseException] = []
        self.held = Held(1 << 30, limit, self.pauses.append)
        self.lane = Lane(
            self.kafka,
            "telemetry.raw",
            0,
            self.held,
            lambda _: None,
            self.failures.append,
        )
        self.session = Session()
        self.receipts = Receipts(self.session)  # type: ignore[arg-type]

    def take(self, *packet_ids: int, size: int = 10) -> None:
        for packet_id in packet_ids:
            if packet_id:
                self.receipts.received(packet_id)
            self.lane.add(self.receipts, packet_id, b"key", bytes(size), [])


async def test_nothing_is_acknowledged_before_kafka_has_it() -> None:
    rig = Rig()
    rig.take(1, 2, 3)
    rig.lane.flush()
    await settle()
    assert rig.kafka.counts == [3]
    assert rig.session.acknowledged == []
    await rig.kafka.answer()
    assert rig.session.acknowledged == [[1, 2, 3]]


async def test_one_batch_is_under_way_and_the_next_fills_meanwhile() -> None:
    rig = Rig()
    rig.take(1)
    rig.lane.flush()
    await settle()
    for packet_id in (2, 3, 4):
        rig.take(packet_id)
        rig.lane.flush()
        await settle()
    assert rig.kafka.counts == [1]
    await rig.kafka.answer()
    assert rig.kafka.counts == [1, 3]
    await rig.kafka.answer()
    assert rig.session.acknowledged == [[1], [2, 3, 4]]


async def test_a_full_batch_goes_without_waiting_for_the_linger_and_order_stays() -> None:
    rig = Rig(batch_size=2000)
    rig.take(*range(1, 11), size=600)
    await settle()
    assert len(rig.kafka.counts) == 1
    rig.lane.flush()
    while rig.kafka.batches[-1][1].done() is False:
        await rig.kafka.answer()
    assert sum(rig.kafka.counts) == 10
    assert max(rig.kafka.counts) <= 3
    assert rig.session.flat == list(range(1, 11))


async def test_a_failed_batch_is_reported_and_neither_it_nor_a_later_one_is_acknowledged() -> None:
    rig = Rig()
    rig.take(1, 2)
    rig.lane.flush()
    await settle()
    rig.take(3)
    rig.lane.flush()
    await rig.kafka.answer(KafkaTimeoutError())
    assert isinstance(rig.failures[0], MotorcadeError)
    assert "batch of 2 messages for telemetry.raw partition 0" in str(rig.failures[0])
    rig.take(4)
    rig.lane.flush()
    await settle()
    assert rig.session.acknowledged == []
    assert rig.kafka.counts == [2], "what follows a failed batch would overtake it"


async def test_packet_ids_of_a_lost_connection_are_never_acknowledged_on_the_next() -> None:
    rig = Rig()
    rig.take(1, 2)
    rig.lane.flush()
    await settle()
    rig.session.generation = 2
    await rig.kafka.answer()
    assert rig.session.acknowledged == []
    assert rig.held.messages == 0


async def test_a_message_of_qos_0_is_carried_and_not_acknowledged() -> None:
    rig = Rig()
    rig.take(0, 5, 0)
    rig.lane.flush()
    await settle()
    await rig.kafka.answer()
    assert rig.kafka.counts == [3]
    assert rig.session.acknowledged == [[5]]


async def test_reading_pauses_beyond_the_limit_and_resumes_at_half_of_it() -> None:
    rig = Rig(batch_size=1000, limit=10)
    rig.take(*range(1, 12), size=300)
    assert rig.pauses == [True]
    rig.lane.flush()
    await settle()
    while rig.held.messages > 5:
        assert rig.pauses == [True]
        await rig.kafka.answer()
    assert rig.pauses == [True, False]


async def test_a_drain_waits_until_kafka_has_everything() -> None:
    rig = Rig()
    rig.take(1)
    draining = asyncio.create_task(rig.lane.drained())
    await settle()
    assert not draining.done()
    await rig.kafka.answer()
    await asyncio.wait_for(draining, 1)
    assert rig.session.acknowledged == [[1]]


@pytest.mark.parametrize("unknown", [[], [99]])
def test_settling_nothing_writes_nothing(unknown: list[int]) -> None:
    session = Session()
    Receipts(session).settle(unknown)  # type: ignore[arg-type]
    assert session.acknowledged == []


@given(st.permutations(list(range(1, 30))), st.lists(st.integers(1, 7), min_size=1))
def test_acknowledgements_keep_the_order_of_arrival_whatever_order_kafka_finishes_in(
    finished: list[int], sizes: list[int]
) -> None:
    session = Session()
    receipts = Receipts(session)  # type: ignore[arg-type]
    for packet_id in range(1, 30):
        receipts.received(packet_id)
    at = 0
    while at < len(finished):
        size = sizes[at % len(sizes)]
        receipts.settle(finished[at : at + size])
        done = set(finished[: at + size])
        prefix = next((n for n in range(1, 31) if n not in done), 30)
        assert session.flat == list(range(1, prefix))
        at += size
