"""The fleet as a whole: seed, catalogue, clock, recorded drives; the same for any worker count."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from motorcade.fleet.catalogue import Catalogue, shipped_catalogue
from motorcade.fleet.clock import RunClock
from motorcade.fleet.vin import MOST_CARS, generate_vin
from motorcade.simulator.physics import KNOWN
from motorcade.simulator.recorded import RecordedDrive
from motorcade.simulator.wear import PlannedFault, WearError, WearKind, choose_faults

#: Which car drives: the project's own, or that of the public streaming demo.
CarKind: TypeAlias = Literal["motorcade", "demo"]


@dataclass(frozen=True)
class FleetPlan:
    """Everything that decides what a fleet's cars do.

    Car `index` < len(drives) replays drives[index]; the others are simulated, or replay too where
    the catalogue requires a signal that physics does not know (`replaying`). `grid_ms` is the
    physics' own step of event time: cars move from one multiple of it to the next, so it must be
    the same on every worker; 1,000 is fine, 5,000 saves work at high speed-up.
    """

    seed: int
    catalogue: Catalogue
    clock: RunClock
    drives: tuple[RecordedDrive, ...] = ()
    grid_ms: int = 1000
    car: CarKind = "motorcade"

    @cached_property
    def unknown(self) -> tuple[str, ...]:
        """Required signals that simulated cars lack."""
        return tuple(s.name for s in self.catalogue.signals if s.required and s.name not in KNOWN)

    @property
    def replaying(self) -> int:
        """How many of the first cars replay recordings; all, where simulated cars lack a signal."""
        return MOST_CARS if self.drives and self.unknown else len(self.drives)

    def vin(self, index: int) -> str:
        """The vehicle id of car `index`."""
        return generate_vin(self.seed, index)


def signals_of(car: CarKind, signals: Path | None) -> Path | None:
    """The catalogue file of these cars: the given one, or the one that the cars bring along."""
    return shipped_catalogue("demo") if car == "demo" and signals is None else signals


def grid_for(speedup: float, interval_s: float) -> int:
    """A grid in event milliseconds: physics need not be finer than half of what a car reports.

    It stays between one second, which every part of the physics is made for, and five, which all
    of it still bears.
    """
    return 5000 if speedup > 10 or speedup * interval_s >= 10 else 1000


def plan_faults(
    plan: FleetPlan,
    cars: int,
    count: int,
    kinds: Sequence[WearKind],
    onset_ms: int,
    seed: int = 0,
    *,
    duration_s: float | None = None,
    spread_s: float = 0.0,
) -> list[PlannedFault]:
    """Faults for `count` of the first `cars` cars, never one that replays a recording.

    Kinds go round in turn; the same arguments give the same faults. `duration_s` None takes each
    kind's default; onsets spread over `spread_s` seconds of event time from `onset_ms` on.

    Raises:
        WearError: more faults than synthetic cars, no kind, or cars that do not wear.
    """
    if plan.car == "demo" and count:
        raise WearError(
            "The demo's cars do not wear: they fail by its own chance.",
            "Take --car motorcade for wear.",
        )
    eligible = np.arange(min(plan.replaying, cars), cars, dtype=np.int64)
    return choose_faults(
        plan.seed * 1_000_003 + seed,
        eligible,
        count,
        kinds,
        onset_ms,
        duration_s=duration_s,
        spread_s=spread_s,
    )
