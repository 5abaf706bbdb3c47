"""The public demo's car: its ranges, its failures at their rates, latched, and its label."""

from collections import Counter

import numpy as np
import pytest

from motorcade.fleet.arrays import Floats
from motorcade.fleet.catalogue import load_catalogue, parse_catalogue, shipped_catalogue
from motorcade.fleet.clock import RunClock
from motorcade.simulator.block import SimulationError
from motorcade.simulator.blocks import block_of
from motorcade.simulator.demo_car import ITERATION_MS, MODES, DemoBlock
from motorcade.simulator.population import FleetPlan, plan_faults
from motorcade.simulator.wear import PlannedFault, WearError, WearKind
from tests.unit.simulator.fleets import CATALOGUE, START_MS

DEMO = load_catalogue(shipped_catalogue("demo"))
PLACES = ("1_1", "1_2", "2_1", "2_2")


def plan(seed: int = 1) -> FleetPlan:
    return FleetPlan(seed, DEMO, RunClock(0, START_MS, 1.0), car="demo")


def drive(block: DemoBlock, iterations: int) -> Floats:
    """Samples of the next iterations, shape (iterations, cars, signals)."""
    rows = np.arange(len(block))
    samples = []
    for _ in range(iterations):
        block.step(block.event_ms + ITERATION_MS)
        samples.append(block.sample(rows))
    return np.array(samples)


def of(samples: Floats, name: str) -> Floats:
    return samples[..., DEMO.column(name)]


@pytest.fixture(scope="module")
def samples() -> Floats:
    return drive(DemoBlock(plan(), np.arange(2000)), 150)


def test_the_catalogue_is_the_demos_eighteen_features_and_a_label_that_models_do_not_read() -> None:
    assert DEMO.features == CATALOGUE.features
    assert set(DEMO.names) - set(DEMO.features) == {"failure_occurred"}


def test_values_stay_within_the_demos_ranges(samples: Floats) -> None:
    ranges = {
        "speed": (0, 38.889),
        "throttle_pos": (0, 1),
        "intake_air_temp": (15, 40),
        "intake_air_flow_speed": (0, 4 * 38.889),
        "battery_percentage": (0, 1),
        "battery_voltage": (180 + 0.3 * 80, 260),
        "current_draw": (0, 61),
        "coolant_temp": (15, 200),
    }
    for name, (low, high) in ranges.items():
        values = of(samples, name)
        assert low <= values.min() < values.max() <= high, name
    assert not np.isnan(samples).any()
    assert (samples >= DEMO.low).all()
    assert (samples <= DEMO.high).all()
    assert of(samples, "speed").max() > 37
    assert np.median(of(samples, "coolant_temp")) < 60  # does not pile up at the limit


def test_vibration_is_a_hundred_times_the_speed_and_a_hundred_and_fifty_when_the_shaft_fails(
    samples: Floats,
) -> None:
    speed, vibration = of(samples, "speed"), of(samples, "engine_vibration_amplitude")
    moving = speed > 1
    ratio = np.round(vibration[moving] / speed[moving], 6)
    assert set(np.unique(ratio)) == {100.0, 150.0}


def test_tires_hold_thirty_to_thirty_five_psi_and_twenty_to_twenty_five_once_they_fail(
    samples: Floats,
) -> None:
    for place in PLACES:
        pressure = of(samples, f"tire_pressure_{place}")
        assert set(np.unique(pressure)) == {*range(20, 25), *range(30, 35)}
        failed = pressure < 25
        assert (failed[:-1] <= failed[1:]).all(), "a tire that failed stays so"


def test_worn_shocks_shake_more_and_bumps_shake_all_corners(samples: Floats) -> None:
    corners = np.stack([of(samples, f"accelerometer_{place}_value") for place in PLACES])
    bands = [(0, 1), (2, 3), (3, 4), (5, 7)]
    inside = np.any([(corners >= low) & (corners <= high) for low, high in bands], axis=0)
    assert inside.all()
    first = corners[:, 0]
    bumped = ((first >= 2) & (first <= 3)) | (first >= 5)
    assert 0.03 < bumped.all(axis=0).mean() < 0.07
    assert not (bumped.any(axis=0) & ~bumped.all(axis=0)).any()


def test_each_failure_comes_at_its_rate_each_iteration() -> None:
    block = DemoBlock(plan(), np.arange(40_000))
    shaft = block._state.failed.mean(axis=0)
    chances = np.array([chance for _, chance in MODES])
    assert chances.tolist() == [0.01] * 4 + [0.005] * 4 + [0.01, 0.002, 0.04]
    spread = 4 * np.sqrt(chances * (1 - chances) / 40_000)
    assert (np.abs(shaft - chances) < spread).all()
    drive(block, 9)
    after = block._state.failed.mean(axis=0)
    expected = 1 - (1 - chances) ** 10
    assert (np.abs(after - expected) < 4 * np.sqrt(expected * (1 - expected) / 40_000)).all()


