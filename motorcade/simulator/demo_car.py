"""The public streaming demo's own car: its value ranges, failure modes, rates and label.

An electric car as the demo for 100,000 connected cars (HiveMQ, Kafka, TensorFlow; Kai Wähner)
simulates it: throttle decides all, and eleven failure modes are drawn at every iteration and
latched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from motorcade.fleet.arrays import Bools, Floats, Ids, Ints
from motorcade.simulator.block import SimulationError, refuse_present
from motorcade.simulator.cars import Columns
from motorcade.simulator.chance import Words, car_keys, uniforms
from motorcade.simulator.population import FleetPlan
from motorcade.simulator.wear import Code, Failure, PlannedFault, WearError

#: Event time of one iteration: the demo's own time between two samples.
ITERATION_MS = 5000
_LONGEST_STEP_MS = 24 * 3600 * 1000


class DemoFailure(StrEnum):
    """Kinds of failure of the demo's car."""

    SHOCK = "shock_failure"
    TIRE = "tire_pressure_loss"
    DRIVE_SHAFT = "drive_shaft_degradation"
    OVERHEATING = "overheating"
    FIRMWARE = "outdated_firmware"


#: Failure modes, one column each of `_State.failed`: kind, and chance per iteration.
MODES: tuple[tuple[DemoFailure, float], ...] = (
    *((DemoFailure.SHOCK, 0.01),) * 4,
    *((DemoFailure.TIRE, 0.005),) * 4,
    (DemoFailure.DRIVE_SHAFT, 0.01),
    (DemoFailure.OVERHEATING, 0.002),
    (DemoFailure.FIRMWARE, 0.04),
)
_SHOCK, _TIRE = slice(0, 4), slice(4, 8)
_SHAFT, _HEAT, _FIRMWARE = 8, 9, 10

#: SAE J2012, but C13xx: those are left to makers there, and these are ours.
CODES: dict[DemoFailure, Code] = {
    DemoFailure.SHOCK: Code("C1310", "Shock absorber degraded"),
    DemoFailure.TIRE: Code("C0077", "Low tire pressure"),
    DemoFailure.DRIVE_SHAFT: Code("C1300", "Driveshaft vibration above limit"),
    DemoFailure.OVERHEATING: Code("P0217", "Coolant over temperature condition"),
    DemoFailure.FIRMWARE: Code("U0300", "Internal control module software incompatibility"),
}

#: Constants of the demo: 140 km/h in m/s; volts of an empty and a full battery; shares kept of the
#: last speed and coolant temperature; what a metre a second takes from the battery (share) and
#: gives to the coolant (K) in an iteration; air at the intake; millivolts per m/s.
MAX_SPEED_MS = 38.889
_EMPTY_V, _FULL_V = 180.0, 260.0
_INERTIA = 0.8
_PER_MS = 0.008
_AIR_PER_MS = 4.0
_VIBRATION, _VIBRATION_FAILED = 100.0, 150.0
_HEAT_PER_A, _HEAT_PER_A_FAILED = 0.5, 2.5
_BUMP = 0.05
_FIRMWARE_NUMBER, _FIRMWARE_OUTDATED = 2000.0, 1000.0


@dataclass
class _State(Columns):
    """One row a car; shape (n,) unless said otherwise."""

    key: Words
    throttle: Floats
    intake_c: Floats
    intake_ms: Floats
    charge: Floats
    battery_v: Floats
    coolant_c: Floats
    draw_a: Floats
    speed_ms: Floats
    #: Failure modes that have happened, shape (n, modes).
    failed: Bools
    #: Iteration and mode of the first failure; -1 while there is none.
    first_at: Ints
    first_mode: Ints


