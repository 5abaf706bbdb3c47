"""Tires, wheels and the engine's vibration: what sensors outside the engine read."""

import numpy as np

from motorcade.fleet.arrays import Floats
from motorcade.simulator.cars import Build, State
from motorcade.simulator.physics_engine import relax
from motorcade.simulator.wear import Damage

_ATMOSPHERE_PSI = 14.696
_COLD_K = 293.15  # tires are inflated at 20 °C
_TIRE_S = 600.0
#: Tires of a car on the motorway run about 20 K above the air (typical); heating goes with speed.
_TIRE_K_PER_MS = 0.65
#: Wheel hop amplitude on asphalt grows with the root of speed (ISO 8608: the spectrum of a road's
#: height is scaled by speed); about 1 m/s² in town.
_WHEEL_MS2 = 0.32
#: The public demo's cars vibrate at 100 mV for each m/s: most of it is here, the rest is the
#: engine's own share, so that speed and vibration stay correlated at that scale.
_VIBRATION_PER_MS, _VIBRATION_PER_RPM = 78.0, 0.2


def roll(state: State, dt: float) -> None:
    """Advance the tires' temperature by `dt` seconds, in place."""
    relax(state.tire_c, state.air_c + 2 + _TIRE_K_PER_MS * state.speed_ms, _TIRE_S, dt)


def tire_pressures(build: Build, state: State, damage: Damage) -> Floats:
    """Gauge pressures in psi, shape (n, 4): ideal gas in a constant volume."""
    warm = (state.tire_c + 273.15) / _COLD_K
    absolute = (build.cold_psi + _ATMOSPHERE_PSI) * warm[:, np.newaxis]
    gauge = absolute - _ATMOSPHERE_PSI
    gauge[:, 1] *= 1 - damage.tire_loss
    return gauge


def wheel_accelerations(state: State, damage: Damage) -> Floats:
    """Amplitudes in m/s², shape (n, 4), before sensor noise."""
    base = _WHEEL_MS2 * np.sqrt(state.speed_ms) * state.roughness
    wheels = np.repeat(base[:, np.newaxis], 4, axis=1)
    front = damage.shaft * (0.12 * state.speed_ms + 3.0 * np.abs(state.acceleration))
    wheels[:, :2] += front[:, np.newaxis]
    wheels[:, 1] *= 1 + 0.8 * damage.tire_loss  # a soft tire rolls unevenly
    return wheels


def vibration(build: Build, state: State, damage: Damage) -> Floats:
    """Amplitude at the engine's sensor in mV, shape (n,), before sensor noise."""
    engine = _VIBRATION_PER_RPM * state.rpm * (0.7 + 0.6 * state.load) * damage.engine_vibration
    running = _VIBRATION_PER_MS * state.speed_ms * damage.running_vibration
    shaft = 1 + 1.2 * damage.shaft * np.clip(state.load, 0.2, 1)
    gain: Floats = build.vibration_gain * shaft
    return gain * (running + engine)
