"""What the driver does: standing, stop-and-go in town, motorway; by style and time of day."""

import numpy as np

from motorcade.fleet.arrays import Bools, Floats, Ints
from motorcade.simulator.cars import CITIES, Build, State
from motorcade.simulator.chance import Words, normals, uniforms

STANDING, URBAN, MOTORWAY = 0, 1, 2

#: Share of the remaining time that a driver stands with the engine running.
_STANDING_SHARE = 0.1
#: Comfortable acceleration and braking of everyday traffic, m/s² (typical values; the WLTC's
#: extremes are 1.67 and −1.5).
_ACCELERATION = 1.6
_BRAKING = 2.2
#: Seconds in which a driver closes most of a gap between speed and target.
_REACTION_S = 4.0
#: Half the size of a city's box in degrees.
_BOX_DEG = 0.08
#: Speed that a failed car still reaches: limp-home, 40 km/h (typical value).
_LIMP_MS = 11.1
_METRES_PER_DEGREE = 111_320.0

_WANDER_S, _GRADE_S, _ROUGHNESS_S = 20.0, 60.0, 45.0


def local_hour(longitude: Floats, time_s: float) -> Floats:
    """Solar hour of the day, 0–24: four minutes for each degree of longitude."""
    hour: Floats = (time_s / 3600 + longitude / 15) % 24
    return hour


def traffic(hour: Floats) -> Floats:
    """Density of traffic, 0 (night) to 1 (the peaks at 8:00 and 17:30)."""
    morning = np.exp(-(((hour - 8) / 1.5) ** 2))
    evening = np.exp(-(((hour - 17.5) / 2.0) ** 2))
    density: Floats = np.clip(0.25 + 0.75 * (morning + evening), 0, 1)
    return density


def drive(build: Build, state: State, time_s: float, dt: float, step: int) -> None:
    """Advance wishes, speed, heading and place by `dt` seconds up to `time_s`, in place."""
    _decide(build, state, time_s)
    noise = normals(build.key, step, 100, 3)
    _relax_noise(state.wander, noise[0], 0.04, _WANDER_S, dt)
    _relax_noise(state.grade, noise[1], 0.012, _GRADE_S, dt)
    base = np.where(state.mode == MOTORWAY, 0.75, 1.1)
    state.roughness -= base
    _relax_noise(state.roughness, noise[2], 0.12, _ROUGHNESS_S, dt)
    state.roughness += base
    np.clip(state.roughness, 0.3, 2.5, out=state.roughness)
    _move(build, state, dt)


def _relax_noise(value: Floats, noise: Floats, sigma: float, tau_s: float, dt: float) -> None:
    """Ornstein–Uhlenbeck step, exact for any `dt`."""
    keep = np.exp(-dt / tau_s)
    value *= keep
    value += (sigma * np.sqrt(1 - keep * keep)) * noise


def _decide(build: Build, state: State, time_s: float) -> None:
    due = np.flatnonzero(state.phase_until_s <= time_s)
    if not len(due):
        return
    keys = build.key[due]
    draws = state.draws[due]
    state.draws[due] += 1
    ended = state.mode_until_s[due] <= time_s
    if ended.any():
        _choose_mode(build, state, due[ended], keys[ended], draws[ended], time_s)
    mode = state.mode[due]
    busy = traffic(local_hour(CITIES.longitude[build.city[due]], time_s))
    style = build.style[due]
    chance = uniforms(keys, draws, 30)
    length = uniforms(keys, draws, 31)
    pace = uniforms(keys, draws, 32)

    halted = state.target_ms[due] == 0
    stops: Bools = (mode == URBAN) & ~halted & (chance < 0.35 + 0.25 * busy)
    urban_ms = (6.5 + 9.0 * pace) * style * (1 - 0.25 * busy)
    motorway_ms = (23.0 + 10.0 * pace) * style * (1 - 0.2 * busy)
    target = np.where(mode == MOTORWAY, motorway_ms, urban_ms)
    target[(mode == STANDING) | stops] = 0
    lasts = np.where(mode == MOTORWAY, 60 + 180 * length, 20 + 70 * length)
    lasts = np.where(stops, 5 + 40 * length * (0.5 + busy), lasts)
    until = np.minimum(time_s + lasts, np.maximum(state.mode_until_s[due], time_s + 1))
    state.target_ms[due] = target
    state.phase_until_s[due] = np.where(mode == STANDING, state.mode_until_s[due], until)
    # In town a driver turns at about half of the junctions; a motorway bends.
    turn = np.where(chance < 0.25, -0.5, np.where(chance > 0.75, 0.5, 0.0)) * np.pi
    state.heading[due] += np.where(mode == MOTORWAY, (chance - 0.5) * 0.4, turn)


def _choose_mode(
    build: Build, state: State, rows: Ints, keys: Words, draws: Ints, time_s: float
) -> None:
    which = uniforms(keys, draws, 20)
    length = uniforms(keys, draws, 21)
    motorway = build.motorway[rows]
    mode = np.where(which < motorway, MOTORWAY, URBAN)
    mode[which > 1 - _STANDING_SHARE] = STANDING
    minutes = np.where(mode == MOTORWAY, 8 + 20 * length, 5 + 15 * length)
    minutes = np.where(mode == STANDING, 1 + 5 * length, minutes)
    state.mode[rows] = mode
    state.mode_until_s[rows] = time_s + 60 * minutes


def _move(build: Build, state: State, dt: float) -> None:
    target = state.target_ms * (1 + state.wander)
    np.minimum(target, np.where(state.failed, _LIMP_MS, np.inf), out=target)
    change = (target - state.speed_ms) * (1 - np.exp(-dt / _REACTION_S))
    # Power fades as speed grows, so a car gains speed more slowly on the motorway.
    faster = _ACCELERATION * build.style * np.clip(1 - state.speed_ms / 50, 0.1, 1)
    change = np.clip(change, -_BRAKING * dt * build.style, faster * dt)
    before = state.speed_ms.copy()
    state.speed_ms += change
    state.speed_ms[state.speed_ms < 0.05] = 0
    np.divide(state.speed_ms - before, dt, out=state.acceleration)

    metres = 0.5 * (before + state.speed_ms) * dt
    state.odometer_km += metres / 1000
    centre_lat = CITIES.latitude[build.city]
    centre_lon = CITIES.longitude[build.city]
    shrink = np.cos(np.deg2rad(centre_lat))
    state.latitude += metres * np.cos(state.heading) / _METRES_PER_DEGREE
    state.longitude += metres * np.sin(state.heading) / (_METRES_PER_DEGREE * shrink)
    north = state.latitude - centre_lat
    east = state.longitude - centre_lon
    outside = (np.abs(north) > _BOX_DEG) | (np.abs(east) > _BOX_DEG)
    if outside.any():
        home = np.arctan2(-east * shrink, -north)
        np.copyto(state.heading, home, where=outside)
        np.clip(state.latitude, centre_lat - _BOX_DEG, centre_lat + _BOX_DEG, out=state.latitude)
        np.clip(state.longitude, centre_lon - _BOX_DEG, centre_lon + _BOX_DEG, out=state.longitude)
