"""The course of a scenario: what is to be done at a moment, and where the run stands.

Pure: the clock (wall milliseconds) and the number of connected cars are arguments.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

from motorcade.simulator.scenarios.events import Event, StackEvent, faults_body
from motorcade.simulator.scenarios.model import Scenario, Stage

#: What the part of a run before its first stage is called.
RAMP = "ramp"


@dataclass(frozen=True)
class Resize:
    """The fleet shall have so many cars, started or stopped at this rate a second."""

    cars: int
    per_s: float


@dataclass(frozen=True)
class Interval:
    """Cars shall publish every so many seconds from now on."""

    seconds: float


@dataclass(frozen=True)
class Happen:
    """An event happens to the fleet: the body of `POST /motorcade/events`."""

    body: dict[str, Any]


Action: TypeAlias = Resize | Interval | Happen


@dataclass
class Span:
    """A part of the run that has begun; `to_ms` is None while it lasts."""

    name: str
    from_ms: int
    to_ms: int | None = None


@dataclass(frozen=True)
class _Entry:
    """Something that is due so many milliseconds after the ramp."""

    offset_ms: int
    what: Stage | Event | Happen


class Timeline:
    """A scenario that is played, from the first connect on.

    The ramp is over when all its cars are connected, or when its patience ends; then stages follow
    each other and events happen at their times. A scenario with a limit has no end of its own.

    Args:
        scenario: what is played.
        now_ms: when it begins.
    """

    def __init__(self, scenario: Scenario, now_ms: int) -> None:
        self.scenario = scenario
        self.spans = [Span(RAMP, now_ms)]
        self.done = False
        #: Whether somebody ended it before its time.
        self.stopped = False
        self._began_ms = now_ms
        self._begun = False
        #: When the ramp was over: stages and events count from here.
        self._zero_ms: int | None = None
        self._connected_after_ramp: int | None = None
        self._ahead = _entries(scenario)

    def step(self, now_ms: int, connected: int) -> list[Action]:
        """What is to be done now, in order; `connected` is the number of cars at this moment."""
        actions: list[Action] = []
        if self.done or self.stopped:
            return actions
        if not self._begun:
            self._begun = True
            actions += [Interval(self.scenario.publish.interval_s), self._to(None)]
        if self._zero_ms is None:
            patient = now_ms - self._began_ms < self.scenario.patience_s * 1000
            if connected < self.scenario.ramp_cars and patient:
                return actions
            self._zero_ms, self._connected_after_ramp = now_ms, connected
            self.spans[-1].to_ms = now_ms
        while self._ahead and self._zero_ms + self._ahead[0].offset_ms <= now_ms:
            actions += self._begin(self._ahead.pop(0))
        if self.scenario.stages and now_ms >= self._zero_ms + _ms(self.scenario.total_s):
            self.spans[-1].to_ms = self._zero_ms + _ms(self.scenario.total_s)
            self.done = True
        return actions

    def stop(self, now_ms: int) -> None:
        """End it before its time."""
        if not self.done and not self.stopped:
            self.stopped = True
            self.spans[-1].to_ms = now_ms

    def state(self, now_ms: int) -> dict[str, Any]:
        """Where the run stands, as plain values.

        `stages` are those that have begun, the ramp first; `plan` is all of them. `stack` is what
        is to happen to parts of the stack, each with its `due_ms`, None before the ramp is over.
        """
        end_ms = self.spans[-1].to_ms or now_ms
        return {
            "name": self.scenario.name,
            "stage": self.spans[-1].name,
            "stage_index": len(self.spans) - 1,
            "stages": [
                {"name": span.name, "from_ms": span.from_ms, "to_ms": span.to_ms}
                for span in self.spans
            ],
            "plan": self._plan(),
            "ramp": {
                "cars": self.scenario.ramp_cars,
                "connected": self._connected_after_ramp,
                "took_s": self._ramp_s if self._zero_ms is not None else None,
            },
            "stack": self._stack(),
            "elapsed_s": (end_ms - self._began_ms) / 1000,
            "total_s": None if self.scenario.limit else self._ramp_s + self.scenario.total_s,
            "done": self.done,
            "stopped": self.stopped,
        }

    @property
    def _ramp_s(self) -> float:
        """Seconds that the ramp took; those it should take, while it lasts."""
        if self._zero_ms is None:
            return self.scenario.ramp_cars / self.scenario.ramp.per_s
        return (self._zero_ms - self._began_ms) / 1000

    def _to(self, cars: int | None) -> Resize:
        return Resize(self.scenario.ramp_cars if cars is None else cars, self.scenario.ramp.per_s)

    def _begin(self, entry: _Entry) -> list[Action]:
        what = entry.what
        assert self._zero_ms is not None, "nothing begins before the ramp is over"
        if isinstance(what, Happen):
            return [what]
        if not isinstance(what, Stage):
            return [] if isinstance(what, StackEvent) else [Happen(what.body())]
        at_ms = self._zero_ms + entry.offset_ms
        self.spans[-1].to_ms = at_ms
        self.spans.append(Span(what.name, at_ms))
        actions: list[Action] = []
        if what.interval_s is not None:
            actions.append(Interval(what.interval_s))
        if what.cars is not None:
            actions.append(self._to(what.cars))
        return actions

    def _plan(self) -> list[dict[str, Any]]:
        cars, interval_s = self.scenario.ramp_cars, self.scenario.publish.interval_s
        plan: list[dict[str, Any]] = [
            {
                "name": RAMP,
                "seconds": None if self._zero_ms is None else self._ramp_s,
                "cars": cars,
                "interval_s": interval_s,
            }
        ]
        for stage in self.scenario.stages:
            cars = cars if stage.cars is None else stage.cars
            interval_s = stage.interval_s or interval_s
            plan.append(
                {
                    "name": stage.name,
                    "seconds": stage.seconds,
                    "cars": cars,
                    "interval_s": interval_s,
                }
            )
        return plan

    def _stack(self) -> list[dict[str, Any]]:
        zero = self._zero_ms
        return [
            {
                **event.model_dump(mode="json"),
                "due_ms": None if zero is None else zero + _ms(self.scenario.event_s(event)),
            }
            for event in self.scenario.events
            if isinstance(event, StackEvent)
        ]


def _entries(scenario: Scenario) -> list[_Entry]:
    """Everything that is due after the ramp, in order; a stage begins before what happens in it."""
    entries: list[_Entry] = []
    begins_s = 0.0
    for stage in scenario.stages:
        entries.append(_Entry(_ms(begins_s), stage))
        begins_s += stage.seconds
    if scenario.wear.cars:
        entries.append(_Entry(0, Happen({"kind": "faults", **faults_body(scenario.wear)})))
    entries += [_Entry(_ms(scenario.event_s(event)), event) for event in scenario.events]
    return sorted(entries, key=lambda entry: entry.offset_ms)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
