"""Wear: kinds of damage, how they grow, what they change in a car, and the code they end in.

A fault has an onset and a time of failure in event time; between them its severity rises from 0 to
1 along a convex curve, and physics multiplies what the damage touches. At severity 1 the car's own
diagnosis reports an OBD-II trouble code. The plan of faults is known to the evaluator alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from motorcade.fleet.arrays import Bools, Floats, Ints
from motorcade.fleet.errors import MotorcadeError
from motorcade.simulator.cars import Build, State
from motorcade.simulator.chance import car_keys, uniforms


class WearError(MotorcadeError):
    """Faults cannot be planned or begun as asked."""


class WearKind(StrEnum):
    """Kinds of wear; their order is their number in the state's column, from 1."""

    COOLANT_LEAK = "coolant_leak"
    BEARING_WEAR = "bearing_wear"
    MISFIRE = "misfire"
    TIRE_LEAK = "tire_leak"
    CELL_DEGRADATION = "cell_degradation"
    SENSOR_DRIFT = "sensor_drift"
    FIRMWARE_FAULT = "firmware_fault"
    DRIVESHAFT_SHOCK = "driveshaft_shock"


NUMBER = {kind: number for number, kind in enumerate(WearKind, 1)}
KIND = {number: kind for kind, number in NUMBER.items()}


@dataclass(frozen=True)
class Code:
    """A trouble code and its text, as a car's diagnosis reports it."""

    code: str
    description: str


#: Codes and texts of SAE J2012 (diagnostic trouble code definitions), but C1300: C1xxx is left to
#: makers there, and this one is ours.
CODES: dict[WearKind, Code] = {
    WearKind.COOLANT_LEAK: Code("P0217", "Engine coolant over temperature condition"),
    WearKind.BEARING_WEAR: Code("P0524", "Engine oil pressure too low"),
    WearKind.MISFIRE: Code("P0300", "Random/multiple cylinder misfire detected"),
    WearKind.TIRE_LEAK: Code("C0077", "Low tire pressure"),
    WearKind.CELL_DEGRADATION: Code("P0562", "System voltage low"),
    WearKind.SENSOR_DRIFT: Code("P0101", "Mass air flow sensor circuit range/performance"),
    WearKind.FIRMWARE_FAULT: Code("P0601", "Internal control module memory checksum error"),
    WearKind.DRIVESHAFT_SHOCK: Code("C1300", "Driveshaft vibration above limit"),
}

#: Event-time seconds from onset to failure that demos and scenarios use unless told otherwise.
DEFAULT_DURATION_S: dict[WearKind, float] = {
    WearKind.COOLANT_LEAK: 1.5 * 3600,
    WearKind.BEARING_WEAR: 2.0 * 3600,
    WearKind.MISFIRE: 2.0 * 3600,
    WearKind.TIRE_LEAK: 2.0 * 3600,
    WearKind.CELL_DEGRADATION: 4.0 * 3600,
    WearKind.SENSOR_DRIFT: 3.0 * 3600,
    WearKind.FIRMWARE_FAULT: 1.0 * 3600,
    WearKind.DRIVESHAFT_SHOCK: 2.0 * 3600,
}

#: Event time that a car still drives after its diagnosis reported a failure, until it is parked.
LIMP_MS = 60_000

#: Severity = share of the time ** exponent. Above 1: damage feeds on itself.
CONVEXITY = 1.25


@dataclass(frozen=True)
class PlannedFault:
    """A fault to come: onset in event milliseconds, and the seconds from there to failure."""

    index: int
    kind: WearKind
    onset_ms: int
    duration_s: float

    @property
    def failure_ms(self) -> int:
        """Event time of the failure."""
        return self.onset_ms + round(self.duration_s * 1000)


@dataclass(frozen=True)
class Failure:
    """A failure that happened: what a car's diagnosis says at event time `time_ms`."""

    row: int
    index: int
    vin: str
    kind: StrEnum
    time_ms: int
    trouble: Code

    @property
    def code(self) -> str:
        return self.trouble.code

    @property
    def description(self) -> str:
        return self.trouble.description


