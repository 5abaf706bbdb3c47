"""One process's share of a set: its cars' samples in the order of event time. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from motorcade.fleet.arrays import Ids, Ints
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.simulator.blocks import block_of
from motorcade.simulator.generate.plan import SetPlan
from motorcade.simulator.schedule import Schedule
from motorcade.simulator.wear import LIMP_MS, Failure


@dataclass(frozen=True)
class Moment:
    """One step of the physics: what the cars send in it. `due` is left to who sends it (zeros)."""

    event_ms: int
    telemetry: list[TelemetryColumns]
    failures: list[Failure]


class Share:
    """Cars worker, worker+workers, worker+2·workers, … of a set.

    Each car sends at its own phase of the interval, as the live fleet does, and what its sensors
    read at the last grid point before. A car that broke down limps on for a minute and is parked.
    """

    def __init__(self, plan: SetPlan, worker: int = 0, workers: int = 1) -> None:
        """Build the cars.

        Raises:
            SimulationError: the catalogue requires a signal that these cars lack.
        """
        self.plan = plan
        indices = np.arange(worker, plan.cars, workers, dtype=np.int64)
        self._block = block_of(plan.fleet, indices, plan.start_ms)
        self._block.begin_wear([f for f in plan.faults if f.index % workers == worker])
        self._schedule = Schedule(plan.interval_ms, plan.start_ms, plan.cars)
        self._schedule.grow(indices)
        for row in range(len(indices)):
            self._schedule.start(row, plan.start_ms)
        self._seq = np.zeros(len(indices), dtype=np.int64)
        self._parked_from: dict[int, int] = {}

    @property
    def vins(self) -> Ids:
        """Vehicle ids of the share's cars, shape (n,)."""
        return self._block.vins

    def moments(self) -> Iterator[Moment]:
        """The whole stretch, step by step; a share can be driven once."""
        plan = self.plan
        grid = plan.fleet.grid_ms
        for event_ms in range(plan.start_ms, plan.end_ms, grid):
            self._block.step(event_ms)
            failures = self._block.failures()
            self._park(failures, event_ms)
            last = min(event_ms + grid, plan.end_ms) - 1
            telemetry = [self._columns(rows, due) for rows, due in self._schedule.take(last)]
            yield Moment(event_ms, telemetry, failures)

    def _columns(self, rows: Ints, time: Ints) -> TelemetryColumns:
        self._seq[rows] += 1
        return TelemetryColumns(
            vin=self._block.vins[rows],
            values=self._block.sample(rows),
            boot=np.full(len(rows), self.plan.boot, dtype=np.int64),
            seq=self._seq[rows],
            time=time,
            due=np.zeros(len(rows), dtype=np.int64),
        )

    def _park(self, failures: list[Failure], event_ms: int) -> None:
        if self._block.parks_when_failed:
            self._parked_from |= {f.row: f.time_ms + LIMP_MS for f in failures}
        for row in [row for row, from_ms in self._parked_from.items() if event_ms >= from_ms]:
            self._schedule.stop(row)
            del self._parked_from[row]