def test_the_label_says_whether_any_failure_has_happened_and_never_goes_back(
    samples: Floats,
) -> None:
    label = of(samples, "failure_occurred")
    assert set(np.unique(label)) == {0.0, 1.0}
    assert (label[:-1] <= label[1:]).all()
    shows = of(samples, "control_unit_firmware") == 1000
    for place in PLACES:
        shows |= of(samples, f"tire_pressure_{place}") < 25
        worn = of(samples, f"accelerometer_{place}_value")
        shows |= worn >= 3.0005
    moving = of(samples, "speed") > 1
    shaft = of(samples, "engine_vibration_amplitude") > 125 * of(samples, "speed")
    shows |= shaft & moving
    assert (label[shows] == 1).all()
    # Only overheating and bumps hide what the label knows.
    assert shows[label == 1].mean() > 0.95
    chance = 1 - 0.99**4 * 0.995**4 * 0.99 * 0.998 * 0.96
    assert label[0].mean() == pytest.approx(1 - (1 - chance) ** 2, abs=0.03)


def test_an_overheating_car_heats_five_times_as_fast() -> None:
    block = DemoBlock(plan(), np.arange(20_000))
    hot = block._state.failed[:, 9] & (block._state.draw_a > 10)
    well = ~block._state.failed[:, 9] & (block._state.draw_a > 10)
    before = block._state.coolant_c.copy()
    trip = block._state.charge > 0.4
    drive(block, 1)
    rise = block._state.coolant_c - before
    still = block._state.failed[:, 9]
    assert hot.sum() > 10
    per_ampere = rise / block._state.draw_a
    assert np.median(per_ampere[hot & trip]) == pytest.approx(0.5, abs=0.03)
    assert np.median(per_ampere[well & trip & ~still]) == pytest.approx(0.1, abs=0.03)


def test_a_car_does_the_same_whatever_its_worker_and_however_often_it_is_stepped() -> None:
    whole = drive(DemoBlock(plan(), np.arange(9)), 40)
    for worker in range(3):
        indices = np.arange(worker, 9, 3)
        part = DemoBlock(plan(), indices)
        assert np.array_equal(drive(part, 40), whole[:, indices])
    once = DemoBlock(plan(), np.arange(9))
    once.step(START_MS + 40 * ITERATION_MS + 4999)
    assert np.array_equal(once.sample(np.arange(9)), whole[-1])
    assert not np.array_equal(drive(DemoBlock(plan(2), np.arange(9)), 40), whole)


def test_a_car_that_joins_later_is_the_car_of_a_block_that_starts_then() -> None:
    block = DemoBlock(plan(), np.arange(3))
    drive(block, 5)
    block.grow(np.array([7]))
    fresh = DemoBlock(plan(), np.array([7]), START_MS + 5 * ITERATION_MS)
    assert np.array_equal(drive(block, 10)[:, 3:], drive(fresh, 10))
    with pytest.raises(SimulationError, match="Car 7 is in this block already"):
        block.grow(np.array([7]))


def test_the_first_failure_of_each_car_is_reported_once_with_its_kind_code_and_time() -> None:
    block = DemoBlock(plan(), np.arange(300))
    drive(block, 60)
    failures = block.failures()
    assert block.failures() == []
    assert len(failures) == len({failure.index for failure in failures})
    assert {f.index: f.time_ms for f in failures} == block.onsets()
    assert (block.severity(np.arange(300)) == 1).sum() == len(failures) > 290
    kinds = Counter(failure.kind for failure in failures)
    assert set(kinds) >= {"outdated_firmware", "shock_failure", "tire_pressure_loss"}
    assert {f.code for f in failures if f.kind == "outdated_firmware"} == {"U0300"}
    assert all(START_MS <= f.time_ms <= block.event_ms for f in failures)
    assert all(failures[i].time_ms <= failures[i + 1].time_ms for i in range(len(failures) - 1))


def test_the_demos_cars_do_not_wear_and_replay_nothing() -> None:
    block = DemoBlock(plan(), np.arange(3))
    with pytest.raises(WearError, match="do not wear"):
        block.begin_wear([PlannedFault(1, WearKind.MISFIRE, START_MS, 60.0)])
    with pytest.raises(WearError, match="do not wear"):
        plan_faults(plan(), 10, 1, [WearKind.MISFIRE], START_MS)


def test_a_catalogue_that_requires_more_than_the_demos_car_has_is_refused() -> None:
    text = (
        shipped_catalogue("demo")
        .read_text(encoding="utf-8")
        .replace("throttle_pos", "steering_angle")
    )
    other = FleetPlan(1, parse_catalogue(text, "x"), RunClock(0, START_MS, 1.0), car="demo")
    with pytest.raises(SimulationError, match="steering_angle"):
        block_of(other, np.arange(3))


def test_a_plan_says_which_block_its_cars_are() -> None:
    assert isinstance(block_of(plan(), np.arange(2)), DemoBlock)
    own = FleetPlan(1, CATALOGUE, RunClock(0, START_MS, 1.0), grid_ms=5000)
    assert block_of(own, np.arange(2)).parks_when_failed
    assert not block_of(plan(), np.arange(2)).parks_when_failed