def choose_faults(
    seed: int,
    eligible: Ints,
    count: int,
    kinds: Sequence[WearKind],
    onset_ms: int,
    *,
    duration_s: float | None = None,
    spread_s: float = 0.0,
) -> list[PlannedFault]:
    """Choose `count` of the eligible car indices, shape (n,), and give each a kind in turn.

    Args:
        duration_s: seconds from onset to failure; the kind's default when None.
        spread_s: onsets fall evenly at random between `onset_ms` and this much later.

    Raises:
        WearError: more faults than eligible cars, or no kind.
    """
    if not kinds:
        raise WearError("No kind of wear was named.", f"Choose of: {', '.join(WearKind)}.")
    if not 0 <= count <= len(eligible):
        raise WearError(
            f"{count} faults were asked for, but {len(eligible)} synthetic cars can wear.",
            "Ask for fewer, or for more cars that replay no recording.",
        )
    keys = car_keys(seed, eligible)
    order = np.argsort(uniforms(keys, 0, 1), kind="stable")[:count]
    delays = uniforms(keys, 0, 2)[order] * spread_s * 1000
    faults = []
    for turn, (index, delay) in enumerate(zip(eligible[order], delays, strict=True)):
        kind = kinds[turn % len(kinds)]
        seconds = DEFAULT_DURATION_S[kind] if duration_s is None else duration_s
        faults.append(PlannedFault(int(index), kind, onset_ms + round(delay), seconds))
    return sorted(faults, key=lambda fault: fault.index)


def severity_at(share_of_time: Floats) -> Floats:
    """Severity, 0 to 1, at a share of the time from onset to failure; never falls."""
    return np.clip(share_of_time, 0, 1) ** CONVEXITY


def wear_on(state: State, time_s: float) -> Ints:
    """Advance every car's severity to `time_s`, in place; rows that fail at this step."""
    worn = np.flatnonzero(state.wear)
    if not len(worn):
        return worn
    share = (time_s - state.onset_s[worn]) / state.duration_s[worn]
    state.severity[worn] = severity_at(share)
    failing: Bools = (share >= 1) & ~state.failed[worn]
    rows = worn[failing]
    state.failed[rows] = True
    return rows


@dataclass
class Damage:
    """What wear does to each car now: factors and shares, 1 or 0 for a healthy car, shape (n,)."""

    #: Share of the coolant that is left.
    coolant_fill: Floats
    #: Engine friction.
    friction: Floats
    #: Vibration that the engine makes, and that driving excites in it.
    engine_vibration: Floats
    running_vibration: Floats
    #: Fuel burnt for the same work.
    fuel: Floats
    #: Share of the air that has left the front right tire.
    tire_loss: Floats
    #: Resistance of the battery.
    resistance: Floats
    #: Volts that a dying cell takes away.
    cell_drop_v: Floats
    #: Reading of the air flow sensor.
    air_flow_gain: Floats
    #: How far idle speed hunts, share of the engine speed.
    hunting: Floats
    #: Front wheels' acceleration and engine vibration under torque.
    shaft: Floats


def damage(state: State) -> Damage | None:
    """The damage of every car, or None when no car here is worn."""
    if not state.severity.any():
        return None

    def of(kind: WearKind) -> Floats:
        return np.where(state.wear == NUMBER[kind], state.severity, 0.0)

    leak, bearing, misfire = (
        of(WearKind.COOLANT_LEAK),
        of(WearKind.BEARING_WEAR),
        of(WearKind.MISFIRE),
    )
    cell, firmware = of(WearKind.CELL_DEGRADATION), of(WearKind.FIRMWARE_FAULT)
    return Damage(
        coolant_fill=1 - 0.9 * leak,
        friction=1 + 1.0 * bearing,
        # ISO 10816-1, class I: 0.71 mm/s is a new machine, 4.5 mm/s and more is damage: six
        # times. A worn bearing knocks with the engine's own turning, so most where the car is slow.
        engine_vibration=(1 + 18 * bearing) * (1 + 8 * misfire),
        running_vibration=1 + 3.5 * bearing + 1.5 * misfire,
        fuel=1 + 0.35 * misfire,
        tire_loss=0.6 * of(WearKind.TIRE_LEAK),
        resistance=1 + 8 * cell,
        # One of six cells shorted: a sixth of 12.6 V.
        cell_drop_v=2.1 * cell,
        air_flow_gain=1 - 0.7 * of(WearKind.SENSOR_DRIFT),
        hunting=0.8 * firmware + 0.15 * misfire,
        shaft=of(WearKind.DRIVESHAFT_SHOCK),
    )


def healthy(build: Build) -> Damage:
    """The damage of cars that have none."""
    one = np.ones(len(build))
    zero = np.zeros(len(build))
    return Damage(one, one, one, one, one, zero, one, zero, one, zero, zero)
