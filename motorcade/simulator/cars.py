"""What is fixed about each car (Build) and what changes as it drives (State), in columns."""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from motorcade.fleet.arrays import Bools, Floats, Ints
from motorcade.simulator.chance import Words, normals, uniforms


@dataclass(frozen=True)
class Cities:
    """Where the fleet drives: cities around the globe, so that every hour of the day is present.

    Mean air temperature (°C) and half the daily swing (K) are typical values of spring.
    """

    latitude: Floats
    longitude: Floats
    air_temp: Floats
    air_swing: Floats


CITIES = Cities(
    *np.array(
        [
            (52.52, 13.40, 12, 5),  # Berlin
            (48.14, 11.58, 11, 5),  # Munich
            (51.51, -0.13, 12, 4),  # London
            (40.42, -3.70, 16, 6),  # Madrid
            (-8.05, -34.90, 27, 3),  # Recife
            (40.71, -74.01, 13, 5),  # New York
            (41.88, -87.63, 11, 5),  # Chicago
            (39.74, -104.99, 12, 7),  # Denver
            (37.77, -122.42, 14, 4),  # San Francisco
            (-36.85, 174.76, 17, 4),  # Auckland
            (-33.87, 151.21, 19, 4),  # Sydney
            (35.68, 139.69, 15, 4),  # Tokyo
            (1.35, 103.82, 28, 3),  # Singapore
            (28.61, 77.21, 26, 6),  # Delhi
            (25.20, 55.27, 28, 5),  # Dubai
            (-26.20, 28.04, 17, 6),  # Johannesburg
        ],
        dtype=np.float64,
    ).T
)


@dataclass
class Columns:
    """A record of equally long arrays: one row a car."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))

    def part(self, rows: slice) -> Self:
        """The same columns over a range of rows, sharing memory."""
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def take(self, rows: Ints) -> Self:
        """The same columns over the given rows, copied."""
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def append(self, other: Self) -> Self:
        """These rows and then the other's, as new columns."""
        joined: dict[str, Any] = {
            f.name: np.concatenate([getattr(self, f.name), getattr(other, f.name)])
            for f in fields(self)
        }
        return type(self)(**joined)

    @property
    def bytes_per_row(self) -> float:
        size: int = sum(getattr(self, f.name).nbytes for f in fields(self))
        return size / max(1, len(self))


@dataclass
class Build(Columns):
    """What is fixed about each car; every column has shape (n,) unless said otherwise."""

    key: Words
    city: Ints
    #: 0.8 (calm) to 1.25 (brisk).
    style: Floats
    #: Share of driving time on motorways, 0–1.
    motorway: Floats
    mass_kg: Floats
    displacement_m3: Floats
    drag_area_m2: Floats
    idle_rpm: Floats
    thermostat_opens_c: Floats
    radiator: Floats
    air_temp_offset_k: Floats
    consumers_a: Floats
    battery_ah: Floats
    charge_target: Floats
    battery_ohm: Floats
    vibration_gain: Floats
    #: Cold inflation at 20 °C, gauge psi, shape (n, 4).
    cold_psi: Floats
    firmware: Floats
    #: Whether the car has an intelligent battery sensor (current and state of charge).
    battery_sensor: Bools


@dataclass
class State(Columns):
    """What changes as a car drives; every column has shape (n,) unless said otherwise."""

    # Driver: what the drive cycle wants.
    mode: Ints
    mode_until_s: Floats
    phase_until_s: Floats
    draws: Ints
    target_ms: Floats
    wander: Floats
    grade: Floats
    roughness: Floats
    heading: Floats
    # Motion.
    speed_ms: Floats
    acceleration: Floats
    odometer_km: Floats
    latitude: Floats
    longitude: Floats
    # Engine.
    rpm: Floats
    load: Floats
    throttle: Floats
    air_flow_gs: Floats
    # Heat, °C.
    air_c: Floats
    coolant_c: Floats
    oil_c: Floats
    intake_c: Floats
    tire_c: Floats
    fan: Floats
    # Battery.
    charge: Floats
    battery_v: Floats
    draw_a: Floats
    # Wear: kind 0 is none; severity 0–1.
    wear: Ints
    onset_s: Floats
    duration_s: Floats
    severity: Floats
    failed: Bools


def _between(low: float, high: float, share: Floats) -> Floats:
    return low + (high - low) * share


def build_cars(keys: Words) -> Build:
    """The cars of these keys. Spreads are typical values of a mixed fleet of small cars."""

    def u(stream: int) -> Floats:
        return uniforms(keys, 0, stream)

    bell = normals(keys, 0, 1, 8)
    return Build(
        key=keys,
        city=(u(10) * len(CITIES.latitude)).astype(np.int64),
        style=np.clip(1.0 + 0.1 * bell[0], 0.8, 1.25),
        motorway=_between(0.15, 0.5, u(11)),
        mass_kg=np.clip(1350 + 120 * bell[1], 1000, 1800),
        displacement_m3=_between(1.4e-3, 1.8e-3, u(12)),
        drag_area_m2=_between(0.62, 0.74, u(13)),
        idle_rpm=_between(720, 820, u(14)),
        thermostat_opens_c=84 + 0.7 * bell[2],
        radiator=1 + 0.04 * bell[3],
        air_temp_offset_k=1.5 * bell[4],
        consumers_a=_between(18, 30, u(15)),
        battery_ah=_between(50, 75, u(16)),
        charge_target=_between(0.78, 0.92, u(17)),
        battery_ohm=_between(0.008, 0.012, u(18)),
        vibration_gain=1 + 0.03 * bell[5],
        cold_psi=(33 + 0.8 * bell[6] + 0.35 * normals(keys, 0, 2, 4)).T.copy(),
        firmware=np.where(u(19) < 0.5, 1000.0, 2000.0),
        battery_sensor=u(20) >= 0.08,
    )


def start_state(build: Build, start_s: float) -> State:
    """Cars as they are found at event time `start_s` (seconds since 1970), before they spin up."""
    keys = build.key
    n = len(build)

    def u(stream: int) -> Floats:
        return uniforms(keys, 1, stream)

    def zeros() -> Floats:
        return np.zeros(n)

    air = CITIES.air_temp[build.city]
    return State(
        mode=np.zeros(n, np.int64),
        mode_until_s=start_s + 60 * u(10),
        phase_until_s=start_s + 60 * u(10),
        draws=np.zeros(n, np.int64),
        target_ms=zeros(),
        wander=zeros(),
        grade=zeros(),
        roughness=np.ones(n),
        heading=2 * np.pi * u(11),
        speed_ms=zeros(),
        acceleration=zeros(),
        odometer_km=5_000 + 195_000 * u(12),
        latitude=CITIES.latitude[build.city] + 0.06 * (2 * u(13) - 1),
        longitude=CITIES.longitude[build.city] + 0.06 * (2 * u(14) - 1),
        rpm=build.idle_rpm.copy(),
        load=np.full(n, 0.25),
        throttle=np.full(n, 0.17),
        air_flow_gs=np.full(n, 2.5),
        air_c=air.copy(),
        coolant_c=80 + 8 * u(15),
        oil_c=75 + 15 * u(16),
        intake_c=air + 15,
        tire_c=air + 8,
        fan=zeros(),
        charge=np.clip(build.charge_target + 0.02 * (2 * u(17) - 1), 0, 1),
        battery_v=np.full(n, 13.7),
        draw_a=zeros(),
        wear=np.zeros(n, np.int64),
        onset_s=np.full(n, np.inf),
        duration_s=np.ones(n),
        severity=zeros(),
        failed=np.zeros(n, np.bool_),
    )
