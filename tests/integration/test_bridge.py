"""The bridge between a real mosquitto and a real Kafka: routes, order, nothing lost by a kill."""

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from motorcade.fleet import topics
from motorcade.fleet.topics import partition_of

from .pipeline import (
    Messages,
    Process,
    Publisher,
    Watermark,
    duplicates,
    environment,
    first_arrivals_by_car,
    until,
)
from .servers import BrokerServer, KafkaServer, pause, resume


@pytest.fixture
async def bridge(
    kafka_topics: str, own_mosquitto: BrokerServer, tmp_path: Path
) -> AsyncIterator[Process]:
    """A bridge that is ready to start, between its own mosquitto and the session's Kafka."""
    process = Process("bridge", environment(kafka_topics, own_mosquitto.endpoints), tmp_path)
    yield process
    if process.running:
        process.kill()


@pytest.fixture
async def publisher(own_mosquitto: BrokerServer) -> AsyncIterator[Publisher]:
    found = Publisher(own_mosquitto.endpoints[0])
    await found.session.connect(10)
    yield found
    await found.session.disconnect()


@pytest.fixture
async def mark(kafka_topics: str) -> Watermark:
    found = Watermark(kafka_topics)
    await found.take(topics.RAW, topics.DTC, topics.STATUS, topics.COMMANDS_STATUS)
    return found


async def test_each_kind_reaches_its_topic_under_the_cars_key_with_its_payload_untouched(
    bridge: Process, publisher: Publisher, mark: Watermark
) -> None:
    fleet = Messages(seed=11, cars=3)
    await bridge.started()
    sent = {
        topics.RAW: ("telemetry", b'{"not": "touched" }'),
        topics.DTC: ("dtc", b"\x00\xff"),
        topics.STATUS: ("status", b"{}"),
        topics.COMMANDS_STATUS: ("commands/response", b"[1]"),
    }
    for kind, payload in sent.values():
        await publisher.publish(fleet.topic(1, kind), payload)
    await publisher.settled()
    for topic, (_, payload) in sent.items():
        (record,) = await mark.until_count(topic, 1)
        assert (record.key, record.value) == (fleet.vins[1].encode(), payload)
        assert record.partition == partition_of(record.key)
        assert record.headers == ()
        assert record.timestamp_type == 1, "the record's timestamp is its ingest time"
    assert bridge.metric("motorcade_bridge_messages_total") == 4
    assert bridge.metric("motorcade_bridge_pubacks_total") == 4
    assert bridge.metric("motorcade_bridge_held_messages") == 0


async def test_a_topic_that_is_not_the_cars_own_is_kept_in_a_header_and_an_empty_payload_is_kept(
    bridge: Process, publisher: Publisher, mark: Watermark
) -> None:
    fleet = Messages(seed=12, cars=1)
    shard = fleet.topic(0).split("/")[2]
    wrong = fleet.topic(0).replace(f"/{shard}/", f"/{(int(shard) + 1) % 100:02d}/")
    malformed = f"fleet/v1/{shard}/nobody/telemetry"
    await bridge.started()
    for topic, payload in ((wrong, b"1"), (malformed, b"2"), (fleet.topic(0), b"")):
        await publisher.publish(topic, payload)
    await publisher.settled()
    records = await mark.until_count(topics.RAW, 3)
    found = {record.value: (record.key, record.headers) for record in records}
    assert found == {
        b"1": (fleet.vins[0].encode(), ((topics.MQTT_TOPIC_HEADER, wrong.encode()),)),
        b"2": (b"nobody", ((topics.MQTT_TOPIC_HEADER, malformed.encode()),)),
        b"": (fleet.vins[0].encode(), ()),
    }


