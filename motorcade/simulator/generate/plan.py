"""What to generate: which cars, which stretch of event time, which of them wear."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from motorcade.fleet.errors import MotorcadeError
from motorcade.simulator.population import FleetPlan, plan_faults
from motorcade.simulator.wear import (
    DEFAULT_DURATION_S,
    LIMP_MS,
    Failure,
    PlannedFault,
    WearKind,
)
from motorcade.simulator.wire import fault_to


class GenerateError(MotorcadeError):
    """A set cannot be generated as asked."""


@dataclass(frozen=True)
class SetPlan:
    """A set of messages; the same plan gives the same samples whatever the number of processes.

    Args:
        fleet: seed, catalogue, kind of car, drives and grid.
        cars: cars 0 … cars-1 of the fleet.
        start_ms, end_ms: event time, the end not included.
        interval_ms: event time between two messages of a car.
        boot: wall-clock milliseconds that all cars started at: their messages' identity.
        faults: wear that begins.
    """

    fleet: FleetPlan
    cars: int
    start_ms: int
    end_ms: int
    interval_ms: int
    boot: int
    faults: tuple[PlannedFault, ...] = ()

    def __post_init__(self) -> None:
        if self.end_ms <= self.start_ms:
            raise GenerateError("A set needs a time to drive in.", "Give --hours or --days.")

    @property
    def most_messages(self) -> int:
        """Messages if no car breaks down."""
        return self.cars * ((self.end_ms - self.start_ms) // self.interval_ms)


def faults_within(
    fleet: FleetPlan,
    cars: int,
    count: int,
    kinds: Sequence[WearKind],
    start_ms: int,
    end_ms: int,
    duration_s: float | None = None,
) -> tuple[PlannedFault, ...]:
    """Faults of `count` cars, kinds in turn, spread so that each has ended in a failure by the end.

    Raises:
        GenerateError: a fault takes longer than the set.
        WearError: more faults than cars that can wear, or no kind.
    """
    if not count:
        return ()
    longest = duration_s or max((DEFAULT_DURATION_S[kind] for kind in kinds), default=0.0)
    spread_s = (end_ms - start_ms - LIMP_MS) / 1000 - longest
    if spread_s < 0:
        raise GenerateError(
            f"A fault takes {longest / 60:g} min from onset to failure and one more to the car's "
            f"end, the set is {(end_ms - start_ms) / 60_000:g} min long.",
            "Make the set longer, or the faults shorter with --wear-minutes.",
        )
    return tuple(
        plan_faults(fleet, cars, count, kinds, start_ms, duration_s=duration_s, spread_s=spread_s)
    )


def truth(plan: SetPlan, failures: Sequence[Failure]) -> dict[str, Any]:
    """What only the evaluator may know: the set, onsets and failures, in plain values."""
    return {
        "set": {
            "seed": plan.fleet.seed,
            "car": plan.fleet.car,
            "catalogue": plan.fleet.catalogue.name,
            "cars": plan.cars,
            "start_ms": plan.start_ms,
            "end_ms": plan.end_ms,
            "interval_ms": plan.interval_ms,
            "boot": plan.boot,
        },
        "faults": [
            {
                **fault_to(fault),
                "vin": plan.fleet.vin(fault.index),
                "failure_ms": fault.failure_ms,
            }
            for fault in plan.faults
        ],
        "failures": [
            {
                "index": failure.index,
                "vin": failure.vin,
                "kind": str(failure.kind),
                "code": failure.code,
                "time": failure.time_ms,
                "reported": True,
            }
            for failure in sorted(failures, key=lambda one: (one.time_ms, one.index))
        ],
    }
