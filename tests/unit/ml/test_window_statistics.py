"""Window statistics are those of a plain loop, and residuals show what no signal alone does."""

import numpy as np
import pytest

from motorcade.fleet.arrays import Floats
from motorcade.ml.errors import ModelRefusedError
from motorcade.ml.features import Scale
from motorcade.ml.window_statistics import STATISTICS, WindowStatistics
from motorcade.ml.windows import Floats32

N, ROWS, FEATURES = 400, 12, 5


def windows(seed: int = 0, noise: float = 0.1) -> Floats32:
    """Signals 0 to 2 are free, 3 follows the first two, 4 the square of the third."""
    rng = np.random.default_rng(seed)
    free = rng.normal(size=(N, ROWS, 3))
    third = free[..., 0] - 2 * free[..., 1] + noise * rng.normal(size=(N, ROWS))
    fourth = free[..., 2] ** 2 + noise * rng.normal(size=(N, ROWS))
    found = np.concatenate([free, third[..., None], fourth[..., None]], axis=-1)
    scaled: Floats32 = (found * [1, 10, 2, 5, 3] + [90, 5, 0, -7, 1000]).astype(np.float32)
    return scaled


def with_gaps(found: Floats32) -> Floats32:
    """Some cars lack a signal, some windows begin late, some values are missing."""
    rng = np.random.default_rng(7)
    found = found.copy()
    found[:40, :, 1] = np.nan
    found[40:60, :9] = np.nan
    found[60:70, :, :] = np.nan
    found[rng.random(found.shape) < 0.02] = np.nan
    return found


def learnt(found: Floats32) -> WindowStatistics:
    rows = found.reshape(-1, FEATURES).astype(np.float64)
    names = tuple(f"signal_{number}" for number in range(FEATURES))
    scale = Scale(names, np.nanmean(rows, 0), np.nanstd(rows, 0), np.ones(FEATURES, dtype=bool))
    return WindowStatistics.learn(scale, found)


LEARNT = learnt(with_gaps(windows(seed=1)))
GIVEN = with_gaps(windows(seed=2))
FOUND = dict(
    zip(STATISTICS, np.moveaxis(LEARNT.of(GIVEN).reshape(N, -1, FEATURES), 1, 0), strict=True)
)


def plain(name: str, values: Floats) -> float:
    """One statistic of one signal's standardised course, NaN where absent."""
    here = np.flatnonzero(np.isfinite(values))
    if name == "last":
        return float(values[-1])
    if not len(here):
        return np.nan
    course = values[here]
    if name == "slope":
        return float(np.polyfit(here, course, 1)[0] * ROWS) if len(here) > 1 else np.nan
    if name == "change":
        later, earlier = course[here >= ROWS // 2], course[here < ROWS // 2]
        return float(later.mean() - earlier.mean()) if len(later) and len(earlier) else np.nan
    whole = {
        "mean": course.mean(),
        "std": course.std(),
        "lowest": course.min(),
        "highest": course.max(),
    }
    return float(whole[name])


@pytest.mark.parametrize("name", ["last", "mean", "std", "slope", "lowest", "highest", "change"])
def test_a_statistic_is_that_of_a_plain_loop(name: str) -> None:
    inputs = (GIVEN.astype(np.float64) - LEARNT.scale.mean) / LEARNT.scale.std
    expected = [[plain(name, inputs[i, :, f]) for f in range(FEATURES)] for i in range(N)]
    np.testing.assert_allclose(FOUND[name], expected, atol=2e-5)


def test_what_the_other_signals_explain_is_not_in_the_residual() -> None:
    # What is left is the noise, in units of the signal's spread.
    assert np.nanmedian(FOUND["residual_rms"][70:, 3]) < 0.1
    assert np.nanmedian(FOUND["residual_rms"][70:, 4]) < 0.2
    assert np.nanmedian(FOUND["std"][70:, 3:]) > 0.8


def test_a_drifting_sensor_shows_in_its_residual_alone() -> None:
    drifted = windows(seed=3)
    # A tenth of a spread per row, within what is ordinary for the signal itself.
    drifted[..., 3] += 0.1 * LEARNT.scale.std[3] * np.arange(ROWS)
    columns = LEARNT.of(drifted).reshape(N, -1, FEATURES)
    healthy = LEARNT.of(windows(seed=3)).reshape(N, -1, FEATURES)

    def parted(name: str) -> float:
        place = STATISTICS.index(name)
        after, before = columns[:, place, 3], healthy[:, place, 3]
        return float((after > np.quantile(before, 0.99)).mean())

    assert parted("residual") > 0.99
    assert parted("residual_change") > 0.99
    assert parted("mean") < 0.7


def test_a_car_without_a_signal_is_expected_without_it() -> None:
    whole = LEARNT.of(windows(seed=4)).reshape(N, -1, FEATURES)
    lacking = windows(seed=4)
    lacking[..., 1] = np.nan
    columns = LEARNT.of(lacking).reshape(N, -1, FEATURES)
    place = STATISTICS.index("residual_rms")
    assert np.isnan(columns[:, :, 1]).all()
    # The third needed it: unexplained now; the fourth did not.
    assert np.median(columns[:, place, 3]) > 0.5
    assert abs(np.mean(columns[:, STATISTICS.index("residual"), 3])) < 0.15
    np.testing.assert_allclose(columns[:, place, 4], whole[:, place, 4], atol=0.1)


@pytest.mark.parametrize("size", [1, 3, 129])
def test_a_window_has_the_same_statistics_in_any_batch(size: int) -> None:
    whole = LEARNT.of(GIVEN)
    parts = [LEARNT.of(GIVEN[i : i + size]) for i in range(0, N, size)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_an_empty_window_says_nothing_and_is_no_error() -> None:
    assert np.isnan(LEARNT.of(np.full((2, ROWS, FEATURES), np.nan, np.float32))).all()


def test_what_is_stored_comes_back() -> None:
    again = WindowStatistics.from_weights(LEARNT.weights(), LEARNT.scale, STATISTICS)
    np.testing.assert_array_equal(again.of(GIVEN), LEARNT.of(GIVEN))


def test_arrays_of_other_features_and_unknown_statistics_are_refused() -> None:
    weights = LEARNT.weights()
    with pytest.raises(ModelRefusedError, match="lack"):
        WindowStatistics.from_weights({}, LEARNT.scale, STATISTICS)
    short = {**weights, "coefficients": weights["coefficients"][:, 1:]}
    with pytest.raises(ModelRefusedError, match="5 features"):
        WindowStatistics.from_weights(short, LEARNT.scale, STATISTICS)
    with pytest.raises(ModelRefusedError, match="kurtosis"):
        WindowStatistics.from_weights(weights, LEARNT.scale, ["mean", "kurtosis"])
