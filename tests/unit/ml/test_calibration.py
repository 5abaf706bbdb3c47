"""Log-odds become honest probabilities, and the threshold leaves room on both sides."""

import numpy as np
import pytest

from motorcade.fleet.arrays import Floats
from motorcade.fleet.vin import generate_vin
from motorcade.ml.models.base import Examples
from motorcade.ml.models.calibration import Sigmoid, expected_failures, probability, threshold
from motorcade.ml.windows import Windows

HORIZON = 3_600_000


def examples(ahead: Floats, cars: int) -> Examples:
    """Examples of some cars in turn, each `ahead` milliseconds before its failure."""
    n = len(ahead)
    vins = np.array([generate_vin(3, row % cars) for row in range(n)], dtype="S17")
    zeros = np.zeros(n, dtype=np.int64)
    windows = Windows(
        np.zeros((n, 1, 1), np.float32), vin=vins, boot=zeros, time=zeros, filled=zeros
    )
    return Examples(
        windows,
        failure_ms=ahead[:, None],
        observed_ms=np.full(n, 100.0 * HORIZON),
        after_failure=np.zeros(n, dtype=bool),
        weight=np.ones(n),
        kinds=("P0217",),
    )


def test_a_distorted_probability_is_set_right() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(-2, 2, 50_000)
    failed = rng.random(50_000) < probability(true)
    found = Sigmoid.fitted((true - 1) / 3, failed, np.ones(50_000))
    assert found.slope == pytest.approx(3, rel=0.05)
    assert found.offset == pytest.approx(1, abs=0.1)


def test_an_example_counts_as_the_messages_that_it_stands_for() -> None:
    rng = np.random.default_rng(1)
    raw = rng.normal(0, 2, 40_000)
    failed = rng.random(40_000) < probability(raw)
    # Of those that did not fail every tenth was kept.
    kept = failed | (rng.random(40_000) < 0.1)
    weight = np.where(failed, 1.0, 10.0)[kept]
    found = Sigmoid.fitted(raw[kept], failed[kept], weight)
    said = probability(found.log_odds(raw))
    assert said.mean() == pytest.approx(failed.mean(), rel=0.05)


def test_examples_parted_without_error_do_not_make_it_a_step() -> None:
    raw = np.r_[np.full(50, -3.0), np.full(50, 3.0)]
    found = Sigmoid.fitted(raw, raw > 0, np.ones(100))
    said = probability(found.log_odds(raw))
    assert 0.9 < said[-1] < 1 - 1e-3
    assert 1e-3 < said[0] < 0.1


def test_an_order_that_tells_nothing_is_kept() -> None:
    raw = np.linspace(-1, 1, 100)
    found = Sigmoid.fitted(raw, raw < 0, np.ones(100))
    assert (np.diff(found.log_odds(raw)) > 0).all()


def test_expected_failures_grow_where_a_probability_sticks() -> None:
    log_odds = np.array([-800.0, 0.0, 30.0, 40.0, 800.0])
    np.testing.assert_allclose(probability(log_odds), [0, 0.5, 1, 1, 1], atol=1e-12)
    assert (np.diff(expected_failures(log_odds)) > 0).all()
    np.testing.assert_allclose(
        expected_failures(log_odds[:2]), -np.log1p(-probability(log_odds[:2])), atol=1e-12
    )


def test_the_threshold_is_between_healthy_cars_and_what_failing_ones_reach_in_time() -> None:
    ahead = np.r_[np.full(500, np.inf), np.linspace(0, HORIZON, 500)]
    log_odds = np.r_[np.linspace(-6, 0, 500), np.linspace(9, 6, 500)]
    found = threshold(log_odds, examples(ahead, 10), HORIZON)
    assert 3 < found < 8


def test_a_car_just_beyond_the_horizon_may_look_ill() -> None:
    ahead = np.r_[np.full(500, np.inf), np.full(20, 1.5 * HORIZON), np.linspace(0, HORIZON, 500)]
    log_odds = np.r_[np.linspace(-6, 0, 500), np.full(20, 5.0), np.linspace(9, 6, 500)]
    with_it = threshold(log_odds, examples(ahead, 10), HORIZON)
    without = np.r_[0:500, 520:1020]
    assert with_it == threshold(log_odds[without], examples(ahead[without], 10), HORIZON)


def test_without_room_the_threshold_stands_above_the_healthy_cars() -> None:
    ahead = np.r_[np.full(500, np.inf), np.linspace(0, HORIZON, 500)]
    log_odds = np.r_[np.linspace(-6, 4, 500), np.linspace(3, 1, 500)]
    assert threshold(log_odds, examples(ahead, 10), HORIZON) == pytest.approx(4.5)
