"""The search for a limit against targets that behave as told."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from motorcade.stack.load.limit import Ending, Observed, Phase, Search, Step
from motorcade.stack.load.saturation import MACHINE, Load, saturated

LEVELS = {"due_to_kafka_p99_ms": 1000.0, "lag_growth": 0.05, "lost": 0.0}
GENERATOR = {"generator_lag_p99_ms": 1000.0}


def search(**changes: float) -> Search:
    values: dict[str, Any] = {"start": 100.0, "factor": 1.5, "highest": 10_000.0} | changes
    return Search(levels=LEVELS, generator=GENERATOR, **values)


def play(one: Search, target: Callable[[float], Observed]) -> list[Step]:
    """Hold loads until the search is done."""
    while (load := one.load) is not None:
        one.take(target(load), load)
        assert len(one.steps) < 100
    return one.steps


def holds(capacity: float) -> Callable[[float], Observed]:
    """A target whose latency explodes above its capacity."""
    return lambda load: {
        "due_to_kafka_p99_ms": 80.0 if load <= capacity else 80 + 1000 * load / capacity,
        "generator_lag_p99_ms": 10.0,
    }


@pytest.mark.parametrize("capacity", [150, 999, 1000, 9_000])
def test_the_confirmed_load_is_within_one_step_of_the_capacity(capacity: float) -> None:
    one = search()
    play(one, holds(capacity))
    assert one.ending is Ending.FOUND
    assert one.confirmed is not None
    assert capacity / 1.5 < one.confirmed <= capacity
    assert one.steps[-1].phase is Phase.CONFIRM
    assert one.broke is not None
    assert one.broke.load > capacity
    assert one.broke.broken[0].level == "due_to_kafka_p99_ms"


def test_a_load_held_while_climbing_but_not_again_is_not_the_limit() -> None:
    calls: list[float] = []

    def tires(load: float) -> Observed:
        """Once overloaded it holds less than before: a queue has grown, a cache is cold."""
        capacity = 1000 if max([*calls, load]) <= 1000 else 500
        calls.append(load)
        return holds(capacity)(load)

    one = search()
    steps = play(one, tires)
    assert [s.phase for s in steps if s.phase is Phase.CONFIRM] == [Phase.CONFIRM] * 3
    assert one.confirmed is not None
    assert one.confirmed <= 500
    assert any(s.held and s.load > one.confirmed for s in steps)


def test_a_target_that_never_breaks_holds_at_least_the_highest_load() -> None:
    one = search(highest=700)
    steps = play(one, holds(math.inf))
    assert one.ending is Ending.NOT_REACHED
    assert one.confirmed == 700 == steps[-1].load
    assert one.broke is None


def test_a_target_that_holds_nothing_is_said_to_hold_nothing() -> None:
    one = search()
    play(one, holds(1))
    assert one.ending is Ending.NOTHING_HELD
    assert one.confirmed is None


def test_a_late_generator_ends_the_search_without_judging_the_target() -> None:
    one = search()

    def slow_generator(load: float) -> Observed:
        late = 5000.0 if load > 400 else 10.0
        return {"generator_lag_p99_ms": late, "due_to_kafka_p99_ms": late}

    play(one, slow_generator)
    assert one.ending is Ending.GENERATOR
    assert one.broke is not None
    assert [b.level for b in one.broke.broken] == ["generator_lag_p99_ms"]
    assert one.confirmed is not None
    assert one.confirmed <= 400


def test_a_load_that_was_never_offered_judges_the_generator() -> None:
    one = search()
    step = one.take({"due_to_kafka_p99_ms": 10.0}, offered=50)
    assert [b.level for b in step.broken] == ["offered"]
    assert one.ending is Ending.GENERATOR
    other = search()
    step = other.take({"due_to_kafka_p99_ms": 9000.0}, offered=50)  # the target holds cars back
    assert [b.level for b in step.broken] == ["due_to_kafka_p99_ms"]
    assert other.ending is None


def test_loss_breaks_a_level_whose_highest_value_is_zero() -> None:
    one = search()
    step = one.take({"lost": 1.0, "due_to_kafka_p99_ms": 1001.0}, 100)
    assert [b.level for b in step.broken] == ["lost", "due_to_kafka_p99_ms"]


def test_what_was_not_measured_is_not_judged_and_not_a_number_breaks() -> None:
    one = search()
    assert one.take({}, 100).held
    assert not one.take({"due_to_kafka_p99_ms": math.nan}, 150).held


IDLE = Load(
    rate=1000,
    acked=1000,
    cores={"mosquitto-1": 0.1, "bridge": 0.2, "refine": 0.1, "kafka": 0.2, "locust-worker-0": 0.3},
    machine=0.5,
    puback_p99_ms=20,
    kafka_p50_ms=50,
    lag_growth={"refine": 0, "score": 1},
    drops=0,
    failed_connects=0,
)
GROUPS = ("refine", "score")


def named(load: Load) -> tuple[str, str]:
    found = saturated(load, ["mosquitto-1"], GROUPS)
    return found.component, " · ".join(found.evidence)


def test_the_first_hop_that_falls_behind_names_the_component() -> None:
    late = {"refine": 900.0, "score": 400.0}
    busy = {**IDLE.cores, "refine": 0.99, "score": 0.97}
    component, evidence = named(replace(IDLE, lag_growth=late, cores=busy))
    assert component == "refine"
    assert "refine falls behind by 900 records/s" in evidence
    assert "refine uses 0.99 of a core" in evidence


def test_of_those_on_the_way_to_kafka_the_one_without_cpu_left_is_named() -> None:
    late = replace(IDLE, kafka_p50_ms=4000)
    assert named(replace(late, cores={**IDLE.cores, "bridge": 0.98}))[0] == "bridge"
    assert named(replace(late, cores={**IDLE.cores, "kafka": 1.3}))[0] == "kafka"


def test_a_full_machine_is_named_with_its_greatest_users() -> None:
    component, evidence = named(replace(IDLE, kafka_p50_ms=4000, machine=0.99))
    assert component == MACHINE
    assert "messages reach Kafka 4,000 ms late" in evidence
    assert "locust-worker-0 0.30" in evidence


def test_late_pubacks_and_refused_connects_are_the_brokers() -> None:
    busy = {**IDLE.cores, "mosquitto-1": 0.95}
    assert named(replace(IDLE, puback_p99_ms=3000, cores=busy))[0] == "mosquitto-1"
    assert named(replace(IDLE, failed_connects=12, cores=busy))[0] == "mosquitto-1"
    assert named(replace(IDLE, acked=500, cores=busy))[0] == "mosquitto-1"
    assert saturated(replace(IDLE, acked=500), [], GROUPS).component == "broker"


def test_a_hop_that_is_behind_with_cpu_to_spare_waits_for_something_else() -> None:
    component, evidence = named(replace(IDLE, lag_growth={"score": 500.0}))
    assert component == "score"
    assert "waits for something else than CPU" in evidence


def test_without_acknowledgements_their_lack_is_no_evidence() -> None:
    component, _ = named(replace(IDLE, acked=math.nan, machine=0.99))
    assert component == MACHINE
