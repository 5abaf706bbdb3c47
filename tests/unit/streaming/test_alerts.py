"""Alerts: when they are raised, what they say, and that no crash repeats or forgets one."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motorcade.fleet.alert_rules import (
    KINDS,
    Evidence,
    Rule,
    advance,
    alert_id,
    calm,
    kind_named,
    kind_of,
)
from motorcade.fleet.messages import Alert, AlertAction, AlertState, decode
from motorcade.fleet.topics import ALERTS, ALERTS_STATE, PREDICTIONS
from motorcade.streaming.alerts import AlertStep
from motorcade.streaming.malformed import Malformed

from .memory_kafka import Log, run_to_the_end
from .predictions import CODEC, FakeRecord, encode

CAR = b"MC9AAT5E7T0000001"
OTHER = b"MC9AAT5E9T0000002"
RULE = Rule()
BELOW, ABOVE, STRONG, UNSCORED = 0.5, 2.0, 9.0, float("nan")


class Silent:
    def warning(self, event: str, **fields: object) -> None:
        return None


def step_on(log: Log, rule: Rule = RULE) -> AlertStep:
    """A step whose states live in an in-memory log."""

    async def states(partition: int) -> AsyncIterator[list[Any]]:
        yield list(log.get((ALERTS_STATE, partition), []))

    return AlertStep(CODEC, rule, states, Malformed(Silent(), "alerts"))


def predictions(scores: list[float], vin: bytes = CAR, **more: Any) -> list[FakeRecord]:
    values = encode([vin] * len(scores), scores, **more)
    return [FakeRecord(PREDICTIONS, 0, i, vin, value) for i, value in enumerate(values)]


def alerts_of(records: list[FakeRecord], rule: Rule = RULE) -> list[Alert]:
    step = step_on({}, rule)
    asyncio.run(step.assigned(0))
    outputs = step.process(records)
    return [decode(Alert, output.value) for output in outputs if output.topic == ALERTS]


def test_a_fault_that_stays_is_announced_once_and_cleared_once() -> None:
    alerts = alerts_of(predictions([BELOW, *[ABOVE] * 6, *[BELOW] * 9]))
    assert [alert.action for alert in alerts] == [AlertAction.RAISED, AlertAction.CLEARED]
    raised, cleared = alerts
    assert raised.evidence_offset == 1, "the first anomalous message is the evidence"
    assert raised.seq == 5, "the fourth anomalous message decides"
    assert cleared.seq == 13, "cleared when the counter of six has drained"
    assert raised.id == cleared.id == alert_id(CAR.decode(), "cooling", 0, 1)
    assert raised.kind == cleared.kind == "cooling"
    assert raised.signals == ["coolant_temp", "speed", "battery_voltage"]
    assert (raised.model, raised.version, raised.due) == ("autoencoder", 3, 4007)


def test_noise_that_comes_and_goes_raises_nothing() -> None:
    assert alerts_of(predictions([ABOVE, BELOW] * 50)) == []


def test_a_strong_anomaly_counts_double() -> None:
    assert [alert.seq for alert in alerts_of(predictions([STRONG] * 4))] == [2]


def test_messages_that_are_not_scored_change_nothing() -> None:
    alerts = alerts_of(predictions([ABOVE, UNSCORED, ABOVE, UNSCORED, ABOVE, UNSCORED, ABOVE]))
    assert [alert.seq for alert in alerts] == [7]


def test_a_second_fault_is_a_second_alert() -> None:
    ids = [alert.id for alert in alerts_of(predictions([*[ABOVE] * 4, *[BELOW] * 4] * 2))]
    assert len(ids) == 4
    assert len(set(ids)) == 2


def test_a_long_fault_clears_as_fast_as_the_ceiling_allows() -> None:
    alerts = alerts_of(predictions([*[ABOVE] * 500, *[BELOW] * 8]))
    assert alerts[-1].action is AlertAction.CLEARED


def test_the_model_version_does_not_change_the_id() -> None:
    assert alert_id("V", "cooling", 1, 2) == alert_id("V", "cooling", 1, 2)
    other = {
        alert_id("V", "tire", 1, 2),
        alert_id("V", "cooling", 1, 3),
        alert_id("W", "tire", 1, 2),
    }
    assert len(other | {alert_id("V", "cooling", 1, 2)}) == 4


@pytest.mark.parametrize(
    ("contributions", "kind"),
    [
        ([("oil_temp", 0.3), ("tire_pressure_1_1", 0.2)], "cooling"),
        ([("engine_vibration_amplitude", 0.3), ("oil_temp", 0.4), ("accelerometer_2_1_value", 0.3)],
         "vibration"),
        ([("tire_pressure_1_2", 0.9)], "tire"),
        ([("current_draw", 0.5), ("battery_voltage", 0.1)], "electrical"),
        ([("control_unit_firmware", 0.5)], "control_unit"),
        ([("intake_air_flow_speed", 0.5)], "air_intake"),
        ([("speed", 0.9)], "anomaly"),
        ([], "anomaly"),
    ],
)  # fmt: skip
def test_the_kind_is_that_of_the_signals_with_the_largest_share(
    contributions: list[tuple[str, float]], kind: str
) -> None:
    assert kind_of(contributions).name == kind


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("P0217", "cooling"),
        ("P0524", "vibration"),
        ("P0300", "ignition"),
        ("C0077", "tire"),
        ("P0562", "electrical"),
        ("P0101", "air_intake"),
        ("P0601", "control_unit"),
        ("HPC", "HPC"),
    ],
)
def test_what_the_model_foresees_names_the_kind_whatever_the_signals_say(
    code: str, kind: str
) -> None:
    found = kind_of([("tire_pressure_1_2", 0.9)], code)
    assert found.name == kind
    assert kind_named(found.name).advice == found.advice


def test_a_foreseen_failure_is_announced_under_its_kind() -> None:
    alerts = alerts_of(predictions([ABOVE] * 4 + [BELOW] * 4, kind="P0562"))
    assert [(alert.kind, alert.severity) for alert in alerts] == [("electrical", "warning")] * 2
    assert alerts[0].id == alerts[1].id == alert_id(CAR.decode(), "electrical", 0, 0)


def test_a_record_that_does_not_decode_stops_nothing() -> None:
    records = predictions([ABOVE] * 5)
    records.insert(2, FakeRecord(PREDICTIONS, 0, 2, CAR, b"not avro"))
    records = [record._replace(offset=offset) for offset, record in enumerate(records)]
    assert len(alerts_of(records)) == 1


def test_a_calm_fleet_leaves_no_state() -> None:
    step = step_on({})
    asyncio.run(step.assigned(0))
    assert step.process(predictions([BELOW] * 100)) == []


@given(st.lists(st.sampled_from([-1, 1, 2])), st.integers(1, 6), st.integers(6, 12))
def test_the_counter_stays_in_bounds_and_an_alert_is_open_from_raise_to_zero(
    steps: list[int], raise_at: int, ceiling: int
) -> None:
    rule = Rule(raise_at, ceiling)
    state = calm("V")
    open_id = ""
    for offset, step in enumerate(steps):
        change = advance(
            rule, state, offset, step, evidence=Evidence(0, offset), kind=lambda: KINDS[0]
        )
        if change is None:
            continue
        assert change.state != state
        state = change.state
        assert 0 <= state.level <= ceiling
        if change.action is AlertAction.RAISED:
            assert open_id == ""
            open_id = state.open_alert
        elif change.action is AlertAction.CLEARED:
            assert change.alert.open_alert == open_id != ""
            open_id = ""
        assert state.open_alert == open_id
        assert (state.evidence_offset >= 0) == (state.level > 0)


def test_states_read_back_are_those_that_were_written() -> None:
    log: Log = {}
    first = step_on(log)
    asyncio.run(first.assigned(0))
    records = predictions([ABOVE, ABOVE, ABOVE])
    written = [o for o in first.process(records) if o.topic == ALERTS_STATE]
    log[ALERTS_STATE, 0] = [
        FakeRecord(ALERTS_STATE, 0, i, o.key, o.value) for i, o in enumerate(written)
    ]
    assert decode(AlertState, written[-1].value).level == 3
    second = step_on(log)
    asyncio.run(second.assigned(0))
    assert second.process(records) == [], "predictions already in the state change nothing"
    more = predictions([ABOVE] * 4)[3:]
    assert [o.topic for o in second.process(more)] == [ALERTS_STATE, ALERTS]


def test_messages_of_calm_cars_are_judged_in_columns_alone() -> None:
    vins = [b"MC9AAT5E7T%07d" % number for number in range(1000)]
    values = encode(vins, np.full(1000, BELOW).tolist())
    records: Any = [
        FakeRecord(PREDICTIONS, 0, i, vin, value)
        for i, (vin, value) in enumerate(zip(vins, values, strict=True))
    ]
    step = step_on({})
    asyncio.run(step.assigned(0))
    taken = 0

    def count(*_: object, **__: object) -> list[Any]:
        nonlocal taken
        taken += 1
        return []

    step._take = count  # type: ignore[method-assign]
    assert step.process(records) == []
    assert taken == 0


CARS = [b"MC9AAT5E7T000000%d" % number for number in range(4)]
STORY = st.lists(
    st.tuples(st.sampled_from(range(4)), st.sampled_from([BELOW, ABOVE, ABOVE, STRONG, UNSCORED])),
    min_size=1,
    max_size=60,
)


@settings(max_examples=150)
@given(
    story=STORY,
    kills=st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=6),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    commits=st.lists(st.booleans(), min_size=1, max_size=5),
)
def test_killed_anywhere_the_topics_end_as_if_never_killed(
    story: list[tuple[int, float]],
    kills: list[tuple[int, bool]],
    sizes: list[int],
    commits: list[bool],
) -> None:
    """No alert twice, none forgotten, each state as it must be, whatever the batches were."""
    predicted: list[FakeRecord] = []
    for partition in (0, 1):
        mine = [(car, score) for car, score in story if car % 2 == partition]
        vins = [CARS[car] for car, _ in mine]
        values = encode(vins, [score for _, score in mine], partition) if mine else []
        predicted += [
            FakeRecord(PREDICTIONS, partition, offset, vin, value)
            for offset, (vin, value) in enumerate(zip(vins, values, strict=True))
        ]
    calm_run = asyncio.run(run_to_the_end(predicted, step_on))
    killed_run = asyncio.run(run_to_the_end(predicted, step_on, kills, sizes, commits))
    for topic in (ALERTS, ALERTS_STATE):
        for partition in (0, 1):
            expected = [(r.key, r.value, r.headers) for r in calm_run[topic, partition]]
            found = [(r.key, r.value, r.headers) for r in killed_run[topic, partition]]
            assert found == expected
    raised = Counter(
        alert.id
        for partition in (0, 1)
        for alert in (decode(Alert, r.value) for r in killed_run[ALERTS, partition])
        if alert.action is AlertAction.RAISED
    )
    assert all(count == 1 for count in raised.values())
