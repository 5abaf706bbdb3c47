"""What is assembled from a stream: the right labels, within the limits, whatever the batches."""

import numpy as np
import pytest

from motorcade.fleet.messages import DiagnosticTroubleCode
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.labels.failures import Failures
from motorcade.ml.labels.split import by_vehicle
from motorcade.ml.models.base import Examples
from motorcade.ml.training.assemble import Assembled, Limits, assemble, draws
from motorcade.ml.windows import WindowSpec

from .telemetry import CATALOGUE, START_MS, Batches, correlated

MINUTE = 60_000
HORIZON_MS = 10 * MINUTE
CODES = {"coolant_leak": "P0217", "misfire": "P0300"}
SPEC = WindowSpec(rows=3)


def code(vin: bytes, minute: float, kind: str = "coolant_leak") -> DiagnosticTroubleCode:
    time = START_MS + round(minute * MINUTE)
    return DiagnosticTroubleCode(vin.decode(), START_MS, CODES[kind], kind, time, time)


def assembled(
    columns: TelemetryColumns,
    codes: list[DiagnosticTroubleCode],
    limits: Limits | None = None,
    size: int = 256,
) -> Assembled:
    split = by_vehicle(np.unique(columns.vin).tolist(), 0)
    return assemble(
        CATALOGUE,
        Batches(columns, size),
        Failures.of(codes),
        lambda vin: split.part_of[vin],
        [SPEC],
        horizon_ms=HORIZON_MS,
        limits=limits or Limits(),
    )


def of(examples: Examples, vin: bytes) -> Examples:
    return examples.take(examples.windows.vin == vin)


def test_examples_know_what_came_after_them_and_what_came_before() -> None:
    columns = correlated()
    split = by_vehicle(np.unique(columns.vin).tolist(), 0)
    failing, other = sorted(split.vehicles("train"))[:2]
    found = assembled(columns, [code(failing, 29.5), code(failing, 40, "misfire")])
    train = found.data[SPEC].train
    assert train.kinds == ("P0217", "P0300")
    mine = of(train, failing)
    assert mine.failure_ms[0].tolist() == [29.5 * MINUTE, 40 * MINUTE]
    assert mine.failure_ms[30].tolist() == [np.inf, 10 * MINUTE]
    assert mine.observed_ms.tolist() == [MINUTE * (59 - n) for n in range(60)]
    assert mine.after_failure.tolist() == [n > 29 for n in range(60)]
    assert mine.healthy(HORIZON_MS).tolist() == [n < 20 for n in range(60)]
    healthy = of(train, other)
    assert healthy.healthy(HORIZON_MS).all()
    assert healthy.known(HORIZON_MS).tolist() == [n < 50 for n in range(60)]
    assert mine.known(HORIZON_MS)[:41].all()


def test_no_vehicle_is_in_two_parts_and_those_that_judge_are_in_none() -> None:
    columns = correlated()
    split = by_vehicle(np.unique(columns.vin).tolist(), 0)
    data = assembled(columns, []).data[SPEC]
    for part, examples in (
        ("train", data.train),
        ("validate", data.validate),
        ("calibrate", data.calibrate),
    ):
        assert set(examples.windows.vin.tolist()) == split.vehicles(part)


@pytest.mark.parametrize("size", [1800, 61])
def test_thinned_examples_stand_for_all_and_those_near_failures_stay(size: int) -> None:
    columns = correlated(cars=60)
    split = by_vehicle(np.unique(columns.vin).tolist(), 0)
    failing = sorted(split.vehicles("train"))[:4]
    codes = [code(vin, 30) for vin in failing]
    limits = Limits(windows=400)
    train = assembled(columns, codes, limits, size).data[SPEC].train
    whole = assembled(columns, codes).data[SPEC].train
    assert len(train) <= 400 < len(whole)
    near, all_near = (one.next_failure_ms <= HORIZON_MS for one in (train, whole))
    assert near.sum() == all_near.sum()
    assert (train.weight[near] == 1).all()
    assert train.weight.sum() == pytest.approx(len(whole), rel=0.15)
    same = assembled(columns, codes, limits, 256).data[SPEC].train
    np.testing.assert_array_equal(same.windows.values, train.windows.values)


def test_a_window_is_the_same_whether_or_not_those_before_it_are_kept() -> None:
    columns = correlated(cars=60)
    thinned = assembled(columns, [], Limits(windows=400)).data[SPEC].train.windows
    whole = assembled(columns, []).data[SPEC].train.windows
    place = {
        (vin, time): row
        for row, (vin, time) in enumerate(zip(whole.vin.tolist(), whole.time.tolist(), strict=True))
    }
    rows = [
        place[vin, time]
        for vin, time in zip(thinned.vin.tolist(), thinned.time.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(thinned.values, whole.values[rows])


def test_what_is_drawn_for_a_message_depends_on_it_and_the_seed_alone() -> None:
    columns = correlated()
    drawn = draws(columns, 3)
    rows = np.array([7, 900, 12])
    np.testing.assert_array_equal(draws(columns.take(rows), 3), drawn[rows])
    assert (draws(columns, 4) != drawn).all()
    # Uniform: of 1,800 numbers a quarter each, within five standard deviations of 18.
    counts = np.histogram(drawn, bins=4, range=(0, 1))[0]
    assert np.abs(counts - 450).max() < 90
    assert len(np.unique(drawn)) == len(drawn)
