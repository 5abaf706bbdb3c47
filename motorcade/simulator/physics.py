"""One step of every car's physics, and what its sensors read."""

import numpy as np

from motorcade.fleet.arrays import Floats, Ints
from motorcade.simulator.cars import Build, State
from motorcade.simulator.chance import normals
from motorcade.simulator.drive_cycle import drive
from motorcade.simulator.physics_chassis import (
    roll,
    tire_pressures,
    vibration,
    wheel_accelerations,
)
from motorcade.simulator.physics_electric import supply
from motorcade.simulator.physics_engine import heat, run_engine
from motorcade.simulator.wear import Damage, damage, healthy, wear_on

#: Sensor noise: (share of the reading, absolute), one standard deviation. Typical values: NTC
#: thermistors some tenths of a kelvin, hot-film air meters 2 %, tire sensors a tenth of a psi.
_NOISE: dict[str, tuple[float, float]] = {
    "coolant_temp": (0.0, 0.3),
    "intake_air_temp": (0.0, 0.4),
    "intake_air_flow_speed": (0.02, 0.05),
    "battery_percentage": (0.0, 0.2),
    "battery_voltage": (0.0, 0.03),
    "current_draw": (0.01, 0.3),
    "speed": (0.003, 0.0),
    "engine_vibration_amplitude": (0.03, 4.0),
    "throttle_pos": (0.0, 0.002),
    "tire_pressure_1_1": (0.0, 0.1),
    "tire_pressure_1_2": (0.0, 0.1),
    "tire_pressure_2_1": (0.0, 0.1),
    "tire_pressure_2_2": (0.0, 0.1),
    "accelerometer_1_1_value": (0.06, 0.02),
    "accelerometer_1_2_value": (0.06, 0.02),
    "accelerometer_2_1_value": (0.06, 0.02),
    "accelerometer_2_2_value": (0.06, 0.02),
    "engine_rpm": (0.003, 3.0),
    "engine_load": (0.01, 0.2),
    "oil_temp": (0.0, 0.4),
    "latitude": (0.0, 2e-5),
    "longitude": (0.0, 2e-5),
}

#: Signals that the physics knows; a catalogue may hold others, which synthetic cars lack.
KNOWN = frozenset(_NOISE) | {"control_unit_firmware", "odometer"}


def advance(build: Build, state: State, time_s: float, dt: float, step: int) -> Ints:
    """Advance all cars by `dt` seconds up to `time_s`, in place; rows that fail in this step.

    `step` numbers the grid point and keys the step's chance.
    """
    failing = wear_on(state, time_s)
    hurt = damage(state) or healthy(build)
    drive(build, state, time_s, dt, step)
    hunt = normals(build.key, step, 101, 1)[0]
    alternator_w = supply(build, state, hurt, time_s, dt)
    fuel_w, friction_w = run_engine(build, state, hurt, hunt, alternator_w)
    heat(build, state, hurt, fuel_w, friction_w, time_s, dt)
    roll(state, dt)
    return failing


def read_sensors(build: Build, state: State, names: tuple[str, ...], step: int) -> Floats:
    """What the sensors read, shape (n, len(names)), noise included; NaN where a car lacks one."""
    hurt = damage(state) or healthy(build)
    columns = {**_engine(build, state, hurt), **_chassis(build, state, hurt)}
    noise = normals(build.key, step, 102, len(names))
    out = np.full((len(build), len(names)), np.nan)
    for column, name in enumerate(names):
        if name not in columns:
            continue
        value = columns[name]
        share, absolute = _NOISE.get(name, (0.0, 0.0))
        if name == "coolant_temp":
            # A sensor that steam pockets pass reads the metal, some 25 K hotter (typical).
            void = 1 - hurt.coolant_fill
            out[:, column] = value + 22 * void + noise[column] * (absolute + 4 * void)
        elif share or absolute:
            out[:, column] = value + noise[column] * (share * np.abs(value) + absolute)
        else:
            out[:, column] = value
    return out


def _engine(build: Build, state: State, hurt: Damage) -> dict[str, Floats]:
    unsensed = np.where(build.battery_sensor, 0.0, np.nan)
    return {
        "coolant_temp": state.coolant_c,
        "intake_air_temp": state.intake_c,
        "intake_air_flow_speed": state.air_flow_gs * hurt.air_flow_gain,
        "battery_percentage": 100 * state.charge + unsensed,
        "battery_voltage": state.battery_v,
        "current_draw": state.draw_a + unsensed,
        "throttle_pos": state.throttle,
        "control_unit_firmware": build.firmware,
        "engine_rpm": state.rpm,
        "engine_load": 100 * state.load,
        "oil_temp": state.oil_c,
    }


def _chassis(build: Build, state: State, hurt: Damage) -> dict[str, Floats]:
    tires = tire_pressures(build, state, hurt)
    wheels = wheel_accelerations(state, hurt)
    columns = {
        "speed": state.speed_ms,
        "engine_vibration_amplitude": vibration(build, state, hurt),
        "odometer": state.odometer_km,
        "latitude": state.latitude,
        "longitude": state.longitude,
    }
    for wheel, place in enumerate(("1_1", "1_2", "2_1", "2_2")):
        columns[f"tire_pressure_{place}"] = tires[:, wheel]
        columns[f"accelerometer_{place}_value"] = wheels[:, wheel]
    return columns