class DemoBlock:
    """The demo's cars of one worker; the interface is `motorcade.simulator.blocks.CarBlock`.

    They iterate every 5 s of event time, whatever the plan's grid. What a car does depends on the
    plan, its index and the time it joined alone.
    """

    #: The demo's cars drive on with their failures.
    parks_when_failed = False

    def __init__(self, plan: FleetPlan, indices: Ints, start_ms: int | None = None) -> None:
        """Build the cars with these global indices, shape (n,).

        Raises:
            SimulationError: the catalogue requires a signal that the demo's car lacks, or drives
                are to be replayed.
        """
        if plan.drives:
            raise SimulationError(
                "The demo's car replays no recordings.", "Take --drives or --car demo."
            )
        known = SIGNALS
        unknown = [s.name for s in plan.catalogue.signals if s.required and s.name not in known]
        if unknown:
            raise SimulationError(
                f"The catalogue {plan.catalogue.name!r} requires {', '.join(unknown)}, which the "
                "demo's car lacks.",
                "Leave --signals out: the demo's car brings its own catalogue.",
            )
        self.plan = plan
        start = plan.clock.event_start_ms if start_ms is None else start_ms
        self._iteration = start // ITERATION_MS
        self._scales = np.array([10.0**s.precision for s in plan.catalogue.signals])
        self._happened: list[Failure] = []
        self.indices, self.vins, self._state = self._join(indices, 0)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def event_ms(self) -> int:
        """Event time of the iteration that the cars stand at."""
        return self._iteration * ITERATION_MS

    @property
    def bytes_per_row(self) -> float:
        """Memory that one car holds."""
        return self._state.bytes_per_row + self.indices.itemsize + self.vins.itemsize

    def grow(self, indices: Ints) -> None:
        """Add cars, which join at the block's present time.

        Raises:
            SimulationError: a car is in the block already.
        """
        refuse_present(indices, self.indices)
        if not len(indices):
            return
        new, vins, state = self._join(indices, len(self))
        self.indices = np.concatenate([self.indices, new])
        self.vins = np.concatenate([self.vins, vins])
        self._state = self._state.append(state)

    def step(self, event_ms: int) -> None:
        """Advance every car to the latest iteration not after `event_ms`; earlier is ignored.

        Raises:
            SimulationError: more than a day lies between (the clock and the start disagree).
        """
        last = event_ms // ITERATION_MS
        if (last - self._iteration) * ITERATION_MS > _LONGEST_STEP_MS:
            raise SimulationError(
                f"The cars stand at event time {self.event_ms} ms and were asked to drive to "
                f"{event_ms} ms at once.",
                "Start them at the run clock's event start.",
            )
        while self._iteration < last:
            self._iteration += 1
            state = self._state
            state.charge -= _PER_MS * state.speed_ms
            state.coolant_c += _PER_MS * state.speed_ms
            _set_off(state, self._iteration, np.flatnonzero(state.charge <= 0))
            failing = _iterate(state, self._iteration)
            self._report(failing, self.indices, self.vins, state, 0)

    def sample(self, rows: Ints) -> Floats:
        """What the sensors of these rows read now, shape (n, signals) in catalogue order."""
        catalogue = self.plan.catalogue
        columns = _read(self._state.take(rows), self._iteration)
        values = np.full((len(rows), len(catalogue.names)), np.nan)
        for column, name in enumerate(catalogue.names):
            if name in columns:
                values[:, column] = columns[name]
        np.clip(values, catalogue.low, catalogue.high, out=values)
        values *= self._scales
        np.rint(values, out=values)
        values /= self._scales
        return values

    def begin_wear(self, faults: Sequence[PlannedFault]) -> None:
        """Refuse: these cars fail by the demo's own chance.

        Raises:
            WearError: a fault was given.
        """
        if faults:
            raise WearError(
                "The demo's cars do not wear: they fail by its own chance.",
                "Take --car motorcade for wear.",
            )

    def failures(self) -> list[Failure]:
        """First failures of cars since the last call, in order of time."""
        happened, self._happened = self._happened, []
        return sorted(happened, key=lambda failure: (failure.time_ms, failure.index))

    def severity(self, rows: Ints) -> Floats:
        """1 for a car that has failed, else 0, shape (n,)."""
        return (self._state.first_at[rows] >= 0).astype(np.float64)

    def onsets(self) -> dict[int, int]:
        """Event milliseconds of the first failure by car index, of the cars that have failed."""
        failed = np.flatnonzero(self._state.first_at >= 0)
        times = self._state.first_at[failed] * ITERATION_MS
        return dict(zip(self.indices[failed].tolist(), times.tolist(), strict=True))

    def _join(self, indices: Ints, first_row: int) -> tuple[Ints, Ids, _State]:
        indices = np.array(indices, dtype=np.int64)
        vins = np.array([self.plan.vin(int(index)) for index in indices], dtype="S17")
        n = len(indices)
        state = _State(
            key=car_keys(self.plan.seed, indices),
            **{name: np.zeros(n) for name in _FLOATS},
            failed=np.zeros((n, len(MODES)), dtype=np.bool_),
            first_at=np.full(n, -1, dtype=np.int64),
            first_mode=np.full(n, -1, dtype=np.int64),
        )
        _set_off(state, self._iteration, np.arange(n))
        self._report(_iterate(state, self._iteration), indices, vins, state, first_row)
        return indices, vins, state

    def _report(self, failing: Ints, indices: Ints, vins: Ids, state: _State, first: int) -> None:
        for row in failing.tolist():
            kind = MODES[int(state.first_mode[row])][0]
            vin = vins[row].decode()
            at = int(state.first_at[row]) * ITERATION_MS
            self._happened.append(
                Failure(first + row, int(indices[row]), vin, kind, at, CODES[kind])
            )


