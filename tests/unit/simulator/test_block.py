"""A car drives the same way wherever it runs, and says only what the catalogue allows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motorcade.fleet.catalogue import parse_catalogue
from motorcade.fleet.clock import RunClock
from motorcade.fleet.vin import is_vin
from motorcade.simulator.block import FleetBlock, SimulationError
from motorcade.simulator.population import FleetPlan, grid_for
from motorcade.simulator.recorded import RecordedDrive
from motorcade.simulator.wear import PlannedFault, WearError, WearKind
from tests.unit.simulator.fleets import CATALOGUE, START_MS, column, drive, plan


def test_a_car_drives_the_same_alone_in_a_block_and_in_another_worker() -> None:
    whole = drive(FleetBlock(plan(), np.arange(10)), 30)
    alone = drive(FleetBlock(plan(), np.array([7])), 30)
    np.testing.assert_array_equal(whole[:, 7], alone[:, 0])
    for worker in range(3):
        indices = np.arange(worker, 10, 3)
        part = drive(FleetBlock(plan(), indices), 30)
        np.testing.assert_array_equal(whole[:, indices], part)


def test_rows_beyond_one_chunk_drive_the_same() -> None:
    block = FleetBlock(plan(), np.arange(4200))
    block.step(START_MS + 60_000)
    far = FleetBlock(plan(), np.array([4150]))
    far.step(START_MS + 60_000)
    np.testing.assert_array_equal(block.sample(np.array([4150])), far.sample(np.array([0])))


@settings(max_examples=15)
@given(st.lists(st.integers(0, 600_000), min_size=1, max_size=8))
def test_it_does_not_matter_how_often_a_block_is_stepped(stops: list[int]) -> None:
    often, once = FleetBlock(plan(), np.arange(4)), FleetBlock(plan(), np.arange(4))
    rows = np.arange(4)
    for stop in [*sorted(stops), 600_000]:
        often.step(START_MS + stop)
        often.sample(rows)
    once.step(START_MS + 600_000)
    np.testing.assert_array_equal(often.sample(rows), once.sample(rows))


def test_going_back_in_time_leaves_the_cars_where_they_are() -> None:
    block = FleetBlock(plan(), np.arange(3))
    block.step(START_MS + 60_000)
    before = block.sample(np.arange(3))
    block.step(START_MS)
    np.testing.assert_array_equal(block.sample(np.arange(3)), before)
    assert block.event_ms == START_MS + 60_000


def test_another_seed_is_another_fleet() -> None:
    one, two = FleetBlock(plan(1), np.arange(5)), FleetBlock(plan(2), np.arange(5))
    assert not set(one.vins.tolist()) & set(two.vins.tolist())
    assert (drive(one, 5) != drive(two, 5)).mean() > 0.8


def test_a_car_that_joins_later_drives_as_one_that_began_then() -> None:
    block = FleetBlock(plan(), np.arange(3))
    block.step(START_MS + 600_000)
    block.grow(np.array([8, 9]))
    fresh = FleetBlock(plan(), np.array([8, 9]), start_ms=START_MS + 600_000)
    np.testing.assert_array_equal(drive(block, 10)[:, 3:], drive(fresh, 10))
    assert block.vins.tolist()[3:] == fresh.vins.tolist()


def test_growing_leaves_the_cars_that_drive_alone() -> None:
    grown, left = FleetBlock(plan(), np.arange(3)), FleetBlock(plan(), np.arange(3))
    grown.step(START_MS + 60_000)
    left.step(START_MS + 60_000)
    grown.grow(np.array([5]))
    np.testing.assert_array_equal(drive(grown, 10)[:, :3], drive(left, 10))


def test_a_car_cannot_join_twice() -> None:
    block = FleetBlock(plan(), np.arange(3))
    with pytest.raises(SimulationError, match="Car 2 is in this block already"):
        block.grow(np.array([2]))


@settings(max_examples=10)
@given(st.integers(0, 2**63), st.sampled_from([1000, 5000, 20_000]), st.sampled_from(WearKind))
def test_every_value_lies_within_its_range_and_precision(
    seed: int, grid_ms: int, kind: WearKind
) -> None:
    fleet = plan(seed, grid_ms=grid_ms)
    block = FleetBlock(fleet, np.arange(12))
    block.begin_wear([PlannedFault(i, kind, START_MS, 1200) for i in range(6)])
    values = drive(block, 25)
    present = ~np.isnan(values)
    assert np.all(np.where(present, values >= CATALOGUE.low, True))
    assert np.all(np.where(present, values <= CATALOGUE.high, True))
    assert present[..., CATALOGUE.required].all()
    for position, signal in enumerate(CATALOGUE.signals):
        read = values[..., position]
        np.testing.assert_allclose(read, np.round(read, signal.precision), rtol=0, atol=1e-9)


def test_only_cars_without_a_battery_sensor_lack_signals() -> None:
    values = FleetBlock(plan(), np.arange(600)).sample(np.arange(600))
    lacking = np.isnan(values)
    names = {CATALOGUE.names[i] for i in np.flatnonzero(lacking.any(axis=0))}
    assert names == {"battery_percentage", "current_draw"}
    assert 0.03 < lacking[:, column("current_draw")].mean() < 0.15


def test_vehicle_ids_are_vins_of_the_plan() -> None:
    fleet = plan()
    block = FleetBlock(fleet, np.array([4, 2]))
    assert block.vins.tolist() == [fleet.vin(4).encode(), fleet.vin(2).encode()]
    assert all(is_vin(vin.decode()) for vin in block.vins.tolist())


def test_a_car_holds_less_than_a_kilobyte() -> None:
    assert FleetBlock(plan(), np.arange(100)).bytes_per_row < 1024


def test_a_leap_of_more_than_a_day_is_refused() -> None:
    block = FleetBlock(plan(), np.arange(1))
    with pytest.raises(SimulationError, match="at once"):
        block.step(START_MS + 2 * 86_400_000)


def test_a_high_speed_up_takes_a_coarser_grid() -> None:
    assert grid_for(1, interval_s=2) == 1000
    assert grid_for(1, interval_s=10) == 5000
    assert grid_for(60, interval_s=2) == 5000


def test_a_catalogue_that_requires_what_physics_does_not_know_is_refused() -> None:
    text = """
