"""A block of cars: rows of NumPy arrays that are stepped together and read as columns."""

from collections.abc import Sequence

import numpy as np

from motorcade.fleet.arrays import Bools, Floats, Ids, Ints
from motorcade.fleet.errors import MotorcadeError
from motorcade.simulator.cars import Build, State, build_cars, start_state
from motorcade.simulator.chance import car_keys
from motorcade.simulator.physics import advance, read_sensors
from motorcade.simulator.population import FleetPlan
from motorcade.simulator.recorded import Replay
from motorcade.simulator.wear import CODES, KIND, NUMBER, Failure, PlannedFault, WearError


class SimulationError(MotorcadeError):
    """The simulated cars cannot be built or stepped as asked."""


#: Cars find themselves in the middle of a drive: engines are warm after this long (event time).
_SPIN_UP_S = 2400
_SPIN_UP_STEP_S = 20
#: Rows that are stepped together, so that their temporaries stay in the processor's cache.
_CHUNK = 4096
#: Event time that one call may catch up.
_LONGEST_STEP_MS = 24 * 3600 * 1000


def refuse_present(indices: Ints, present: Ints) -> None:
    """No car runs twice.

    Raises:
        SimulationError: one of the cars is among those present already.
    """
    twice = np.isin(indices, present)
    if twice.any():
        raise SimulationError(f"Car {int(indices[twice][0])} is in this block already.")


