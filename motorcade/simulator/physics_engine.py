"""From motion to engine: gear, speed, fuel, air, throttle, and heat in coolant, oil and intake.

Heat follows exponential Rosenbrock–Euler steps (Hochbruck and Ostermann, "Exponential
integrators", Acta Numerica 2010), exact for a linear balance, so that no step is unstable.
"""

import math

import numpy as np

from motorcade.fleet.arrays import Floats
from motorcade.simulator.cars import CITIES, Build, State
from motorcade.simulator.drive_cycle import local_hour
from motorcade.simulator.wear import Damage

_GRAVITY = 9.81
_AIR_DENSITY = 1.2  # kg/m³ at 20 °C
_ROLLING = 0.011  # typical of passenger tires on asphalt
_ROTATING_MASS = 1.05  # wheels and driveline, typical
_DRIVELINE_EFFICIENCY = 0.92  # typical manual gearbox
#: Speeds (m/s) at which a calm driver shifts up, and km/h at 1,000 rpm in each gear: typical of a
#: six-speed car of 1.5 litres.
_SHIFT_UP = np.array([4.0, 7.5, 11.0, 15.0, 20.0])
_KMH_PER_1000_RPM = np.array([8.0, 14.5, 21.5, 29.0, 37.0, 45.0])
#: Willans line (Guzzella and Sciarretta, "Vehicle Propulsion Systems"): fuel power = (brake +
#: friction power) / 0.40; friction mean effective pressure 1.5 bar, half as much again when cold.
_INDICATED_EFFICIENCY = 0.40
_FRICTION_PA = 1.5e5
_PETROL_J_PER_G = 43_500.0  # lower heating value
_STOICHIOMETRIC = 14.7  # mass of air to petrol
_GAS_CONSTANT = 287.05  # dry air, J/(kg K)
_PRESSURE_PA = 101_325.0
_VOLUMETRIC_EFFICIENCY = 0.88  # typical at full load
_OVERRUN_LOAD = 0.10  # air through a closed throttle with the fuel cut, typical
_AIR_CONDITIONER_W = 1_500.0
#: A closed throttle reads about 16 % on OBD-II PID 0x11 (SAE J1979) in common cars.
_CLOSED_THROTTLE = 0.16

#: Shares of fuel and friction power that reach the coolant (Heywood, "Internal Combustion Engine
#: Fundamentals", ch. 12: a quarter to a third at part load).
_FUEL_TO_COOLANT = 0.28
_FRICTION_TO_COOLANT = 0.3
_BLOCK_J_PER_K = 60_000.0  # some 100 kg of aluminium and iron that follow the coolant
_COOLANT_J_PER_K = 22_000.0  # 6 kg of water and glycol at 3.6 kJ/(kg K)
_BLOCK_W_PER_K = 22.0  # block to the air under the bonnet
_RADIATOR_W_PER_K = (50.0, 13.0)  # standing, and for each m/s of driving wind
_FAN_W_PER_K = 220.0
_THERMOSTAT_RANGE_K = 12.0  # wax thermostat, closed to fully open
_FAN_FROM_C, _FAN_RANGE_K = 98.0, 4.0
_BOILING_C, _BOIL_W_PER_K = 120.0, 6_000.0  # half glycol at 1.1 bar of cap pressure
#: A centrifugal pump that draws air loses half its flow at some 15 % of void (typical of the head
#: curves in Gülich, "Centrifugal Pumps", ch. 13), then degrades more slowly.
_FLOW_LOSS_PER_VOID = 4.0
#: A step knows the thermostat's slope where it begins; longer ones could leap over its range.
_COOLING_STEP_S = 20.0
_OIL_S = 240.0
_INTAKE_S = 45.0
_AIR_S = 300.0


def relax(value: Floats, towards: Floats, tau_s: float, dt: float) -> None:
    """Exact exponential relaxation over `dt`, in place."""
    value += (towards - value) * (1 - np.exp(-dt / tau_s))


