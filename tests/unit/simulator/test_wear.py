"""Wear grows, shows in several signals before anything breaks, and ends in a trouble code."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motorcade.fleet.arrays import Bools, Floats
from motorcade.simulator.block import FleetBlock
from motorcade.simulator.population import plan_faults
from motorcade.simulator.recorded import RecordedDrive
from motorcade.simulator.wear import (
    CODES,
    DEFAULT_DURATION_S,
    PlannedFault,
    WearError,
    WearKind,
    severity_at,
)
from tests.unit.simulator.fleets import CATALOGUE, START_MS, column, drive, plan

#: What each kind of wear moves most, in telemetry.
_SHOWS: dict[WearKind, tuple[str, ...]] = {
    WearKind.COOLANT_LEAK: ("coolant_temp", "oil_temp", "intake_air_temp"),
    WearKind.BEARING_WEAR: ("engine_vibration_amplitude", "oil_temp", "intake_air_flow_speed"),
    WearKind.MISFIRE: ("engine_vibration_amplitude", "intake_air_flow_speed", "engine_rpm"),
    WearKind.TIRE_LEAK: ("tire_pressure_1_2", "accelerometer_1_2_value"),
    WearKind.CELL_DEGRADATION: ("battery_voltage", "battery_percentage", "current_draw"),
    WearKind.SENSOR_DRIFT: ("intake_air_flow_speed",),
    WearKind.FIRMWARE_FAULT: ("engine_rpm", "throttle_pos"),
    WearKind.DRIVESHAFT_SHOCK: (
        "accelerometer_1_1_value",
        "accelerometer_1_2_value",
        "engine_vibration_amplitude",
    ),
}


@given(st.lists(st.floats(-1, 2), min_size=2))
def test_severity_never_falls_and_stays_within_nought_and_one(shares: list[float]) -> None:
    severity = severity_at(np.sort(np.array(shares)))
    assert np.all(np.diff(severity) >= 0)
    assert np.all((severity >= 0) & (severity <= 1))


@given(st.floats(0, 1), st.floats(0, 1))
def test_damage_feeds_on_itself(a: float, b: float) -> None:
    ends = severity_at(np.array([a, b, (a + b) / 2]))
    assert ends[2] <= (ends[0] + ends[1]) / 2 + 1e-12


@pytest.mark.parametrize("kind", WearKind)
def test_a_worn_car_is_its_healthy_twin_until_the_onset_and_differs_after(kind: WearKind) -> None:
    cars = np.arange(20)
    onset = START_MS + 600_000
    worn, twin = FleetBlock(plan(), cars), FleetBlock(plan(), cars)
    worn.begin_wear([PlannedFault(int(car), kind, onset, 3060) for car in cars])
    np.testing.assert_array_equal(drive(worn, 10), drive(twin, 10))
    np.testing.assert_array_equal(worn.severity(cars), 0)
    for _ in range(5):
        before = worn.severity(cars)
        late, sound = drive(worn, 10), drive(twin, 10)
        assert np.all(worn.severity(cars) > before)
    spread = np.nanstd(sound, axis=(0, 1))
    for name in _SHOWS[kind]:
        at = column(name)
        moved = np.sqrt(np.nanmean((late[..., at] - sound[..., at]) ** 2)) / spread[at]
        assert moved > 0.3, name
    assert worn.failures() == []
    drive(worn, 1)
    assert {failure.code for failure in worn.failures()} == {CODES[kind].code}


def test_a_leak_heats_the_coolant_more_and_more() -> None:
    cars = np.arange(40)
    block = FleetBlock(plan(), cars)
    block.begin_wear([PlannedFault(int(c), WearKind.COOLANT_LEAK, START_MS, 5400) for c in cars])
    quarters = [np.median(drive(block, 22.5)[..., column("coolant_temp")]) for _ in range(4)]
    assert quarters == sorted(quarters)
    assert quarters[3] > 105


class _Mahalanobis:
    """A plain detector: squared distance from healthy cars, threshold at 1 false in 1,000."""

    def __init__(self, healthy: Floats) -> None:
        self._mean = np.nanmean(healthy, axis=0)
        self._std = np.maximum(np.nanstd(healthy, axis=0), 1e-6)
        scaled = self._scale(healthy)
        self._inverse = np.linalg.inv(np.cov(scaled.T) + 1e-3 * np.eye(scaled.shape[1]))
        self._threshold = np.quantile(self._distance(healthy), 0.999)

    def _scale(self, values: Floats) -> Floats:
        scaled: Floats = np.nan_to_num((values - self._mean) / self._std)
        return scaled

    def _distance(self, values: Floats) -> Floats:
        scaled = self._scale(values)
        squares: Floats = np.einsum("...i,ij,...j->...", scaled, self._inverse, scaled)
        return squares

    def beyond(self, values: Floats) -> Bools:
        return self._distance(values) > self._threshold


@pytest.fixture(scope="module")
def detector() -> _Mahalanobis:
    features = CATALOGUE.feature_columns
    values = drive(FleetBlock(plan(seed=1), np.arange(400)), 60, every_s=120)[..., features]
    return _Mahalanobis(values.reshape(-1, len(features)))


def test_healthy_cars_stay_within_what_healthy_cars_did_hours_before(
    detector: _Mahalanobis,
) -> None:
    block = FleetBlock(plan(seed=2), np.arange(200))
    block.step(START_MS + 5 * 3_600_000)
    values = drive(block, 60, every_s=120)[..., CATALOGUE.feature_columns]
    assert detector.beyond(values).mean() < 0.004


@pytest.mark.parametrize("kind", [WearKind.COOLANT_LEAK, WearKind.BEARING_WEAR])
def test_wear_stands_out_half_an_hour_before_failure(
    detector: _Mahalanobis, kind: WearKind
) -> None:
    cars = np.arange(40)
    duration = DEFAULT_DURATION_S[kind]
    block = FleetBlock(plan(seed=3), cars)
    block.begin_wear([PlannedFault(int(car), kind, START_MS, duration) for car in cars])
    block.step(START_MS + round((duration - 45 * 60) * 1000))
    values = drive(block, 15, every_s=60)[..., CATALOGUE.feature_columns]
    beyond = detector.beyond(values)
    assert beyond.mean() > 0.85
    assert np.all(beyond.mean(axis=0) > 0.3)


def test_planned_faults_are_the_same_again_and_never_a_replayed_car() -> None:
    recording = RecordedDrive("a.csv", np.array([column("speed")]), np.ones((3, 1)), 1000)
    fleet = plan(drives=(recording,) * 5)
    kinds = [WearKind.COOLANT_LEAK, WearKind.BEARING_WEAR]
    faults = plan_faults(fleet, 12, 7, kinds, START_MS, 4, spread_s=600)
    assert faults == plan_faults(fleet, 12, 7, kinds, START_MS, 4, spread_s=600)
    assert [fault.index for fault in faults] == list(range(5, 12))
    assert {fault.kind for fault in faults} == set(kinds)
    assert all(START_MS <= fault.onset_ms <= START_MS + 600_000 for fault in faults)
    other = plan_faults(plan(), 1000, 7, kinds, START_MS, 5)
    assert other != plan_faults(plan(), 1000, 7, kinds, START_MS, 6)


def test_more_faults_than_cars_are_refused() -> None:
    with pytest.raises(WearError, match="4 faults were asked for, but 3 synthetic cars"):
        plan_faults(plan(), 3, 4, [WearKind.MISFIRE], START_MS)
    with pytest.raises(WearError, match="No kind of wear"):
        plan_faults(plan(), 3, 1, [], START_MS)


def test_every_kind_has_a_code_and_a_duration() -> None:
    assert set(CODES) == set(DEFAULT_DURATION_S) == set(WearKind)
