"""The rules of refine: each bad message is refused by its rule, with a reason that says what."""

import json
import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motorcade.fleet import mqtt_topics
from motorcade.fleet.catalogue import Catalogue, load_catalogue
from motorcade.fleet.clock import RunClock
from motorcade.fleet.telemetry import TelemetryAvro
from motorcade.fleet.vin import generate_vin
from motorcade.streaming.refine.reasons import REMEDY, Refusal, Rule
from motorcade.streaming.refine.rules import Checked, Raw, Rules
from motorcade.streaming.refine.samples import Payloads

CATALOGUE = load_catalogue()
VIN = generate_vin(5, 42)
BOOT = 1_795_000_000_000
NOW = BOOT + 3_600_000
MINUTE = 60_000
SKEW = 10 * MINUTE

GOOD: dict[str, Any] = {
    "vin": VIN,
    "boot": BOOT,
    "seq": 7,
    "time": NOW,
    "due": NOW,
    **{signal.name: sum(signal.range) / 2 for signal in CATALOGUE.signals},
}


def check(
    *payloads: bytes,
    key: str | list[str] = VIN,
    topic: str | None = None,
    catalogue: Catalogue = CATALOGUE,
    clock: RunClock | None = None,
    ingested: int = NOW,
) -> Checked:
    codec = Payloads(catalogue, TelemetryAvro(catalogue, 7), lambda _: None)
    rules = Rules(catalogue, codec, clock or RunClock(), SKEW)
    samples = codec.divide(payloads)
    n = len(samples.payloads)
    topics = dict.fromkeys(range(n), topic) if topic else {}
    keys = [one.encode() for one in ([key] * n if isinstance(key, str) else key)]
    return rules.check(Raw(samples, keys, topics, np.full(n, ingested)))


def encode(**changes: Any) -> bytes:
    return json.dumps({k: v for k, v in (GOOD | changes).items() if v is not ...}).encode()


def refusal_of(payload: bytes, **options: Any) -> Refusal:
    checked = check(payload, **options)
    assert len(checked.columns) == 0
    return checked.refusals[0]


def test_a_good_message_passes_and_all_its_values_stay() -> None:
    checked = check(encode())
    assert checked.refusals == {}
    assert checked.columns.vin.tolist() == [VIN.encode()]
    assert checked.columns.values[0].tolist() == [GOOD[name] for name in CATALOGUE.names]
    assert checked.columns.longs.tolist() == [[BOOT, 7, NOW, NOW]]