def run_engine(
    build: Build, state: State, damage: Damage, hunt: Floats, alternator_w: Floats
) -> tuple[Floats, Floats]:
    """Set rpm, load, throttle and air flow from the motion; return fuel and friction power, W."""
    speed = state.speed_ms
    shift = _SHIFT_UP[:, np.newaxis] * (0.85 + 0.15 * build.style)
    gear = (speed >= shift).sum(axis=0)
    cold = np.clip((60 - state.coolant_c) / 60, 0, 1)
    idle = build.idle_rpm * (1 + 0.4 * cold)
    rpm = np.maximum(idle, speed * 3600 / _KMH_PER_1000_RPM[gear])
    rpm *= 1 + damage.hunting * hunt
    np.clip(rpm, 400, 6500, out=state.rpm)

    force = build.mass_kg * (
        _ROTATING_MASS * state.acceleration
        + _GRAVITY * (state.grade + np.where(speed > 0, _ROLLING, 0.0))
    )
    force += 0.5 * _AIR_DENSITY * build.drag_area_m2 * speed * speed
    wheel_w = force * speed
    cooled = np.clip((state.air_c - 18) / 10, 0, 1)
    brake_w = np.maximum(wheel_w, 0) / _DRIVELINE_EFFICIENCY
    brake_w += alternator_w + _AIR_CONDITIONER_W * cooled
    friction_w = build.displacement_m3 * state.rpm / 120 * _FRICTION_PA
    friction_w *= (1 + 0.5 * cold) * damage.friction
    fuel_w = (brake_w + friction_w) / _INDICATED_EFFICIENCY * damage.fuel

    overrun = (wheel_w < 0) & (speed > 6)
    # Speed-density: the air that fits into the cylinders at this speed and temperature.
    density = _PRESSURE_PA / (_GAS_CONSTANT * (state.intake_c + 273.15))
    most_gs = 1000 * density * build.displacement_m3 * state.rpm / 120 * _VOLUMETRIC_EFFICIENCY
    air_gs = np.minimum(fuel_w / _PETROL_J_PER_G * _STOICHIOMETRIC, most_gs)
    np.copyto(air_gs, _OVERRUN_LOAD * most_gs, where=overrun)
    fuel_w = np.where(overrun, 0.0, air_gs / _STOICHIOMETRIC * _PETROL_J_PER_G)
    state.air_flow_gs[...] = air_gs
    np.divide(air_gs, most_gs, out=state.load)
    # A throttle needs to open further for the same load the faster the engine draws.
    opening = state.load * (0.08 + state.rpm / 6000)
    throttle = (_CLOSED_THROTTLE + 0.7 * opening) * (1 + damage.hunting * hunt)
    np.clip(throttle, 0, 1, out=state.throttle)
    return fuel_w, friction_w


def heat(
    build: Build,
    state: State,
    damage: Damage,
    fuel_w: Floats,
    friction_w: Floats,
    time_s: float,
    dt: float,
) -> None:
    """Advance air, coolant, oil and intake temperatures by `dt` seconds, in place."""
    longitude = CITIES.longitude[build.city]
    hour = local_hour(longitude, time_s)
    # Warmest at 15:00, coldest at 3:00 (typical).
    outside = CITIES.air_temp[build.city] + build.air_temp_offset_k
    outside += CITIES.air_swing[build.city] * np.cos(2 * np.pi * (hour - 15) / 24)
    relax(state.air_c, outside, _AIR_S, dt)

    heat_in = _FUEL_TO_COOLANT * fuel_w + _FRICTION_TO_COOLANT * friction_w
    parts = math.ceil(dt / _COOLING_STEP_S)
    for _ in range(parts):
        _cool(build, state, damage, heat_in, dt / parts)

    load_heat = friction_w * 1.6e-3 + fuel_w * 1.0e-4
    relax(state.oil_c, state.coolant_c + load_heat, _OIL_S, dt)
    # Air on its way through the bonnet: warmer when the car stands and when the engine is hot.
    soak = 7 + 16 * np.exp(-state.speed_ms / 7) + 0.35 * (state.coolant_c - 88)
    relax(state.intake_c, state.air_c + np.maximum(soak, 0), _INTAKE_S, dt)


def _cool(build: Build, state: State, damage: Damage, heat_in: Floats, dt: float) -> None:
    temp = state.coolant_c
    above_air = np.maximum(temp - state.air_c, 1.0)
    opening = (temp - build.thermostat_opens_c) / _THERMOSTAT_RANGE_K
    regulating = (opening > 0) & (opening < 1)
    opening = np.clip(opening, 0, 1)
    np.clip((temp - _FAN_FROM_C) / _FAN_RANGE_K, 0, 1, out=state.fan)
    blowing = (state.fan > 0) & (state.fan < 1)
    flow = build.radiator / (1 + _FLOW_LOSS_PER_VOID * (1 - damage.coolant_fill))
    still, wind = _RADIATOR_W_PER_K
    radiator = flow * (still + wind * state.speed_ms + _FAN_W_PER_K * state.fan)
    conductance = _BLOCK_W_PER_K + opening * radiator
    boiling = temp > _BOILING_C
    boiled = np.where(boiling, _BOIL_W_PER_K * (temp - _BOILING_C), 0.0)
    balance = heat_in - conductance * above_air - boiled

    slope = conductance + np.where(boiling, _BOIL_W_PER_K, 0.0)
    slope += np.where(regulating, radiator * above_air / _THERMOSTAT_RANGE_K, 0.0)
    slope += np.where(blowing, opening * flow * _FAN_W_PER_K * above_air / _FAN_RANGE_K, 0.0)
    capacity = _BLOCK_J_PER_K + _COOLANT_J_PER_K * damage.coolant_fill
    temp += balance / slope * -np.expm1(-slope * dt / capacity)
