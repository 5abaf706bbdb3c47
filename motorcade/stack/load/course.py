"""Follows the simulator through a scenario, and does to the stack what is due."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter

from motorcade.fleet.errors import MotorcadeError
from motorcade.simulator.scenarios.events import Event, FleetEvent, Kill, Pause, Stop
from motorcade.simulator.scenarios.model import Scenario
from motorcade.stack.brokers.base import DropCount
from motorcade.stack.load import progress
from motorcade.stack.load.disturbance import Disturber
from motorcade.stack.load.recovery import Happening, has_to_recover, lasts_s, recovered_s
from motorcade.stack.load.watch import Sample, Watch
from motorcade.stack.screen import Screen, Stage

_POLL_S = 0.25
_EVERY_S = 1.0

_stack_event: TypeAdapter[Kill | Stop | Pause] = TypeAdapter(Kill | Stop | Pause)
_event: TypeAdapter[Event] = TypeAdapter(Event)


class StoppedByHandError(MotorcadeError):
    """Somebody stopped the cars before the scenario was over; says when."""


@dataclass(frozen=True)
class Recovered:
    """Something that happened, and how long all took to be as before; None: it never was."""

    happening: Happening
    seconds: float | None


def state_of(sample: Sample | None) -> dict[str, Any]:
    """Where the simulator is with the scenario; empty before it has begun."""
    found = None if sample is None else sample.fleet.get("scenario")
    return dict(found) if found else {}


def require_going_on(state: dict[str, Any]) -> None:
    """That nobody has stopped the scenario, where `state_of` says that it is.

    Raises:
        StoppedByHandError: somebody has.
    """
    if state.get("stopped"):
        last = state["stages"][-1]
        at = datetime.fromtimestamp(last["to_ms"] / 1000, UTC)
        raise StoppedByHandError(f"stopped by hand at {at:%H:%M:%S} UTC, in {last['name']}")


@dataclass
class Course:
    """The course of one run.

    Args:
        scenario: what is played.
        watch: looks at the run.
        disturber: does stack events.
        drops: asks the broker what it dropped.
        screen: where it is shown.
    """

    scenario: Scenario
    watch: Watch
    disturber: Disturber
    drops: DropCount
    screen: Screen
    happened: list[Happening] = field(default_factory=list)

    def require_parts(self) -> None:
        """What the stack lacks is said now and not in mid-run.

        Raises:
            SettingsError: an event is to happen to a part that is not there.
        """
        for event in self.scenario.events:
            if isinstance(event, Kill | Stop | Pause):
                self.disturber.programs(event)

    async def look_on(self) -> None:
        """Look every second until cancelled, and show what is seen."""
        before, shown = await self.drops() or 0, 0
        while True:
            began = time.monotonic()
            dropped = await self.drops()
            await self.watch.sample(None if dropped is None else dropped - before)
            self.screen.figures(progress.figures(self.watch.samples))
            events = self._state.get("events", [])
            for event in events[shown:]:
                self.screen.event(f"{event['kind']}: {event['detail']}", "magenta")
            shown = max(shown, len(events))
            await asyncio.sleep(max(0.0, _EVERY_S - (time.monotonic() - began)))

    async def ramped(self, stage: Stage) -> None:
        """Until the ramp is over.

        Raises:
            StoppedByHandError: somebody stopped it.
        """
        stage.total = self.scenario.ramp_cars
        while not self._after_ramp():
            require_going_on(self._state)
            stage.done = self._connected
            await asyncio.sleep(_POLL_S)
        ramp = self._state["ramp"]
        stage.detail = f"{ramp['connected']:,} cars in {ramp['took_s']:.1f} s"

    async def stage(self, position: int, stage: Stage) -> None:
        """Until the scenario's stage is over.

        Raises:
            StoppedByHandError: somebody stopped it.
        """
        began, stage.total = time.monotonic(), self.scenario.stages[position].seconds
        # The ramp is the first of the simulator's stages.
        while not self._state["done"] and self._state["stage_index"] <= position + 1:
            require_going_on(self._state)
            stage.done = time.monotonic() - began
            rate = progress.rate(self.watch.samples, "sent")
            stage.detail = f"{self._connected:,} cars, {rate:,.0f} messages/s"
            await asyncio.sleep(_POLL_S)

    async def disturb(self) -> None:
        """Do every stack event when it is due, several at a time where they overlap."""
        async with asyncio.TaskGroup() as group:
            for values in self._state["stack"]:
                due_ms = values.pop("due_ms")
                group.create_task(self._at(due_ms, _stack_event.validate_python(values)))

    def recoveries(self, ended_ms: int) -> list[Recovered]:
        """Everything that happened, in order, with how long it took to recover."""
        found = sorted([*self.happened, *self._to_cars()], key=lambda one: one.time_ms)
        rate = self.scenario.most_per_s
        return [
            Recovered(one, recovered_s(self.watch.samples, one, rate, _until(found, one, ended_ms)))
            for one in found
        ]

    @property
    def _last(self) -> Sample | None:
        return self.watch.samples[-1] if self.watch.samples else None

    @property
    def _state(self) -> dict[str, Any]:
        """The last that was known; a look that found no answer changes nothing."""
        return next((s for one in reversed(self.watch.samples) if (s := state_of(one))), {})

    @property
    def _connected(self) -> int:
        return self._last.connected if self._last else 0

    def _after_ramp(self) -> bool:
        state = self._state
        return bool(state) and state["ramp"]["connected"] is not None

    def _to_cars(self) -> Iterator[Happening]:
        """What the simulator says that it has done to the fleet, or somebody in the Locust UI."""
        for one in self._state.get("events", []):
            at_ms = over_ms = int(one["time_ms"])
            recovers = False
            if one["body"] is not None:
                event = _event.validate_python({"at": 0, **one["body"]})
                assert isinstance(event, FleetEvent)
                over_ms += round(lasts_s(event) * 1000)
                recovers = has_to_recover(event)
            yield Happening(one["kind"], one["detail"], at_ms, over_ms, recovers)

    async def _at(self, due_ms: float, event: Kill | Stop | Pause) -> None:
        await asyncio.sleep(max(0.0, due_ms / 1000 - time.time()))
        began = _wall_ms()
        names = self.disturber.programs(event)
        await self.disturber.perform(event)
        self.watch.disturbed(names)
        detail = ", ".join(names)
        self.happened.append(Happening(event.kind, detail, began, _wall_ms(), True, names))


def _until(found: Sequence[Happening], one: Happening, ended_ms: int) -> int:
    """When the next thing began that a run has to recover from, or the run ended."""
    return next((o.time_ms for o in found if o.time_ms > one.over_ms and o.recovers), ended_ms)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
