"""Healthy cars behave like cars: energy adds up, every step is stable, signals belong together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motorcade.fleet.arrays import Floats
from motorcade.simulator.block import FleetBlock
from motorcade.simulator.cars import build_cars, start_state
from motorcade.simulator.chance import car_keys, normals, uniforms
from motorcade.simulator.physics import advance
from motorcade.simulator.physics_chassis import tire_pressures
from motorcade.simulator.physics_engine import heat, relax
from motorcade.simulator.wear import healthy
from tests.unit.simulator.fleets import START_MS, column, drive, plan


@pytest.fixture(scope="module")
def hour() -> Floats:
    """One hour of 200 healthy cars, shape (360, 200, signals)."""
    return drive(FleetBlock(plan(grid_ms=1000), np.arange(200)), 60, every_s=10)


def test_the_thermostat_holds_healthy_coolant(hour: Floats) -> None:
    coolant = hour[..., column("coolant_temp")]
    assert coolant.min() > 78
    assert np.quantile(coolant, 0.999) < 97


def test_petrol_burnt_for_the_way_is_that_of_a_small_car(hour: Floats) -> None:
    air_g = hour[..., column("intake_air_flow_speed")].sum(axis=0) * 10
    litres = air_g / 14.7 / 745
    km = hour[-1, :, column("odometer")] - hour[0, :, column("odometer")]
    assert 4 < 100 * litres.sum() / km.sum() < 9


def test_the_odometer_counts_what_the_speed_covers(hour: Floats) -> None:
    km = hour[-1, :, column("odometer")] - hour[0, :, column("odometer")]
    covered = hour[1:, :, column("speed")].sum(axis=0) * 10 / 1000
    np.testing.assert_allclose(km, covered, rtol=0.03, atol=0.3)


def test_the_place_moves_no_further_than_the_odometer_says(hour: Floats) -> None:
    north = np.diff(hour[..., column("latitude")], axis=0) * 111.32
    km = np.diff(hour[..., column("odometer")], axis=0)
    assert np.all(np.abs(north) < km + 0.03)


def test_vibration_follows_speed_at_a_hundred_millivolts_per_metre_a_second(
    hour: Floats,
) -> None:
    speed = hour[..., column("speed")].ravel()
    vibration = hour[..., column("engine_vibration_amplitude")].ravel()
    assert np.corrcoef(speed, vibration)[0, 1] > 0.97
    fast = speed > 10
    assert 85 < (vibration[fast] / speed[fast]).mean() < 115


def test_cars_stand_creep_and_cruise(hour: Floats) -> None:
    speed = hour[..., column("speed")]
    assert 0.03 < (speed < 0.3).mean() < 0.3
    assert 0.2 < (speed > 20).mean() < 0.6
    assert speed.max() < 55


def test_speed_changes_no_faster_than_drivers_brake_and_accelerate(hour: Floats) -> None:
    change = np.diff(hour[..., column("speed")], axis=0) / 10
    assert change.min() > -3.2
    assert change.max() < 2.5


def test_the_battery_is_held_at_its_charge(hour: Floats) -> None:
    charge = hour[..., column("battery_percentage")]
    drift = np.nanmean(charge[-1]) - np.nanmean(charge[0])
    assert abs(drift) < 1
    voltage = hour[..., column("battery_voltage")]
    assert voltage.min() > 12.5
    assert voltage.max() < 15


def test_braking_charges_and_accelerating_does_not(hour: Floats) -> None:
    current = hour[1:, :, column("current_draw")]
    change = np.diff(hour[..., column("speed")], axis=0)
    assert np.nanmean(current[change < -5]) < -1
    assert np.nanmean(current[change > 5]) > np.nanmean(current[change < -5])


def test_the_fleet_is_as_warm_hours_later(hour: Floats) -> None:
    block = FleetBlock(plan(), np.arange(200))
    block.step(START_MS + 8 * 3_600_000)
    later = drive(block, 20)
    for name in ("coolant_temp", "intake_air_temp", "tire_pressure_1_1"):
        then, now = later[..., column(name)], hour[..., column(name)]
        assert abs(then.mean() - now.mean()) < 0.25 * now.std(), name


@settings(max_examples=25)
@given(st.floats(0.05, 900), st.integers(0, 2**32))
def test_no_step_is_too_long_to_be_stable(dt: float, seed: int) -> None:
    build = build_cars(car_keys(seed, np.arange(40)))
    state = start_state(build, START_MS / 1000)
    for step in range(40):
        advance(build, state, START_MS / 1000 + (step + 1) * dt, dt, step)
        for temperature in (state.coolant_c, state.oil_c, state.intake_c, state.tire_c):
            assert np.all(temperature > -30)
            assert np.all(temperature < 160)
        assert np.all((state.speed_ms >= 0) & (state.speed_ms < 60))
        assert np.all((state.charge > 0) & (state.charge <= 1))
        assert np.all((state.load >= 0) & (state.load <= 1 + 1e-9))
        assert np.all(state.air_flow_gs > 0)


@settings(max_examples=25)
@given(st.floats(20, 115), st.floats(1, 60))
def test_an_engine_that_burns_nothing_cools_towards_the_air(start_c: float, dt: float) -> None:
    build = build_cars(car_keys(3, np.arange(8)))
    state = start_state(build, START_MS / 1000)
    state.coolant_c[:] = np.maximum(start_c, state.air_c + 1)
    nothing = np.zeros(8)
    for _ in range(30):
        before = state.coolant_c.copy()
        heat(build, state, healthy(build), nothing, nothing, START_MS / 1000, dt)
        assert np.all(state.coolant_c <= before + 1e-9)
        assert np.all(state.coolant_c > state.air_c - 1.5)


def test_more_fuel_heats_more() -> None:
    build = build_cars(car_keys(3, np.arange(8)))
    temperatures = []
    for fuel_w in (5e3, 3e4, 8e4):
        state = start_state(build, START_MS / 1000)
        for _ in range(600):
            heat(build, state, healthy(build), np.full(8, fuel_w), np.full(8, 2e3), 0.0, 5.0)
        temperatures.append(state.coolant_c.mean())
    assert temperatures == sorted(temperatures)
    assert temperatures[0] > 60


def test_a_warm_tire_holds_more_pressure_by_the_gas_law() -> None:
    build = build_cars(car_keys(3, np.arange(8)))
    state = start_state(build, START_MS / 1000)
    state.tire_c[:] = 20.0
    np.testing.assert_allclose(tire_pressures(build, state, healthy(build)), build.cold_psi)
    state.tire_c[:] = 50.0
    warm = tire_pressures(build, state, healthy(build))
    np.testing.assert_allclose((warm + 14.696) / (build.cold_psi + 14.696), 323.15 / 293.15)


def test_two_half_relaxations_are_one_whole() -> None:
    halves, whole = np.array([10.0]), np.array([10.0])
    relax(halves, np.array([50.0]), 30.0, 4.0)
    relax(halves, np.array([50.0]), 30.0, 4.0)
    relax(whole, np.array([50.0]), 30.0, 8.0)
    np.testing.assert_allclose(halves, whole)


def test_chance_is_even_bell_shaped_and_uncorrelated() -> None:
    keys = car_keys(5, np.arange(20_000))
    even = uniforms(keys, 3, 2)
    assert abs(even.mean() - 0.5) < 0.01
    assert abs(even.std() - 12**-0.5) < 0.01
    bell = normals(keys, 3, 1, 9)
    assert bell.shape == (9, 20_000)
    np.testing.assert_allclose(bell.mean(axis=1), 0, atol=0.03)
    np.testing.assert_allclose(bell.std(axis=1), 1, atol=0.03)
    correlation = np.corrcoef(np.vstack([bell, normals(keys, 4, 1, 9), even]))
    assert np.abs(correlation - np.eye(19)).max() < 0.04


def test_a_counter_for_each_car_draws_apart() -> None:
    keys = car_keys(5, np.arange(1000))
    one = uniforms(keys, np.zeros(1000, np.int64), 1)
    two = uniforms(keys, np.arange(1000), 1)
    assert one[0] == two[0]
    assert (one[1:] != two[1:]).all()
