"""What a block of cars is to those who drive it, and which block a plan's cars are."""

from collections.abc import Sequence
from typing import Protocol

from motorcade.fleet.arrays import Floats, Ids, Ints
from motorcade.simulator.block import FleetBlock
from motorcade.simulator.demo_car import DemoBlock
from motorcade.simulator.population import FleetPlan
from motorcade.simulator.wear import Failure, PlannedFault


class CarBlock(Protocol):
    """The cars of one worker, in rows: stepped together and sampled as columns.

    Attributes:
        indices: (n,) global index of each row's car; vins: (n,) its vehicle id.
        parks_when_failed: whether a car that failed stops driving soon after.
    """

    plan: FleetPlan
    indices: Ints
    vins: Ids
    parks_when_failed: bool

    def __len__(self) -> int: ...

    @property
    def event_ms(self) -> int:
        """Event time that the cars stand at."""

    @property
    def bytes_per_row(self) -> float:
        """Memory that one car holds."""

    def grow(self, indices: Ints) -> None:
        """Add cars, which join at the block's present time."""

    def step(self, event_ms: int) -> None:
        """Advance every car to `event_ms`; earlier is ignored."""

    def sample(self, rows: Ints) -> Floats:
        """What the sensors of these rows read now, shape (n, signals) in catalogue order."""

    def begin_wear(self, faults: Sequence[PlannedFault]) -> None:
        """Take on planned faults; those of cars elsewhere are kept for cars that join later."""

    def failures(self) -> list[Failure]:
        """Failures that happened since the last call, in order of time."""

    def severity(self, rows: Ints) -> Floats:
        """The truth about the rows' condition, 0 to 1, shape (n,)."""

    def onsets(self) -> dict[int, int]:
        """Event milliseconds of the onset of a car's fault, by car index."""


def block_of(plan: FleetPlan, indices: Ints, start_ms: int | None = None) -> CarBlock:
    """The plan's cars with these global indices, shape (n,), ready to drive from `start_ms`.

    Raises:
        SimulationError: the catalogue requires a signal that these cars lack.
    """
    kind = DemoBlock if plan.car == "demo" else FleetBlock
    return kind(plan, indices, start_ms)
