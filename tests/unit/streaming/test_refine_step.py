"""The step of refine: each raw record comes to one output, or to none when it is a repeat."""

import json
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.clock import RunClock
from motorcade.fleet.telemetry import TelemetryAvro
from motorcade.fleet.topics import DLQ, LATE_HEADER, MQTT_TOPIC_HEADER, RAW, TELEMETRY
from motorcade.fleet.vin import generate_vin
from motorcade.streaming import dlq
from motorcade.streaming.refine.rules import Rules
from motorcade.streaming.refine.samples import Payloads
from motorcade.streaming.refine.step import RefineStep

CATALOGUE = load_catalogue()
CODEC = TelemetryAvro(CATALOGUE, 7)
VINS = [generate_vin(9, n) for n in range(3)]
BOOT = 1_795_000_000_000


def payload(car: int, seq: int, **changes: Any) -> bytes:
    message = {"vin": VINS[car], "boot": BOOT, "seq": seq, "time": BOOT + seq, "due": BOOT + seq}
    values = {signal.name: sum(signal.range) / 2 for signal in CATALOGUE.signals}
    return json.dumps(message | values | changes).encode()


def record(
    offset: int,
    value: bytes | None,
    *,
    key: str | None = VINS[0],
    partition: int = 0,
    topic: str = "",
) -> Any:
    headers = ((MQTT_TOPIC_HEADER, topic.encode()),) if topic else ()
    return ConsumerRecord(
        RAW, partition, offset, BOOT + 10_000, 1, key and key.encode(), value, None, 17, 0, headers
    )


async def new_step(partitions: int = 1, history: int = 1000) -> RefineStep:
    payloads = Payloads(CATALOGUE, CODEC, lambda _: None)
    rules = Rules(CATALOGUE, payloads, RunClock(), 600_000)
    step = RefineStep(CATALOGUE, payloads, rules, CODEC, history)
    for partition in range(partitions):
        await step.assigned(partition)
    return step


async def test_a_good_record_is_refined_under_its_key_and_source() -> None:
    step = await new_step()
    (output,) = step.process([record(5, payload(0, 1, speed=12.5))])
    assert output[:3] == (TELEMETRY, 0, VINS[0].encode())
    assert (output.source_offset, output.headers) == (5, ())
    columns = CODEC.decode([output.value])
    assert columns.values[0, CATALOGUE.column("speed")] == 12.5


async def test_a_refused_record_keeps_payload_key_topic_and_place() -> None:
    step = await new_step()
    odd = f"fleet/v1/99/{VINS[0]}/telemetry"
    (output,) = step.process([record(6, b"{]", topic=odd)])
    assert output[:4] == (DLQ, 0, VINS[0].encode(), b"{]")
    read = dlq.letter(
        ConsumerRecord(DLQ, 0, 1, 2, 1, output.key, output.value, None, 0, 0, output.headers)
    )
    assert (read.rule, read.mqtt_topic, read.raw) == ("topic", odd, (0, 6))
    assert dict(output.headers)["__connect.errors.topic"] == RAW.encode()


async def test_repeats_come_to_nothing_and_late_ones_are_marked() -> None:
    step = await new_step()
    values = [payload(0, 1), payload(0, 3), payload(0, 3), payload(0, 2), payload(0, 1, speed=3.0)]
    outputs = step.process([record(n, value) for n, value in enumerate(values)])
    assert [(o.topic, o.source_offset, o.headers[:1]) for o in outputs if o.topic == TELEMETRY] == [
        (TELEMETRY, 0, ()),
        (TELEMETRY, 1, ()),
        (TELEMETRY, 3, ((LATE_HEADER, b"1"),)),
    ]
    assert [o.source_offset for o in outputs if o.topic == DLQ] == [4]


async def test_what_is_read_again_after_a_restart_is_known_and_not_counted_again() -> None:
    def refined() -> float:
        return REGISTRY.get_sample_value("motorcade_refine_refined_total") or 0.0

    step = await new_step()
    before = refined()
    step.rebuild([record(0, payload(0, 1)), record(1, b"{]"), record(2, payload(0, 2))])
    assert refined() == before
    repeat, conflict, new = payload(0, 2), payload(0, 1, speed=3.0), payload(0, 3)
    outputs = step.process([record(n, v) for n, v in enumerate((repeat, conflict, new), 3)])
    assert [(o.topic, o.source_offset) for o in outputs] == [(TELEMETRY, 5), (DLQ, 4)]
    assert refined() == before + 1


async def test_a_message_that_was_refused_does_not_occupy_its_identity() -> None:
    step = await new_step()
    step.process([record(1, payload(0, 1, speed=-5))])
    (output,) = step.process([record(2, payload(0, 1))])
    assert output.topic == TELEMETRY


async def test_a_record_without_value_or_key_does_not_stop_the_stream() -> None:
    step = await new_step()
    outputs = step.process([record(1, None, key=None), record(2, payload(0, 1))])
    assert {(output.topic, output.source_offset) for output in outputs} == {
        (DLQ, 1),
        (TELEMETRY, 2),
    }


async def test_a_partition_that_was_given_away_is_forgotten() -> None:
    step = await new_step()
    step.process([record(1, payload(0, 1))])
    step.revoked(0)
    await step.assigned(0)
    (output,) = step.process([record(1, payload(0, 1))])
    assert output.topic == TELEMETRY


@pytest.mark.parametrize("cut", [1, 3, 10, 40])
async def test_the_outputs_do_not_depend_on_how_the_stream_is_cut_into_batches(cut: int) -> None:
    stream = [
        record(n, [payload(0, n), payload(0, n, speed=-1), payload(0, max(n - 3, 1)), b"{"][n % 4])
        for n in range(1, 40)
    ]
    whole, parts = await new_step(), await new_step()
    in_parts = [o for at in range(0, 39, cut) for o in parts.process(stream[at : at + cut])]
    assert sorted(in_parts) == sorted(whole.process(stream))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.integers(1, 6),
            st.sampled_from(["good", "other", "cut", "range", "foreign", "none"]),
        ),
        max_size=40,
    )
)
async def test_every_record_comes_to_one_output_unless_it_repeats_one_that_passed(
    stream: list[tuple[int, int, str]],
) -> None:
    step = await new_step(partitions=3)
    records = []
    for offset, (car, seq, kind) in enumerate(stream):
        value = {
            "good": payload(car, seq),
            "other": payload(car, seq, speed=1.0),
            "cut": payload(car, seq)[:-9],
            "range": payload(car, seq, speed=-1),
            "foreign": payload((car + 1) % 3, seq),
            "none": None,
        }[kind]
        records.append(record(offset, value, key=VINS[car], partition=car))
    outputs = step.process(records)
    by_offset = {output.source_offset: output for output in outputs}
    assert len(by_offset) == len(outputs)
    passed: set[bytes] = set()
    for one in records:
        output = by_offset.get(one.offset)
        if output is None:
            assert one.value in passed
        elif output.topic == TELEMETRY:
            assert one.value not in passed
            passed.add(one.value)
        else:
            assert output.value == (one.value or b"")
    for topic in (TELEMETRY, DLQ):
        offsets = [output.source_offset for output in outputs if output.topic == topic]
        assert offsets == sorted(offsets)
