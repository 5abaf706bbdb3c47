"""The course of a scenario, by a clock that the test sets."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motorcade.simulator.scenarios.load import load_scenario, names, parse_scenario
from motorcade.simulator.scenarios.model import Scenario
from motorcade.simulator.scenarios.timeline import Action, Happen, Interval, Resize, Timeline

SCENARIO = """
name: course
description: a ramp, two stages, events
fleet: {cars: 100}
ramp: {per_s: 10, cars: 60}
publish: {interval_s: 5}
stages:
  - {name: quiet, seconds: 20}
  - {name: busy, seconds: 30, cars: 100, interval_s: 2}
events:
  - {at: busy+5s, kind: drop, share: 0.5}
  - {at: busy, kind: kill, what: bridge, seconds: 4}
  - {at: 10, kind: pace, interval_s: 1}
"""


def course(*overrides: str) -> Scenario:
    return parse_scenario(SCENARIO, "course.yaml", overrides)


COURSE = course()


def played(timeline: Timeline, until_ms: int, connected: int = 1000) -> list[tuple[int, Action]]:
    """Every action with its time, when it is asked ten times a second from 0 on."""
    return [
        (now, action)
        for now in range(0, until_ms + 1, 100)
        for action in timeline.step(now, connected)
    ]


def test_everything_happens_once_and_at_its_time() -> None:
    timeline = Timeline(course(), 0)
    assert played(timeline, 60_000) == [
        (0, Interval(5)),
        (0, Resize(60, 10)),
        (10_000, Happen({"kind": "pace", "interval_s": 1.0})),
        (20_000, Interval(2)),
        (20_000, Resize(100, 10)),
        (25_000, Happen({"kind": "drop", "share": 0.5})),
    ]
    state = timeline.state(60_000)
    assert state["done"]
    assert state["stages"] == [
        {"name": "ramp", "from_ms": 0, "to_ms": 0},
        {"name": "quiet", "from_ms": 0, "to_ms": 20_000},
        {"name": "busy", "from_ms": 20_000, "to_ms": 50_000},
    ]
    assert (state["elapsed_s"], state["total_s"]) == (50, 50)


def test_stages_count_from_the_end_of_the_ramp() -> None:
    timeline = Timeline(course(), 1000)
    assert timeline.step(1000, 0) == [Interval(5), Resize(60, 10)]
    assert timeline.step(4000, 59) == []
    state = timeline.state(4000)
    assert (state["stage"], state["stage_index"], state["total_s"]) == ("ramp", 0, 56)
    assert state["ramp"] == {"cars": 60, "connected": None, "took_s": None}
    assert state["stack"][0]["due_ms"] is None

    assert timeline.step(9000, 60) == []
    state = timeline.state(10_000)
    assert (state["stage"], state["stage_index"], state["total_s"]) == ("quiet", 1, 58)
    assert state["ramp"] == {"cars": 60, "connected": 60, "took_s": 8}
    [stack] = state["stack"]
    assert (stack["kind"], stack["what"], stack["due_ms"]) == ("kill", "bridge", 29_000)
    assert timeline.step(28_900, 60)[0] == Happen({"kind": "pace", "interval_s": 1.0})
    assert timeline.step(29_000, 60) == [Interval(2), Resize(100, 10)]


def test_a_ramp_that_does_not_end_is_given_up_and_said() -> None:
    timeline = Timeline(course("ramp.patience_s=30"), 0)
    played(timeline, 29_900, connected=12)
    assert timeline.state(29_900)["stage"] == "ramp"
    timeline.step(30_000, 12)
    state = timeline.state(30_000)
    assert state["stage"] == "quiet"
    assert state["ramp"] == {"cars": 60, "connected": 12, "took_s": 30}


def test_what_was_missed_while_the_master_was_busy_is_done_in_order() -> None:
    timeline = Timeline(course(), 0)
    timeline.step(0, 60)
    assert timeline.step(45_000, 60) == [
        Happen({"kind": "pace", "interval_s": 1.0}),
        Interval(2),
        Resize(100, 10),
        Happen({"kind": "drop", "share": 0.5}),
    ]
    assert timeline.state(45_000)["stages"][-1] == {
        "name": "busy",
        "from_ms": 20_000,
        "to_ms": None,
    }


def test_wear_begins_when_the_ramp_is_over() -> None:
    timeline = Timeline(course("wear.cars=2", "wear.kinds=[misfire]", "events=[]"), 0)
    timeline.step(0, 0)
    [wear] = timeline.step(5000, 60)
    assert wear == Happen(
        {
            "kind": "faults",
            "count": 2,
            "kinds": ["misfire"],
            "duration_s": 5400.0,
            "spread_s": 540.0,
        }
    )


def test_a_scenario_that_was_stopped_goes_no_further() -> None:
    timeline = Timeline(course(), 0)
    played(timeline, 21_000)
    timeline.stop(21_500)
    assert played(timeline, 90_000) == []
    state = timeline.state(90_000)
    assert (state["done"], state["stopped"], state["elapsed_s"]) == (False, True, 21.5)
    assert state["stages"][-1]["to_ms"] == 21_500


def test_a_search_for_a_limit_has_no_end_of_its_own() -> None:
    timeline = Timeline(load_scenario("find-the-limit"), 0)
    played(timeline, 3_600_000)
    state = timeline.state(3_600_000)
    assert (state["done"], state["total_s"], state["stage"]) == (False, None, "ramp")


@pytest.mark.parametrize("name", names())
def test_scenarios_that_come_along_play_to_their_end(name: str) -> None:
    scenario = load_scenario(name)
    timeline = Timeline(scenario, 0)
    timeline.step(0, 0)
    now, cars, paces = 0, 0, []
    while not timeline.done and now < scenario.total_s * 1000 + 1000:
        for action in timeline.step(now, scenario.ramp_cars):
            match action:
                case Resize(cars, _):
                    assert 0 <= cars <= scenario.fleet.cars
                case Interval(seconds):
                    paces.append(seconds)
        now += 1000
    assert timeline.done is (scenario.limit is None)
    assert all(seconds > 0 for seconds in paces)


@given(st.lists(st.integers(0, 70_000), min_size=1, max_size=30))
def test_however_often_it_is_asked_nothing_is_done_twice_or_forgotten(times: list[int]) -> None:
    timeline = Timeline(COURSE, 0)
    done: list[Any] = []
    for now in [*sorted(times), 130_000]:
        done += timeline.step(now, 60)
    assert len(done) == 6
    assert timeline.done
    spans = timeline.state(130_000)["stages"]
    assert all(one["to_ms"] == other["from_ms"] for one, other in pairwise(spans))
