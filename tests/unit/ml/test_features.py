"""Normalisation is learnt from the training vehicles alone, and absence never leaks a number."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.errors import ModelRefusedError, TrainingError
from motorcade.ml.features import Scale

from .telemetry import CATALOGUE, correlated

FEATURES = CATALOGUE.feature_columns


def scale_of(columns: TelemetryColumns) -> Scale:
    return Scale.learnt_from(columns.values[:, FEATURES].astype(np.float32), CATALOGUE)


@given(seed=st.integers(0, 50), absent=st.floats(0, 0.8))
def test_mean_and_spread_are_those_of_what_is_present(seed: int, absent: float) -> None:
    columns = correlated(cars=20, messages=20, seed=seed)
    rng = np.random.default_rng(seed)
    columns.values[rng.random(columns.values.shape) < absent] = np.nan
    scale = scale_of(columns)
    rows = columns.values[:, FEATURES]
    off = np.abs(scale.mean - np.nanmean(rows, axis=0))
    assert (off <= 1e-4 * np.nanstd(rows, axis=0) + 1e-6).all()  # a mean may be near 0
    steps = np.array([10.0**-s.precision for s in CATALOGUE.signals if s.feature])
    expected = np.maximum(np.nanstd(rows, axis=0), steps)
    np.testing.assert_allclose(scale.std, expected, rtol=1e-4)


def test_a_signal_that_only_rounds_keeps_a_spread_of_one_step() -> None:
    columns = correlated()
    columns.values[:, CATALOGUE.column("coolant_temp")] = 88.0
    position = CATALOGUE.features.index("coolant_temp")
    assert scale_of(columns).std[position] == pytest.approx(0.01)


def test_a_feature_that_was_hardly_ever_present_is_not_learnt() -> None:
    columns = correlated()
    columns.values[5:, CATALOGUE.column("battery_percentage")] = np.nan
    scale = scale_of(columns)
    assert [n for n, known in zip(scale.names, scale.learnt, strict=True) if not known] == [
        "battery_percentage"
    ]


def test_features_that_mostly_stand_still_cannot_teach_and_are_named() -> None:
    columns = correlated()
    columns.values[:, FEATURES[:10]] = 50.0
    with pytest.raises(TrainingError, match=r"10 of 18 features are absent or constant.*speed"):
        scale_of(columns)


def test_absent_and_infinite_values_become_the_mean_and_are_masked() -> None:
    n = len(FEATURES)
    learnt = np.ones(n, dtype=bool)
    learnt[2] = False
    scale = Scale(CATALOGUE.features, np.full(n, 5.0), np.full(n, 2.0), learnt)
    rows = np.full((1, n), 9.0)
    rows[0, :2] = np.nan, np.inf
    inputs, present = scale.apply(rows)
    assert inputs[0, :4].tolist() == [0, 0, 0, 2]
    assert present[0, :4].tolist() == [False, False, False, True]
    assert scale.coverage(present)[0] == pytest.approx((n - 3) / (n - 1))


def test_another_catalogues_features_are_refused_by_name() -> None:
    n = len(FEATURES)
    names = ("warp_factor", *CATALOGUE.features[1:])
    scale = Scale(names, np.zeros(n), np.ones(n), np.ones(n, dtype=bool))
    with pytest.raises(ModelRefusedError, match=r"here: warp_factor; .*model: coolant_temp"):
        scale.columns(CATALOGUE)
    reordered = Catalogue.model_validate(
        CATALOGUE.model_dump() | {"signals": CATALOGUE.model_dump()["signals"][::-1]}
    )
    same = Scale(CATALOGUE.features, np.zeros(n), np.ones(n), np.ones(n, dtype=bool))
    with pytest.raises(ModelRefusedError, match="order differs"):
        same.columns(reordered)
