"""What a load run books as happened, and that a person can stop it, which makes it invalid."""

import asyncio
import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from motorcade.simulator.scenarios.load import load_scenario
from motorcade.simulator.scenarios.model import Scenario
from motorcade.simulator.scenarios.timeline import Timeline
from motorcade.stack.load.course import Course, StoppedByHandError, require_going_on, state_of
from motorcade.stack.load.disturbance import Disturber
from motorcade.stack.load.options import LoadOptions
from motorcade.stack.load.runner import LoadRun
from motorcade.stack.load.watch import Sample, Watch
from motorcade.stack.screen import Screen, Stage
from motorcade.stack.state import StateFolder

CARS = 20
CHANGES = [
    "fleet.cars=20",
    "target.stack=own",
    "stages=[{name: hold, seconds: 60}, {name: more, seconds: 60}]",
]
DROP = {"time_ms": 9_000, "kind": "drop", "detail": "all", "body": {"kind": "drop", "share": 1.0}}
TUNNEL = {
    "time_ms": 12_000,
    "kind": "offline",
    "detail": "all for 20 s",
    "body": {"kind": "offline", "seconds": 20, "share": 1.0, "groups": 1, "stagger_s": 0.0},
}
CHANGE = {"time_ms": 14_000, "kind": "change", "detail": "9 cars", "body": None}


def scenario(*more: str) -> Scenario:
    return load_scenario("steady", [*CHANGES, *more])


def look(timeline: Timeline, now_ms: int, events: list[dict[str, Any]]) -> Sample:
    fleet = {"connected": CARS, "scenario": {**timeline.state(now_ms), "events": events}}
    return Sample(now_ms, fleet, None, {}, {}, 0.0, None)


def course(played: Scenario, samples: list[Sample], disturber: Any = None) -> Course:
    watch = Watch(None, None, None, samples)  # type: ignore[arg-type]
    screen = Screen(Console(file=io.StringIO()))
    return Course(played, watch, disturber, None, screen)  # type: ignore[arg-type]


def test_only_what_truly_happened_to_the_cars_is_booked() -> None:
    played = scenario("events=[{at: 5, kind: drop}, {at: 6, kind: garbage, seconds: 9}]")
    timeline = Timeline(played, 0)
    timeline.step(4_000, CARS)
    found = course(played, [look(timeline, 40_000, [DROP, TUNNEL, CHANGE])]).recoveries(60_000)
    booked = [(one.happening.kind, one.happening.recovers) for one in found]
    assert booked == [("drop", True), ("offline", True), ("change", False)]
    assert [one.happening.over_ms for one in found] == [9_000, 32_000, 14_000]


@pytest.mark.parametrize("ramped", [False, True])
async def test_a_scenario_that_is_stopped_is_not_waited_for(ramped: bool) -> None:
    played = scenario()
    timeline = Timeline(played, 0)
    if ramped:
        timeline.step(4_000, CARS)
    timeline.stop(30_000)
    one = course(played, [look(timeline, 31_000, [])])
    words = f"stopped by hand at 00:00:30 UTC, in {'hold' if ramped else 'ramp'}"

    async def follow() -> None:
        await one.ramped(Stage("ramp"))
        await one.stage(0, Stage("hold"))

    with pytest.raises(StoppedByHandError, match=words):
        await asyncio.wait_for(follow(), 5)


def test_a_scenario_that_has_not_begun_or_is_over_was_not_stopped() -> None:
    require_going_on({})
    timeline = Timeline(scenario(), 0)
    timeline.step(4_000, CARS)
    timeline.step(400_000, CARS)
    timeline.stop(400_001)
    require_going_on(state_of(look(timeline, 400_002, [])))


async def test_what_is_due_to_the_stack_is_not_done_after_a_stop(tmp_path: Path) -> None:
    played = scenario("events=[{at: 0.6, kind: kill, what: bridge}]")
    killed: list[Any] = []

    class Bridge(Disturber):
        async def perform(self, event: Any) -> None:
            killed.append(event)

    class Cars:
        async def ramp(self, cars: int, per_s: float) -> None: ...

    now_ms = time.time_ns() // 1_000_000
    timeline = Timeline(played, now_ms)
    timeline.step(now_ms, CARS)
    samples = [look(timeline, now_ms, [])]
    one = course(played, samples, Bridge(None, (), print))  # type: ignore[arg-type]
    run = LoadRun(played, LoadOptions(), StateFolder(tmp_path), Console(file=io.StringIO()))
    run._screen.plan(*run._titles())

    async def stop() -> None:
        await asyncio.sleep(0.1)
        timeline.stop(now_ms + 100)
        samples.append(look(timeline, now_ms + 100, []))

    stopping = asyncio.create_task(stop())
    with pytest.raises(StoppedByHandError):
        await run._follow(Cars(), one, None)  # type: ignore[arg-type]
    await stopping
    await asyncio.sleep(0.6)
    assert killed == []
