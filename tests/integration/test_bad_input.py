"""Bad input from a car, through real broker, bridge and refine: kept with a reason, or refused."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from motorcade.fleet import topics
from motorcade.fleet.source import source_of
from motorcade.runtime.mqtt import NO_MATCHING_SUBSCRIBERS, PACKET_TOO_LARGE
from motorcade.streaming import dlq

from .pipeline import Messages, Process, Publisher, Watermark, environment, until
from .servers import BrokerServer

FLEET = Messages(seed=201, cars=3)
CAR, OTHER = FLEET.vins[:2]
HOUR = 3_600_000


def raw_json(**changes: Any) -> bytes:
    """A message that Python's encoder lets through, such as one with NaN."""
    return json.dumps(FLEET.one(0, 1) | changes).encode()


#: What a car sends, the rule that refuses it, and words of the reason.
BAD: dict[str, tuple[bytes, str, str]] = {
    "empty payload": (b"", "empty-payload", "the payload is empty"),
    "malformed JSON": (b'{"vin": oops}', "not-json", "invalid character at byte 8"),
    "cut short": (FLEET.payload(0, 1)[:100], "not-json", "cut short after 100 bytes"),
    "not UTF-8": (b"\xff\xfe\xfd", "not-json", "invalid character at byte 0"),
    "NaN": (raw_json(speed=math.nan), "not-json", "NaN at byte"),
    "infinity": (raw_json(speed=math.inf), "not-json", "Infinity at byte"),
    "not an object": (b'"car"', "wrong-type", "the payload is a text"),
    "a batch cut short": (b"[{}, ", "not-json", "cut short after 5 bytes"),
    "not Avro": (b"\0\xff\xff\xff\xffcar", "not-avro", "the schema 4294967295 is not one of"),
    "wrong type": (raw_json(coolant_temp="hot"), "wrong-type", "field coolant_temp is a text"),
    "missing field": (FLEET.payload(0, 1, speed=None), "missing-field", "speed is missing"),
    "unknown field": (raw_json(turbo=1), "unknown-field", "turbo is not in the signal catalogue"),
    "out of range": (
        raw_json(coolant_temp=300),
        "out-of-range",
        "coolant_temp is 300 °C, allowed are -50 to 200 °C",
    ),
    "an hour ahead": (raw_json(time=FLEET.boot + HOUR), "clock", "ahead of the run's clock"),
    "a boot from the future": (raw_json(boot=FLEET.boot + HOUR), "identity", "after the message"),
    "sequence zero": (raw_json(seq=0), "identity", "seq is 0, it must be at least 1"),
    "another car's id": (raw_json(vin=OTHER), "id-not-of-topic", f"the topic belongs to {CAR}"),
    "a malformed id": (raw_json(vin="nobody"), "vehicle-id", "'nobody' is not 17 characters"),
    "a wrong check digit": (
        raw_json(vin=CAR[:8] + "X" + CAR[9:]),
        "vehicle-id",
        f"has the check digit X, it must be {CAR[8]}",
    ),
}


@pytest.fixture
async def pipeline(
    kafka_alone: str, registry_schemas: str, own_mosquitto: BrokerServer, tmp_path: Path
) -> AsyncIterator[tuple[Process, Process]]:
    """Bridge and refine, running."""
    settings = environment(kafka_alone, own_mosquitto.endpoints, registry_schemas)
    both = Process("bridge", settings, tmp_path), Process("refine", settings, tmp_path)
    await asyncio.gather(*(process.started() for process in both))
    yield both
    for process in both:
        process.kill()


@pytest.fixture
async def publisher(own_mosquitto: BrokerServer) -> AsyncIterator[Publisher]:
    found = Publisher(own_mosquitto.endpoints[0])
    await found.session.connect(10)
    yield found
    await found.session.disconnect()


@pytest.fixture
async def mark(kafka_alone: str) -> Watermark:
    found = Watermark(kafka_alone)
    await found.take(topics.RAW, topics.TELEMETRY, topics.DLQ)
    return found


async def test_each_bad_message_is_quarantined_for_its_reason_and_none_stops_the_stream(
    pipeline: tuple[Process, Process], publisher: Publisher, mark: Watermark
) -> None:
    for seq, (payload, _, _) in enumerate(BAD.values(), 1):
        await publisher.publish(FLEET.topic(0), payload)
        await publisher.publish(FLEET.topic(2), FLEET.payload(2, seq))
    await publisher.settled()
    assert publisher.refused == []
    letters = [dlq.letter(record) for record in await mark.until_count(topics.DLQ, len(BAD))]
    letters.sort(key=lambda letter: letter.raw.offset)
    for letter, (name, (payload, rule, reason)) in zip(letters, BAD.items(), strict=True):
        assert (letter.rule, letter.payload) == (rule, payload), name
        assert reason in letter.reason, name
        assert letter.vehicle_id == CAR, "the topic's id, not the payload's"
        assert letter.remedy
    good = await mark.until_count(topics.TELEMETRY, len(BAD))
    assert [record.key for record in good] == [FLEET.vins[2].encode()] * len(BAD)
    raw = await mark.since(topics.RAW)
    assert len(raw) == 2 * len(BAD), "nothing is lost"
    sources = [source_of(record.headers) for record in good]
    assert {(s.partition, s.offset) for s in sources if s} | {one.raw for one in letters} == {
        (record.partition, record.offset) for record in raw
    }