@pytest.mark.parametrize(
    ("payload", "rule", "reason"),
    [
        (b"", Rule.EMPTY, "the payload is empty"),
        (b"{", Rule.JSON, "not JSON: cut short after 1 bytes"),
        (b"coolant", Rule.JSON, "not JSON: invalid character at byte 0"),
        (b"\xff\xfe\x00", Rule.JSON, "not JSON: invalid character at byte 0"),
        (b" [1]", Rule.TYPE, "the payload is an array, it must be an object"),
        (b"[1]", Rule.TYPE, "the payload is a whole number, it must be an object"),
        (b"[]", Rule.BATCH, "the array holds no sample"),
        (b"[{}", Rule.JSON, "not JSON: cut short after 3 bytes"),
        (b"[{}]", Rule.MISSING, "the required field vin is missing"),
        (b"[" + b"{}," * 4096 + b"{}]", Rule.BATCH, "the payload holds 4097 samples.*"),
        (b"null", Rule.TYPE, "the payload is null, it must be an object"),
        (encode(speed=math.nan), Rule.JSON, "NaN at byte \\d+ is not JSON: leave the signal out"),
        (encode(speed=-math.inf), Rule.JSON, "-Infinity at byte \\d+ is not JSON: .*"),
        (encode(speed="fast"), Rule.TYPE, "field speed is a text, it must be a number"),
        (encode(speed=None), Rule.TYPE, "field speed is null, it must be a number"),
        (
            encode(oil_temp=True),
            Rule.TYPE,
            "field oil_temp is true or false, it must be a number or null",
        ),
        (encode(seq=1.5), Rule.TYPE, "field seq is a number, it must be a whole number"),
        (encode(vin=17), Rule.TYPE, "field vin is a whole number, it must be a text"),
        (encode(speed=...), Rule.MISSING, "the required field speed is missing"),
        (encode(vin=...), Rule.MISSING, "the required field vin is missing"),
        (encode(turbo=1), Rule.UNKNOWN, "the field turbo is not in the signal catalogue"),
        (encode(vin="SHORT"), Rule.VEHICLE_ID, "vin 'SHORT' is not 17 characters"),
        (encode(seq=0), Rule.IDENTITY, "seq is 0, it must be at least 1"),
        (encode(seq=2**80), Rule.IDENTITY, "boot, seq, time or due is beyond 64 bits"),
        (encode(time=0), Rule.IDENTITY, "time is 0, it must be at least a time after 1970"),
        (encode(due=-5), Rule.IDENTITY, "due is -5, it must be at least a time after 1970"),
        (
            encode(boot=NOW + 3600_000),
            Rule.IDENTITY,
            "boot, 2026-11-18T13:06:40Z, is 60 min after the message arrived",
        ),
        (
            encode(coolant_temp=201.5),
            Rule.RANGE,
            "coolant_temp is 201.5 °C, allowed are -50 to 200 °C",
        ),
        (encode(throttle_pos=-0.1), Rule.RANGE, "throttle_pos is -0.1, allowed are 0 to 1"),
        (
            encode(speed=-1, latitude=91, longitude=999, engine_rpm=-5),
            Rule.RANGE,
            "speed is -1 m/s, .*; engine_rpm is -5 rpm, .*; latitude is 91 °, .*; "
            "1 more signals are out of range",
        ),
        (
            encode(speed=-1).replace(b"-1,", b"1e999,"),
            Rule.RANGE,
            "field speed is too large for any number type",
        ),
        (
            encode(time=NOW + 60 * MINUTE),
            Rule.CLOCK,
            "event time 2026-11-18T13:06:40Z is 60 min ahead of the run's clock; "
            "10 min are allowed",
        ),
        (encode(time=2**63 - 1), Rule.CLOCK, "event time 9223372036854775807 ms is .* ahead .*"),
    ],
)
def test_a_bad_message_is_refused_by_its_rule_for_a_reason_that_says_what(
    payload: bytes, rule: Rule, reason: str
) -> None:
    refusal = refusal_of(payload)
    assert refusal.rule is rule, refusal
    pattern = reason if "\\d" in reason or ".*" in reason else re.escape(reason)
    assert re.fullmatch(pattern, refusal.reason), refusal.reason


def test_an_id_that_is_not_the_topics_is_refused() -> None:
    other = generate_vin(5, 43)
    refusal = refusal_of(encode(), key=other)
    assert refusal == (
        Rule.OTHER_VEHICLE,
        f"the payload says vin {VIN}, but the topic belongs to {other}",
    )
    # Also once the id is known from a message of its own.
    assert list(check(encode(), encode(), key=[VIN, other]).refusals) == [1]


def test_a_vin_needs_its_form_and_check_digit_where_the_catalogue_asks() -> None:
    wrong = VIN[:8] + ("1" if VIN[8] != "1" else "2") + VIN[9:]
    refusal = refusal_of(encode(vin=wrong), key=wrong)
    assert refusal == (
        Rule.VEHICLE_ID,
        f"vin {wrong!r} has the check digit {wrong[8]}, it must be {VIN[8]}",
    )
    lenient = CATALOGUE.model_copy(update={"check_digit": False})
    assert check(encode(vin=wrong), key=wrong, catalogue=lenient).refusals == {}
    turbofan = "CMAPSSFD001000007"
    free = CATALOGUE.model_copy(update={"identity": "id17"})
    assert refusal_of(encode(vin="MOQ" + VIN[3:])).rule is Rule.VEHICLE_ID
    assert check(encode(vin=turbofan), key=turbofan, catalogue=free).refusals == {}
    assert refusal_of(encode(vin="c" * 17), catalogue=free).rule is Rule.VEHICLE_ID


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        (f"fleet/v1/99/{VIN}/telemetry", f"has the shard 99, {VIN} belongs to shard 42"),
        ("fleet/v1/00/nobody/telemetry", "does not hold a vehicle id of 17 characters"),
        (f"fleet/v1/42/{VIN}/gossip", "is not one of telemetry, dtc, status, commands/response"),
        ("elsewhere", "is not of the form fleet/v1/{shard}/{vin}/{kind}"),
    ],
)
def test_a_topic_that_is_not_the_cars_own_is_refused(topic: str, reason: str) -> None:
    refusal = refusal_of(encode(), topic=topic)
    assert refusal.rule is Rule.TOPIC
    assert reason in refusal.reason


