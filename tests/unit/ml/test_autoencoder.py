"""Scores: finite, the same in any batch, of what is present only; bad models are refused."""

from typing import Any

import msgspec
import numpy as np
import pytest

from motorcade.ml.errors import ModelRefusedError
from motorcade.ml.models.autoencoder import Autoencoder
from motorcade.ml.models.catalogue import load_model
from motorcade.ml.store import Manifest, Weights
from motorcade.ml.windows import Floats32

from .telemetry import CATALOGUE, correlated

Learnt = tuple[Manifest, Weights]


def windows(seed: int = 0) -> Floats32:
    """Of one message each."""
    return correlated(seed=seed).values[:, None, CATALOGUE.feature_columns].astype(np.float32)


def test_healthy_cars_that_never_trained_stay_below_the_threshold(model: Autoencoder) -> None:
    scores = model.score(windows(seed=5)).score
    assert (scores > model.manifest.threshold).mean() < 0.01


def test_one_signal_that_leaves_the_others_is_anomalous_and_named(model: Autoencoder) -> None:
    values = windows(seed=6)
    column = CATALOGUE.features.index("coolant_temp")
    values[..., column] += 6 * values[..., column].std()
    scores = model.score(values)
    assert (scores.score > model.manifest.threshold).mean() > 0.9
    named = scores.top[:, 0] == CATALOGUE.features.index("coolant_temp")
    assert named.mean() > 0.9
    assert (scores.share[:, 0] >= scores.share[:, 1]).all()
    assert (scores.share.sum(axis=1) <= 1 + 1e-9).all()


@pytest.mark.parametrize("size", [1, 3, 17, 256, 1000])
def test_a_score_is_the_same_to_the_last_bit_in_any_batch(model: Autoencoder, size: int) -> None:
    values = windows(seed=7)
    values[np.random.default_rng(0).random(values.shape) < 0.1] = np.nan
    whole = model.score(values)
    parts = [model.score(values[i : i + size]) for i in range(0, len(values), size)]
    for name in ("score", "coverage", "top", "share"):
        rows = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(
            rows.astype(np.float32), getattr(whole, name).astype(np.float32)
        )


def test_batches_of_any_size_are_traced_once(model: Autoencoder) -> None:
    values = windows()
    for size in (1, 2, 100, 999):
        model.score(values[:size])
    graph: Any = model._call
    assert graph.experimental_get_tracing_count() == 1


def test_an_absent_signal_contributes_nothing(model: Autoencoder) -> None:
    values = windows(seed=8)
    values[..., 4] = np.nan
    scores = model.score(values)
    assert np.isfinite(scores.score).all()
    assert ((scores.top != 4) | (scores.share == 0)).all()
    assert scores.coverage == pytest.approx((len(CATALOGUE.features) - 1) / 18)


def test_below_the_minimum_coverage_there_is_no_score(model: Autoencoder) -> None:
    values = windows(seed=9)[:2]
    values[0, :, 9:] = np.nan
    values[1, :, 8:] = np.nan
    scores = model.score(values)
    assert np.isfinite(scores.score).tolist() == [True, False]
    assert scores.coverage.tolist() == [0.5, pytest.approx(8 / 18)]


def test_a_message_without_any_feature_is_no_error(model: Autoencoder) -> None:
    scores = model.score(np.full((2, 1, len(CATALOGUE.features)), np.nan, dtype=np.float32))
    assert np.isnan(scores.score).all()
    assert (scores.coverage == 0).all()


def changed(manifest: Manifest, changes: dict[str, object]) -> Manifest:
    return msgspec.structs.replace(manifest, **changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "transformer"}, "has architecture 'transformer'"),
        ({"features": ["a"] * 18}, "features are not those of the catalogue"),
        ({"features": ["coolant_temp"]}, "not all 1 features long"),
        ({"mean": [float("nan")] * 18}, "not finite and positive"),
        ({"std": [0.0] * 18}, "not finite and positive"),
        ({"residual": [-1.0] * 18}, "not finite and positive"),
        ({"threshold": float("inf")}, "not finite and positive"),
        ({"threshold": 0.0}, "threshold or minimum coverage"),
        ({"minimum_coverage": 1.5}, "threshold or minimum coverage"),
        ({"learnt": [False] * 18}, "learnt no feature"),
    ],
)
def test_a_manifest_that_no_training_gives_is_refused(
    learnt: Learnt, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(ModelRefusedError, match=reason):
        load_model(changed(learnt[0], changes), learnt[1], CATALOGUE)


def test_weights_of_another_shape_are_refused(learnt: Learnt) -> None:
    weights = learnt[1] | {"dense_1/bias": np.zeros(9, dtype=np.float32)}
    with pytest.raises(ModelRefusedError, match="do not fit"):
        Autoencoder(learnt[0], weights, CATALOGUE)


def test_a_model_whose_scores_are_not_finite_is_refused(learnt: Learnt) -> None:
    # Finite numbers, each within its limits, whose product leaves the floats.
    manifest = changed(learnt[0], {"residual": [1e-300] * 18})
    with pytest.raises(ModelRefusedError, match="does not give finite scores"):
        Autoencoder(manifest, learnt[1], CATALOGUE)