async def test_a_wrong_shard_and_an_id_that_is_none_are_quarantined_with_their_topic(
    pipeline: tuple[Process, Process], publisher: Publisher, mark: Watermark
) -> None:
    shard = FLEET.topic(0).split("/")[2]
    elsewhere = f"fleet/v1/{(int(shard) + 7) % 100:02d}/{CAR}/telemetry"
    nobody = "fleet/v1/00/nobody/telemetry"
    await publisher.publish(elsewhere, FLEET.payload(0, 1))
    await publisher.publish(nobody, FLEET.payload(0, 1))
    await publisher.settled()
    letters = [dlq.letter(record) for record in await mark.until_count(topics.DLQ, 2)]
    reasons = {letter.mqtt_topic: (letter.rule, letter.reason) for letter in letters}
    assert reasons == {
        elsewhere: (
            "topic",
            f"the topic {elsewhere!r} has the shard {elsewhere.split('/')[2]}, "
            f"{CAR} belongs to shard {shard}",
        ),
        nobody: ("topic", f"the topic {nobody!r} does not hold a vehicle id of 17 characters"),
    }


async def test_a_topic_that_nobody_carries_is_told_to_the_car(
    pipeline: tuple[Process, Process], publisher: Publisher
) -> None:
    await publisher.publish(f"fleet/v1/42/{CAR}/gossip", b"{}", "gossip")
    await publisher.publish("elsewhere", b"{}", "elsewhere")
    await publisher.settled()
    assert publisher.refused == [
        ("gossip", NO_MATCHING_SUBSCRIBERS),
        ("elsewhere", NO_MATCHING_SUBSCRIBERS),
    ]


async def test_one_identity_with_two_contents_an_exact_repeat_and_a_late_arrival(
    pipeline: tuple[Process, Process], publisher: Publisher, mark: Watermark
) -> None:
    _, refine = pipeline
    fleet = Messages(seed=202, cars=1)
    sent = [
        fleet.payload(0, 1),
        fleet.payload(0, 3),
        fleet.payload(0, 3),
        fleet.payload(0, 3, speed=1.25),
        fleet.payload(0, 2),
    ]
    for payload in sent:
        await publisher.publish(fleet.topic(0), payload)
    await publisher.settled()
    (record,) = await mark.until_count(topics.DLQ, 1)
    letter = dlq.letter(record)
    assert letter.rule == "identity-conflict"
    assert letter.reason == f"another message of this car already has boot {fleet.boot}, seq 3"
    refined = await mark.until_count(topics.TELEMETRY, 3)
    assert [(topics.LATE_HEADER, b"1") in r.headers for r in refined] == [False, False, True]
    assert len(await mark.since(topics.RAW)) == 5
    assert len(await mark.since(topics.TELEMETRY)) == 3, "the exact repeat came to nothing"
    assert await asyncio.to_thread(refine.metric, "motorcade_refine_repeats_total") >= 1


async def test_a_payload_at_the_packet_limit_is_kept_and_one_over_it_is_refused_with_0x95(
    pipeline: tuple[Process, Process],
    publisher: Publisher,
    mark: Watermark,
    own_mosquitto: BrokerServer,
) -> None:
    limit = publisher.session.maximum_packet_size
    assert limit > 0
    # Fixed header, 3 bytes of length, topic, packet id, no properties.
    at_limit = limit - (1 + 3 + 2 + len(FLEET.topic(0)) + 2 + 1)
    await publisher.publish(FLEET.topic(0), b"x" * at_limit)
    await publisher.settled()
    (record,) = await mark.until_count(topics.DLQ, 1)
    assert len(dlq.letter(record).payload) == at_limit
    # Our own session would not send it; a car with another client does, and is told.
    codes: list[int] = []
    car = paho.Client(CallbackAPIVersion.VERSION2, "oversized", protocol=paho.MQTTv5)
    car.on_disconnect = lambda *details: codes.append(details[3].value)
    car.connect(own_mosquitto.host, own_mosquitto.port)
    car.loop_start()
    try:
        # mosquitto 2.0 counts the packet without the 3 bytes of its length.
        car.publish(FLEET.topic(0), b"x" * (at_limit + 1 + 3), qos=1)
        await until(lambda: bool(codes), what="the broker's DISCONNECT")
        assert codes[0] == PACKET_TOO_LARGE
    finally:
        car.loop_stop()
    await publisher.publish(FLEET.topic(0), b"next")
    await publisher.settled()
    assert len(await mark.until_count(topics.RAW, 2)) == 2, "the stream goes on without it"