def test_values_at_the_limits_are_ordinary_and_just_beyond_are_not() -> None:
    for signal in CATALOGUE.signals:
        for limit, beyond in zip(signal.range, (-math.inf, math.inf), strict=True):
            assert check(encode(**{signal.name: limit})).refusals == {}
            outside = math.nextafter(limit, beyond)
            assert refusal_of(encode(**{signal.name: outside})).rule is Rule.RANGE


def test_an_event_time_at_the_tolerance_passes_and_one_beyond_does_not() -> None:
    assert check(encode(time=NOW + SKEW)).refusals == {}
    assert refusal_of(encode(time=NOW + SKEW + 1)).rule is Rule.CLOCK


def test_time_is_judged_by_the_runs_clock_at_ingest_so_that_a_replay_decides_the_same() -> None:
    clock = RunClock(wall_start_ms=NOW, event_start_ms=1_000_000_000_000, speedup=60)
    simulated = 1_000_000_000_000 + 60 * 5_000
    now: dict[str, Any] = {"clock": clock, "ingested": NOW + 5_000}
    assert check(encode(time=simulated + SKEW), **now).refusals == {}
    assert refusal_of(encode(time=simulated + SKEW + 1), **now).rule is Rule.CLOCK
    assert refusal_of(encode(time=NOW), **now).rule is Rule.CLOCK


def test_optional_signals_may_be_null_or_absent_and_are_counted() -> None:
    optional = [signal.name for signal in CATALOGUE.signals if not signal.required]
    checked = check(encode(**{optional[0]: None, optional[1]: ...}), encode())
    assert checked.refusals == {}
    expected = [int(name in optional[:2]) for name in CATALOGUE.names]
    assert checked.absent.tolist() == expected


def test_out_of_range_values_are_counted_by_signal() -> None:
    checked = check(encode(speed=-1), encode(speed=-2, oil_temp=999), encode())
    assert checked.out_of_range == {"speed": 2, "oil_temp": 1}
    assert checked.rows.tolist() == [2]


def test_bad_messages_do_not_disturb_the_good_ones_beside_them() -> None:
    bad = [b"", b"{}", encode(speed=-1), encode(seq=0), encode(time=NOW * 2), b"\xff"]
    good = [encode(seq=n) for n in range(1, 7)]
    mixed = [payload for pair in zip(bad, good, strict=True) for payload in pair]
    checked = check(*mixed)
    assert checked.rows.tolist() == [1, 3, 5, 7, 9, 11]
    assert checked.columns.seq.tolist() == [1, 2, 3, 4, 5, 6]
    assert sorted(checked.refusals) == [0, 2, 4, 6, 8, 10]


def test_every_rule_has_a_remedy() -> None:
    assert set(REMEDY) == set(Rule)


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
documents = st.dictionaries(
    st.sampled_from([*GOOD, "other"]), values | st.lists(values, max_size=2), max_size=5
)


@given(
    st.lists(
        st.binary(max_size=30)
        | documents.map(lambda changes: json.dumps(GOOD | changes).encode("utf-8", "replace"))
        | st.integers(0, 800).map(lambda cut: encode()[:cut]),
        min_size=1,
        max_size=5,
    ),
    st.none() | st.text(max_size=30) | st.just(mqtt_topics.topic(VIN, "telemetry")),
)
def test_whatever_comes_each_message_either_passes_or_has_a_reason(
    payloads: list[bytes], topic: str | None
) -> None:
    checked = check(*payloads, topic=topic)
    passed = set(checked.rows.tolist())
    assert passed | set(checked.refusals) == set(range(len(payloads)))
    assert not passed & set(checked.refusals)
    assert all(refusal.reason for refusal in checked.refusals.values())
    inside = (checked.columns.values >= CATALOGUE.low) & (checked.columns.values <= CATALOGUE.high)
    assert (inside | np.isnan(checked.columns.values)).all()