async def test_a_payload_at_the_packet_limit_passes_and_none_is_too_large_for_kafka(
    bridge: Process, publisher: Publisher, mark: Watermark
) -> None:
    fleet = Messages(seed=13, cars=1)
    await bridge.started()
    limit = publisher.session.maximum_packet_size
    overhead = len(fleet.topic(0)) + 2 + 2 + 1 + 4
    payloads = [bytes(limit - overhead), random.Random(1).randbytes(limit - overhead)]
    for payload in payloads:
        await publisher.publish(fleet.topic(0), payload)
    await publisher.settled()
    records = await mark.until_count(topics.RAW, 2)
    assert [record.value for record in records] == payloads


async def publish_rounds(
    publisher: Publisher, fleet: Messages, first: int, rounds: int, pace_s: float
) -> None:
    for seq in range(first, first + rounds):
        for car in range(len(fleet.vins)):
            await publisher.publish(fleet.topic(car), fleet.payload(car, seq), (car, seq))
        await asyncio.sleep(pace_s)


async def audit(publisher: Publisher, fleet: Messages, mark: Watermark, sent: int) -> int:
    """Everything sent was acknowledged and is in raw, in order; returns physical duplicates."""
    await publisher.settled()
    assert len(publisher.acknowledged) == sent
    assert publisher.refused == []
    mine = {vin.encode() for vin in fleet.vins}
    for _ in range(600):
        records = [r for r in await mark.since(topics.RAW) if r.key in mine]
        found = first_arrivals_by_car(records)
        if sum(map(len, found.values())) >= sent:
            break
        await asyncio.sleep(0.1)
    expected = {vin: list(range(1, sent // len(fleet.vins) + 1)) for vin in fleet.vins}
    assert found == expected, "every car's messages are all there, in order"
    return duplicates(records)


@pytest.mark.parametrize(
    ("failpoint", "repeats"),
    [("bridge.before-produce:5", False), ("bridge.after-produce:5", True)],
)
async def test_a_kill_around_the_produce_loses_nothing_and_keeps_the_order(
    bridge: Process, publisher: Publisher, mark: Watermark, failpoint: str, repeats: bool
) -> None:
    fleet = Messages(seed=20 + repeats, cars=30)
    await bridge.started(failpoint)
    publishing = asyncio.create_task(publish_rounds(publisher, fleet, 1, 40, 0.01))
    await until(lambda: not bridge.running, what="the failpoint's kill")
    assert bridge.popen is not None
    assert bridge.popen.returncode == -9
    await bridge.started()
    await publishing
    found = await audit(publisher, fleet, mark, 30 * 40)
    if repeats:
        assert found > 0, "what Kafka had taken but the broker was not told is delivered again"


@pytest.mark.chaos
async def test_kills_at_seeded_moments_under_load_lose_nothing_and_keep_the_order(
    bridge: Process, publisher: Publisher, mark: Watermark, moments: int
) -> None:
    rng = random.Random(7)
    fleet = Messages(seed=30, cars=50)
    await bridge.started()
    rounds = 0
    for _ in range(moments):
        if rng.random() < 0.8:  # otherwise the kill comes while it starts
            await bridge.until_ready()
        publishing = asyncio.create_task(publish_rounds(publisher, fleet, rounds + 1, 40, 0.02))
        rounds += 40
        await asyncio.sleep(rng.uniform(0.05, 1.0))
        bridge.kill()
        bridge.start()
        await publishing
    await bridge.until_ready()
    await audit(publisher, fleet, mark, 50 * rounds)


async def test_a_stop_in_order_acknowledges_what_it_holds_so_nothing_comes_twice(
    bridge: Process, publisher: Publisher, mark: Watermark
) -> None:
    fleet = Messages(seed=40, cars=50)
    await bridge.started()
    publishing = asyncio.create_task(publish_rounds(publisher, fleet, 1, 60, 0.01))
    await asyncio.sleep(0.4)
    assert await asyncio.to_thread(bridge.stop) == 0
    await bridge.started()
    await publishing
    assert await audit(publisher, fleet, mark, 50 * 60) == 0


async def test_slots_divided_over_two_workers_carry_every_car_once(
    bridge: Process, publisher: Publisher, mark: Watermark, tmp_path: Path
) -> None:
    slots = {"MOTORCADE_BRIDGE_SLOTS": "5", "MOTORCADE_BRIDGE_WORKERS": "2"}
    workers = [
        Process(
            "bridge",
            {**bridge.environment, **slots, "MOTORCADE_BRIDGE_WORKER": str(n)},
            tmp_path / str(n),
        )
        for n in range(2)
    ]
    try:
        await asyncio.gather(*(worker.started() for worker in workers))
        fleet = Messages(seed=50, cars=100)
        await publish_rounds(publisher, fleet, 1, 3, 0)
        assert await audit(publisher, fleet, mark, 300) == 0
        carried = [worker.metric("motorcade_bridge_messages_total") for worker in workers]
        assert carried[0] + carried[1] == 300
        assert min(carried) > 90
    finally:
        for worker in workers:
            worker.kill()


async def test_a_restarted_broker_is_found_again(
    bridge: Process, publisher: Publisher, mark: Watermark, own_mosquitto: BrokerServer
) -> None:
    fleet = Messages(seed=60, cars=10)
    await bridge.started()
    await publish_rounds(publisher, fleet, 1, 5, 0)
    await audit(publisher, fleet, mark, 50)
    own_mosquitto.nodes[0].kill()
    await until(lambda: not bridge.ready(), what="readiness is withdrawn")
    await asyncio.to_thread(own_mosquitto.restart)
    await bridge.until_ready()
    await until(lambda: publisher.session.connected)
    await publish_rounds(publisher, fleet, 6, 5, 0)
    await audit(publisher, fleet, mark, 100)


async def test_while_kafka_hangs_memory_is_bounded_and_afterwards_everything_arrives(
    own_kafka: KafkaServer, own_mosquitto: BrokerServer, publisher: Publisher, tmp_path: Path
) -> None:
    from motorcade.stack import topics as kafka_topics

    await kafka_topics.create(own_kafka.bootstrap)
    mark = Watermark(own_kafka.bootstrap)
    await mark.take(topics.RAW)
    settings = {
        **environment(own_kafka.bootstrap, own_mosquitto.endpoints),
        "MOTORCADE_BRIDGE_RECEIVE_MAXIMUM": "50",
    }
    bridge = Process("bridge", settings, tmp_path)
    await bridge.started()
    try:
        fleet = Messages(seed=70, cars=100)
        await publish_rounds(publisher, fleet, 1, 1, 0)
        await audit(publisher, fleet, mark, 100)
        pause(own_kafka.running)
        await publish_rounds(publisher, fleet, 2, 60, 0)
        await publisher.settled()
        await until(lambda: not bridge.ready(), what="not ready while Kafka hangs")
        assert bridge.metric("motorcade_bridge_pubacks_total") == 100
        resume(own_kafka.running)
        await audit(publisher, fleet, mark, 100 * 61)
        await bridge.until_ready()
        # mosquitto answers each PUBACK with a whole window; reading pauses at two windows a slot.
        assert bridge.metric("motorcade_bridge_pauses_total") > 0
    finally:
        resume(own_kafka.running)
        bridge.kill()


async def test_without_kafka_or_broker_it_ends_with_one_clear_line(
    kafka_topics: str, own_mosquitto: BrokerServer, tmp_path: Path
) -> None:
    process = Process("bridge", environment("127.0.0.1:1", own_mosquitto.endpoints), tmp_path)
    process.start()
    await until(lambda: not process.running, timeout_s=60)
    assert process.popen is not None
    assert process.popen.returncode == os.EX_UNAVAILABLE
    problem = json.loads(process.log.splitlines()[-1])
    assert "Kafka does not answer at 127.0.0.1:1" in problem["problem"]
