"""A generated set holds what the live fleet's block reads, whatever the number of processes."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from motorcade.fleet.catalogue import load_catalogue, shipped_catalogue
from motorcade.fleet.clock import RunClock
from motorcade.simulator.blocks import block_of
from motorcade.simulator.generate.plan import (
    GenerateError,
    SetPlan,
    faults_within,
    truth,
)
from motorcade.simulator.generate.share import Share
from motorcade.simulator.population import FleetPlan
from motorcade.simulator.wear import LIMP_MS, Failure, WearKind
from tests.unit.simulator.fleets import CATALOGUE, START_MS

BOOT = 1_790_000_000_000
Sample = tuple[int, int, bytes]  # seq, event time, values


def plan(cars: int = 12, minutes: float = 20, faults: int = 0, **fleet: Any) -> SetPlan:
    options = {"grid_ms": 5000, **fleet}
    catalogue = options.pop("catalogue", CATALOGUE)
    chosen = FleetPlan(7, catalogue, RunClock(0, START_MS, 1.0), **options)
    end_ms = START_MS + round(minutes * 60_000)
    worn = faults_within(chosen, cars, faults, list(WearKind), START_MS, end_ms, duration_s=600)
    return SetPlan(chosen, cars, START_MS, end_ms, 10_000, BOOT, worn)


def drive(one: SetPlan, workers: int = 1) -> tuple[dict[bytes, list[Sample]], list[Failure]]:
    """Every car's samples in the order they come, and the failures."""
    samples: dict[bytes, list[Sample]] = defaultdict(list)
    failures: list[Failure] = []
    for worker in range(workers):
        for moment in Share(one, worker, workers).moments():
            failures += moment.failures
            for columns in moment.telemetry:
                assert (columns.boot == BOOT).all()
                for row, vin in enumerate(columns.vin.tolist()):
                    values = columns.values[row].tobytes()
                    samples[vin].append((int(columns.seq[row]), int(columns.time[row]), values))
    return samples, failures


def test_samples_are_what_the_block_reads_at_each_cars_own_time() -> None:
    one = plan()
    samples, _ = drive(one)
    assert len(samples) == 12
    block = block_of(one.fleet, np.arange(12), START_MS)
    seen: dict[int, dict[bytes, bytes]] = {}
    for event_ms in range(START_MS, one.end_ms, 5000):
        block.step(event_ms)
        values = block.sample(np.arange(12))
        seen[event_ms] = {vin: values[row].tobytes() for row, vin in enumerate(block.vins.tolist())}
    for vin, found in samples.items():
        assert [seq for seq, _, _ in found] == list(range(1, 121))
        times = [time for _, time, _ in found]
        assert set(np.diff(times).tolist()) == {10_000}
        assert START_MS <= times[0] < START_MS + 10_000
        assert all(values == seen[time - time % 5000][vin] for _, time, values in found)
    assert len({found[0][1] for found in samples.values()}) == 12, "each has its own phase"


def test_the_number_of_processes_changes_nothing() -> None:
    one = plan(faults=6)
    assert drive(one, 1)[0] == drive(one, 5)[0]
    key = lambda failure: (failure.time_ms, failure.vin, failure.kind)  # noqa: E731
    assert sorted(map(key, drive(one, 1)[1])) == sorted(map(key, drive(one, 5)[1]))


def test_every_planned_fault_fails_within_the_set_and_the_car_is_parked_after_a_minute() -> None:
    one = plan(minutes=40, faults=6)
    samples, failures = drive(one)
    assert {f.index: f.time_ms for f in failures} == {f.index: f.failure_ms for f in one.faults}
    assert len({fault.kind for fault in one.faults}) == 6
    for failure in failures:
        last = samples[failure.vin.encode()][-1][1]
        assert last < failure.time_ms + LIMP_MS + 10_000
        assert last > failure.time_ms + LIMP_MS - 15_000 or last > one.end_ms - 15_000
    healthy = {v for v, found in samples.items() if len(found) == 240}
    assert len(healthy) == 6


def test_the_truth_names_onsets_failures_and_the_set() -> None:
    one = plan(faults=3)
    document = truth(one, drive(one)[1])
    assert document["set"] | {} == {
        "seed": 7,
        "car": "motorcade",
        "catalogue": "car",
        "cars": 12,
        "start_ms": START_MS,
        "end_ms": START_MS + 1_200_000,
        "interval_ms": 10_000,
        "boot": BOOT,
    }
    onsets = {fault["vin"]: fault["onset_ms"] for fault in document["faults"]}
    assert {failure["vin"] for failure in document["failures"]} == set(onsets)
    for failure in document["failures"]:
        assert onsets[failure["vin"]] + 600_000 == failure["time"]


def test_the_demos_cars_go_on_with_their_failures() -> None:
    demo = load_catalogue(shipped_catalogue("demo"))
    one = plan(catalogue=demo, car="demo", minutes=10)
    samples, failures = drive(one)
    assert {len(found) for found in samples.values()} == {60}
    assert len(failures) == 12
    label = demo.column("failure_occurred")
    for failure in failures:
        for _, time, values in samples[failure.vin.encode()]:
            assert np.frombuffer(values)[label] == (time - time % 5000 >= failure.time_ms)


def test_faults_that_take_longer_than_the_set_are_refused() -> None:
    fleet = plan().fleet
    with pytest.raises(GenerateError, match=r"takes 240 min .* the set is 60 min long"):
        faults_within(fleet, 9, 1, [WearKind.CELL_DEGRADATION], START_MS, START_MS + 3_600_000)
    with pytest.raises(GenerateError, match="a time to drive in"):
        SetPlan(fleet, 1, START_MS, START_MS, 10_000, BOOT)


def test_an_interval_may_be_shorter_than_the_grid() -> None:
    one = plan(cars=3, minutes=0.5, grid_ms=1000)
    fast = SetPlan(one.fleet, 3, one.start_ms, one.end_ms, 250, BOOT)
    samples, _ = drive(fast)
    assert {len(found) for found in samples.values()} == {120}