_FLOATS = (
    *("throttle", "intake_c", "intake_ms", "charge"),
    *("battery_v", "coolant_c", "draw_a", "speed_ms"),
)


def _set_off(state: _State, iteration: int, rows: Ints) -> None:
    """Let rows begin a trip, with a charged battery, in place; their failures stay."""
    if not len(rows):
        return
    keys = state.key[rows]

    def between(low: float, high: float, stream: int) -> Floats:
        return low + (high - low) * uniforms(keys, iteration, 250 + stream)

    speed = between(0.0, MAX_SPEED_MS, 0)
    state.speed_ms[rows] = speed
    state.intake_ms[rows] = _AIR_PER_MS * speed
    state.throttle[rows] = between(0.0, 1.0, 1)
    state.intake_c[rows] = between(15.0, 40.0, 2)
    charge = between(0.3, 1.0, 3)
    state.charge[rows] = charge
    state.battery_v[rows] = _EMPTY_V + charge * (_FULL_V - _EMPTY_V)
    state.coolant_c[rows] = state.intake_c[rows] + between(0.0, 20.0, 4)


def _iterate(state: _State, iteration: int) -> Ints:
    """Draw failures, then move and heat, in place; rows whose first failure this is."""
    healthy = state.first_at < 0
    for mode, (_, chance) in enumerate(MODES):
        state.failed[:, mode] |= uniforms(state.key, iteration, 200 + mode) < chance
    failing = np.flatnonzero(healthy & state.failed.any(axis=1))
    state.first_at[failing] = iteration
    state.first_mode[failing] = state.failed[failing].argmax(axis=1)

    np.multiply(state.throttle, np.abs(_FULL_V - state.battery_v) + 5, out=state.draw_a)
    heat = np.where(state.failed[:, _HEAT], _HEAT_PER_A_FAILED, _HEAT_PER_A)
    state.coolant_c += (1 - _INERTIA) * heat * state.draw_a
    state.speed_ms *= _INERTIA
    state.speed_ms += (1 - _INERTIA) * MAX_SPEED_MS * state.throttle
    return failing


def _read(state: _State, iteration: int) -> dict[str, Floats]:
    """Every signal of the demo's car by name, each (n,)."""
    u = [uniforms(state.key, iteration, 220 + stream) for stream in range(9)]
    # Vibration is exactly a multiple of the speed that is sent.
    speed = np.round(state.speed_ms, 6)
    gain = np.where(state.failed[:, _SHAFT], _VIBRATION_FAILED, _VIBRATION)
    columns = {
        "coolant_temp": state.coolant_c,
        "intake_air_temp": state.intake_c,
        "intake_air_flow_speed": state.intake_ms,
        "battery_percentage": state.charge,
        "battery_voltage": state.battery_v,
        "current_draw": state.draw_a,
        "speed": speed,
        "engine_vibration_amplitude": speed * gain,
        "throttle_pos": state.throttle,
        "control_unit_firmware": np.where(
            state.failed[:, _FIRMWARE], _FIRMWARE_OUTDATED, _FIRMWARE_NUMBER
        ),
        "failure_occurred": state.failed.any(axis=1).astype(np.float64),
    }
    bump = u[8] < _BUMP
    for corner, place in enumerate(("1_1", "1_2", "2_1", "2_2")):
        soft = state.failed[:, _TIRE][:, corner]
        # Whole psi, as the demo sends: 30 to 34, or 20 to 24.
        columns[f"tire_pressure_{place}"] = np.where(soft, 20.0, 30.0) + np.floor(5 * u[corner])
        worn = state.failed[:, _SHOCK][:, corner]
        still = np.where(worn, 3.0, 0.0) + u[4 + corner]
        bumped = np.where(worn, 5.0 + 2 * u[4 + corner], 2.0 + u[4 + corner])
        columns[f"accelerometer_{place}_value"] = np.where(bump, bumped, still)
    return columns


#: Signals that the demo's car has.
SIGNALS = frozenset(
    _read(
        _State(
            key=np.zeros(0, dtype=np.uint64),
            **{name: np.zeros(0) for name in _FLOATS},
            failed=np.zeros((0, len(MODES)), dtype=np.bool_),
            first_at=np.zeros(0, dtype=np.int64),
            first_mode=np.zeros(0, dtype=np.int64),
        ),
        0,
    )
)