class FleetBlock:
    """The cars of one worker, stepped on the plan's grid of event time.

    Row r is the r-th car given to the constructor and to `grow`. What a car does depends on the
    plan, its index and the time it joined alone: never on the other rows, nor on how often `step`
    and `sample` are called.
    """

    #: A car that broke down limps home.
    parks_when_failed = True

    def __init__(self, plan: FleetPlan, indices: Ints, start_ms: int | None = None) -> None:
        """Build the cars with these global indices, shape (n,), ready to drive.

        They join at the grid point of `start_ms`, which is the clock's event start unless given.

        Raises:
            SimulationError: the catalogue requires a signal that the physics does not know.
        """
        self.plan = plan
        self._names = plan.catalogue.names
        self._scales = np.array([10.0**s.precision for s in plan.catalogue.signals])
        if plan.unknown and len(indices) and not plan.drives:
            raise SimulationError(
                f"The catalogue {plan.catalogue.name!r} requires {', '.join(plan.unknown)}, "
                "for which synthetic cars have no physics.",
                "Replay recordings that hold it (--drives), or make the signal optional.",
            )
        start = plan.clock.event_start_ms if start_ms is None else start_ms
        self._step = start // plan.grid_ms
        self._dt = plan.grid_ms / 1000
        self._replay = Replay(plan.drives, len(self._names)) if plan.drives else None
        self._planned: dict[int, PlannedFault] = {}
        self._happened: list[Failure] = []
        self.indices, self.vins, self._build, self._state = self._join(indices)
        self._joined = np.full(len(indices), self._step, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def event_ms(self) -> int:
        """Event time of the grid point that the cars stand at."""
        return self._step * self.plan.grid_ms

    @property
    def bytes_per_row(self) -> float:
        """Memory that one car holds."""
        own = self.indices.itemsize + self.vins.itemsize + self._joined.itemsize
        return self._build.bytes_per_row + self._state.bytes_per_row + own

    def grow(self, indices: Ints) -> None:
        """Add cars, which join at the block's present time.

        Raises:
            SimulationError: a car is in the block already.
        """
        refuse_present(indices, self.indices)
        if not len(indices):
            return
        new, vins, build, state = self._join(indices)
        first = len(self)
        self.indices = np.concatenate([self.indices, new])
        self.vins = np.concatenate([self.vins, vins])
        self._build = self._build.append(build)
        self._state = self._state.append(state)
        joined = np.full(len(new), self._step, dtype=np.int64)
        self._joined = np.concatenate([self._joined, joined])
        for row in range(first, len(self)):
            fault = self._planned.get(int(self.indices[row]))
            if fault is not None:
                self._wear(row, fault)

    def step(self, event_ms: int) -> None:
        """Advance every car to the latest grid point not after `event_ms`; earlier is ignored.

        Raises:
            SimulationError: more than a day lies between (the clock and the start disagree).
        """
        last = event_ms // self.plan.grid_ms
        if (last - self._step) * self.plan.grid_ms > _LONGEST_STEP_MS:
            raise SimulationError(
                f"The cars stand at event time {self.event_ms} ms and were asked to drive to "
                f"{event_ms} ms at once.",
                "Start them at the run clock's event start.",
            )
        while self._step < last:
            self._step += 1
            failing = self._advance(self._build, self._state, self._step, self._dt)
            self._happened.extend(self._failure(int(row)) for row in failing)

    def sample(self, rows: Ints) -> Floats:
        """What the sensors of these rows read now, shape (n, signals) in catalogue order.

        Rounded to each signal's precision, within its range, NaN where the car lacks the signal.
        """
        build, state = self._build.take(rows), self._state.take(rows)
        values = read_sensors(build, state, self._names, self._step)
        np.clip(values, self.plan.catalogue.low, self.plan.catalogue.high, out=values)
        values *= self._scales
        np.rint(values, out=values)
        values /= self._scales
        if self._replay is not None:
            replayed: Bools = self.indices[rows] < self.plan.replaying
            if replayed.any():
                which = rows[replayed]
                since = (self._step - self._joined[which]) * self.plan.grid_ms
                values[replayed] = self._replay.read(self.indices[which], since)
        return values

    def begin_wear(self, faults: Sequence[PlannedFault]) -> None:
        """Take on planned faults; those of cars elsewhere are kept for cars that join later.

        Raises:
            WearError: a fault of a car that replays a recording, or of one that wears already.
        """
        rows = {int(index): row for row, index in enumerate(self.indices)} if faults else {}
        for fault in faults:
            if fault.index < self.plan.replaying:
                raise WearError(f"Car {fault.index} replays a recording and cannot wear.")
            if fault.index in self._planned:
                if self._planned[fault.index] == fault:
                    continue
                raise WearError(
                    f"Car {fault.index} wears already ({self._planned[fault.index].kind})."
                )
            self._planned[fault.index] = fault
            if fault.index in rows:
                self._wear(rows[fault.index], fault)

    def failures(self) -> list[Failure]:
        """Failures that happened since the last call, in order of time."""
        happened, self._happened = self._happened, []
        return sorted(happened, key=lambda failure: (failure.time_ms, failure.index))

    def severity(self, rows: Ints) -> Floats:
        """The truth about wear, 0 to 1, shape (n,): for evaluators and tests alone."""
        return self._state.severity.take(rows)

    def onsets(self) -> dict[int, int]:
        """Event milliseconds of the onset by car index, of the cars that wear: for evaluators."""
        return {index: fault.onset_ms for index, fault in self._planned.items()}

    def _wear(self, row: int, fault: PlannedFault) -> None:
        self._state.wear[row] = NUMBER[fault.kind]
        self._state.onset_s[row] = fault.onset_ms / 1000
        self._state.duration_s[row] = fault.duration_s

    def _failure(self, row: int) -> Failure:
        fault = self._planned[int(self.indices[row])]
        kind = KIND[int(self._state.wear[row])]
        vin = self.vins[row].decode()
        return Failure(row, fault.index, vin, kind, fault.failure_ms, CODES[kind])

    def _join(self, indices: Ints) -> tuple[Ints, Ids, Build, State]:
        indices = np.array(indices, dtype=np.int64)
        vins = np.array([self.plan.vin(int(index)) for index in indices], dtype="S17")
        build = build_cars(car_keys(self.plan.seed, indices))
        now_s = self._step * self._dt
        state = start_state(build, now_s - _SPIN_UP_S)
        steps = _SPIN_UP_S // _SPIN_UP_STEP_S
        for left in range(steps - 1, -1, -1):
            # Negative numbers key the spin-up's chance apart from the grid's.
            self._advance(build, state, -1 - left, _SPIN_UP_STEP_S, now_s - left * _SPIN_UP_STEP_S)
        return indices, vins, build, state

    def _advance(
        self, build: Build, state: State, step: int, dt: float, time_s: float | None = None
    ) -> Ints:
        """Advance rows chunk by chunk; the rows that fail."""
        now = step * dt if time_s is None else time_s
        failing = []
        for first in range(0, len(build), _CHUNK):
            rows = slice(first, first + _CHUNK)
            failing.append(first + advance(build.part(rows), state.part(rows), now, dt, step))
        return np.concatenate(failing) if failing else np.zeros(0, np.int64)