name: robots
namespace: io.motorcade.robots
identity: vin
signals:
  - {name: joint_angle, unit: °, range: [0, 360], precision: 1, vss: "overlay:Joint",
     required: true, type: float, feature: true, description: "Angle of the joint"}
"""
    fleet = FleetPlan(1, parse_catalogue(text, "robots.yaml"), RunClock())
    with pytest.raises(SimulationError, match="joint_angle"):
        FleetBlock(fleet, np.arange(2))


def test_a_failure_is_told_once_with_its_code_and_time() -> None:
    block = FleetBlock(plan(), np.arange(5))
    block.begin_wear([PlannedFault(3, WearKind.COOLANT_LEAK, START_MS + 60_000, 100)])
    block.step(START_MS + 159_000)
    assert block.failures() == []
    block.step(START_MS + 900_000)
    (failure,) = block.failures()
    assert (failure.row, failure.index, failure.code) == (3, 3, "P0217")
    assert failure.vin == plan().vin(3)
    assert failure.time_ms == START_MS + 160_000
    assert block.failures() == []


def test_a_fault_of_a_car_elsewhere_waits_until_the_car_joins() -> None:
    block = FleetBlock(plan(), np.arange(2))
    fault = PlannedFault(9, WearKind.TIRE_LEAK, START_MS, 100)
    block.begin_wear([fault])
    block.begin_wear([fault])  # told again by the master: nothing changes
    block.step(START_MS + 60_000)
    block.grow(np.array([9]))
    block.step(START_MS + 200_000)
    assert [failure.index for failure in block.failures()] == [9]


def test_a_car_takes_one_fault_only() -> None:
    block = FleetBlock(plan(), np.arange(2))
    block.begin_wear([PlannedFault(1, WearKind.TIRE_LEAK, START_MS, 100)])
    with pytest.raises(WearError, match="wears already"):
        block.begin_wear([PlannedFault(1, WearKind.MISFIRE, START_MS, 100)])


def test_a_replayed_car_drives_its_recording_and_begins_again() -> None:
    speeds = np.array([[3.0], [4.0], [np.nan]])
    recording = RecordedDrive("one.csv", np.array([column("speed")]), speeds, 1000)
    longer = RecordedDrive("two.csv", np.array([column("speed")]), np.full((50, 1), 9.0), 1000)
    fleet = plan(drives=(recording, longer), grid_ms=1000)
    block = FleetBlock(fleet, np.array([1, 0, 2]))
    values = drive(block, 6 / 60, every_s=1)
    np.testing.assert_array_equal(values[:, 1, column("speed")], [4, np.nan, 3, 4, np.nan, 3])
    np.testing.assert_array_equal(values[:, 0, column("speed")], 9.0)
    others = np.delete(values[:, :2], column("speed"), axis=2)
    assert np.isnan(others).all()
    assert not np.isnan(values[:, 2, column("coolant_temp")]).any()


def test_a_replayed_car_cannot_wear() -> None:
    recording = RecordedDrive("a.csv", np.array([column("speed")]), np.ones((3, 1)), 1000)
    block = FleetBlock(plan(drives=(recording,)), np.arange(2))
    with pytest.raises(WearError, match="Car 0 replays a recording"):
        block.begin_wear([PlannedFault(0, WearKind.MISFIRE, START_MS, 100)])
