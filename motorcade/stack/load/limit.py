"""The search for the load that a target holds: up until a level breaks, back, confirmed.

Pure: it is told what was observed at a load and says which load comes next.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

#: Observed values by the name of their level, such as {"due_to_kafka_p99_ms": 120.0}.
Observed = Mapping[str, float]

#: Share of a load that the fleet must have put on the wire for the target to be judged by it.
_OFFERED = 0.85


class Phase(StrEnum):
    CLIMB = "climb"
    CONFIRM = "confirm"
    DONE = "done"


class Ending(StrEnum):
    """How a search ended."""

    #: A load broke a level, and a lower one was held again.
    FOUND = "found"
    #: Every load up to the highest allowed one was held.
    NOT_REACHED = "not reached"
    #: No load was held, the first one included.
    NOTHING_HELD = "nothing held"
    #: The generator fell behind: it is its own limit and not the target's.
    GENERATOR = "generator"


@dataclass(frozen=True)
class Broken:
    """A level that was not met: the highest value allowed, and what was observed."""

    level: str
    observed: float
    allowed: float


@dataclass(frozen=True)
class Step:
    """A load that was held for a while, and what came of it.

    Args:
        load: what was asked of the fleet, messages/s.
        offered: what the fleet put on the wire, messages/s.
        phase: climbing, or confirming a load on the way back.
        observed: by level.
        broken: levels that it broke, the worst first; empty when it was held.
    """

    load: float
    offered: float
    phase: Phase
    observed: dict[str, float]
    broken: tuple[Broken, ...]

    @property
    def held(self) -> bool:
        return not self.broken


def broken(observed: Observed, levels: Mapping[str, float]) -> tuple[Broken, ...]:
    """Levels that are exceeded, the one exceeded by most first.

    A level without an observation is not judged: nothing was measured that it could hold for.
    """
    found = [
        Broken(name, observed[name], allowed)
        for name, allowed in levels.items()
        if name in observed and not observed[name] <= allowed
    ]
    return tuple(sorted(found, key=lambda one: -_excess(one)))


def _excess(one: Broken) -> float:
    return one.observed / one.allowed if one.allowed > 0 else float("inf")


@dataclass
class Search:
    """Finds the highest load that breaks no level.

    Args:
        start: the first load.
        factor: by which the load grows from step to step, and shrinks on the way back.
        highest: the load above which it does not climb.
        levels: highest allowed value by level.
        generator: the same for the generator itself; when one breaks, the target is not judged.
    """

    start: float
    factor: float
    highest: float
    levels: Mapping[str, float]
    generator: Mapping[str, float] = field(default_factory=dict)
    phase: Phase = Phase.CLIMB
    steps: list[Step] = field(default_factory=list)
    ending: Ending | None = None
    #: The step that broke first while climbing.
    broke: Step | None = None
    _load: float = 0.0

    def __post_init__(self) -> None:
        self._load = min(self.start, self.highest)

    @property
    def load(self) -> float | None:
        """The load to hold next; None at the end."""
        return None if self.phase is Phase.DONE else self._load

    @property
    def confirmed(self) -> float | None:
        """The highest load that was held after the break, or at the end of a climb without one."""
        if self.ending is Ending.FOUND:
            return self.steps[-1].load
        held = [step.load for step in self.steps if step.held]
        return max(held, default=None) if self.ending is not Ending.NOTHING_HELD else None

    def take(self, observed: Observed, offered: float, uncertain: float = 0.0) -> Step:
        """What was observed while the present load was held.

        Args:
            observed: by level.
            offered: messages/s that the fleet put on the wire.
            uncertain: messages/s by which it may have been more.
        """
        late = broken(observed, self.generator)
        missed = broken(observed, self.levels)
        if not late and not missed and offered + uncertain < self._load * _OFFERED:
            # The target did all that was asked of it, which was not the load.
            late = (Broken("offered", offered, self._load),)
        step = Step(self._load, offered, self.phase, dict(observed), late or missed)
        self.steps.append(step)
        if late:
            # The load just below was held before; above it only the generator is judged.
            self.broke = self.broke or step
            self._end(Ending.GENERATOR)
        elif self.phase is Phase.CLIMB:
            self._climbed(step)
        elif step.held:
            self._end(Ending.FOUND)
        else:
            self._back()
        return step

    def _climbed(self, step: Step) -> None:
        if not step.held:
            self.broke, self.phase = step, Phase.CONFIRM
            self._back()
        elif self._load >= self.highest:
            self._end(Ending.NOT_REACHED)
        else:
            self._load = min(self._load * self.factor, self.highest)

    def _back(self) -> None:
        self._load /= self.factor
        # Below a third of the first load there is nothing that a search for a limit could show.
        if self._load < self.start / 3:
            self._end(Ending.NOTHING_HELD)

    def _end(self, ending: Ending) -> None:
        self.phase, self.ending = Phase.DONE, ending
