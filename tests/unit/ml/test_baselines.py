"""PCA and Mahalanobis: they find what leaves the others, and absent signals are left out."""

import numpy as np
import pytest

from motorcade.ml.errors import ModelRefusedError, TrainingError
from motorcade.ml.models.catalogue import architecture, load_model
from motorcade.ml.models.quadratic import Gaps, QuadraticModel
from motorcade.ml.training.learn import Candidate
from motorcade.ml.windows import Floats32

from .learning import learnt_by
from .telemetry import CATALOGUE, correlated

NAMES = ("pca", "mahalanobis")


@pytest.fixture(scope="module", params=NAMES)
def candidate(request: pytest.FixtureRequest) -> Candidate:
    return learnt_by(architecture(request.param), correlated())


def samples(seed: int) -> Floats32:
    values = correlated(seed=seed).values[:, CATALOGUE.feature_columns]
    return values[:, None, :].astype(np.float32)


def test_healthy_cars_that_never_trained_stay_below_the_threshold(candidate: Candidate) -> None:
    scores = candidate.model.score(samples(5)).score
    assert (scores > candidate.manifest.threshold).mean() < 0.01


def test_one_signal_that_leaves_the_others_is_anomalous_and_named(candidate: Candidate) -> None:
    values = samples(6)
    position = CATALOGUE.features.index("coolant_temp")
    values[..., position] += 6 * values[..., position].std()
    scores = candidate.model.score(values)
    assert (scores.score > candidate.manifest.threshold).mean() > 0.95
    assert (scores.top[:, 0] == position).mean() > 0.9
    assert (scores.share[:, 0] >= scores.share[:, 1]).all()
    assert (scores.share.sum(axis=1) <= 1 + 1e-9).all()


def test_an_anomaly_model_says_nothing_of_failures(candidate: Candidate) -> None:
    scores = candidate.model.score(samples(6)[:5])
    assert np.isnan(scores.probability).all()
    assert np.isnan(scores.life).all()
    assert (scores.kind == -1).all()


def test_absent_signals_contribute_nothing_and_too_few_give_no_score(candidate: Candidate) -> None:
    values = samples(8)[:3]
    values[0, :, 4] = np.nan
    values[1, :, 8:] = np.nan
    values[2] = np.nan
    scores = candidate.model.score(values)
    assert np.isfinite(scores.score).tolist() == [True, False, False]
    assert scores.coverage == pytest.approx([17 / 18, 8 / 18, 0])
    assert ((scores.top != 4) | (scores.share == 0))[0].all()


@pytest.mark.parametrize("size", [1, 17, 256])
def test_a_score_is_the_same_in_any_batch(candidate: Candidate, size: int) -> None:
    values = samples(7)[:600]
    values[np.random.default_rng(0).random(values.shape) < 0.05] = np.nan
    whole = candidate.model.score(values)
    parts = [candidate.model.score(values[i : i + size]) for i in range(0, len(values), size)]
    for name in ("score", "coverage", "top", "share"):
        rows = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(
            rows.astype(np.float32), getattr(whole, name).astype(np.float32)
        )


def test_a_stored_model_scores_alike_and_a_strange_one_is_refused(candidate: Candidate) -> None:
    again = load_model(candidate.manifest, candidate.weights, CATALOGUE)
    values = samples(9)
    np.testing.assert_array_equal(again.score(values).score, candidate.model.score(values).score)
    for name in ("covariance", "root"):
        strange = {**candidate.weights, name: candidate.weights[name][1:]}
        with pytest.raises(ModelRefusedError, match=name):
            load_model(candidate.manifest, strange, CATALOGUE)


def test_a_mahalanobis_distance_with_gaps_is_that_of_the_signals_that_are_there() -> None:
    candidate = learnt_by(architecture("mahalanobis"), correlated())
    assert isinstance(candidate.model, QuadraticModel)
    values = samples(10)
    absent = [2, 3, 11]
    values[:, :, absent] = np.nan
    here = np.setdiff1d(np.arange(18), absent)
    inputs, _ = candidate.model.scale.apply(values[:, 0].astype(np.float64))
    covariance = candidate.weights["covariance"][np.ix_(here, here)]
    rows = inputs[:, here]
    expected = np.einsum("nf,fg,ng->n", rows, np.linalg.inv(covariance), rows) / 18
    np.testing.assert_allclose(candidate.model.score(values).score, expected, rtol=1e-6)


def test_a_gap_is_filled_with_what_the_other_signals_let_expect() -> None:
    covariance = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, 0.0], [0.0, 0.0, 1.0]])
    rows = np.array([[2.0, 0.0, 1.0], [2.0, 1.5, 0.0], [0.0, 0.0, 0.0]])
    present = np.array([[True, False, True], [True, True, False], [False, False, False]])
    filled = Gaps(covariance).filled(rows, present)
    np.testing.assert_allclose(filled, [[2.0, 1.6, 1.0], [2.0, 1.5, 0.0], [0.0, 0.0, 0.0]])


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_of_single_samples_refuses_longer_windows(name: str) -> None:
    found = architecture(name)
    longer = type("Longer", (type(found),), {"window": architecture("boosted").window})()
    with pytest.raises(TrainingError, match="one sample at a time"):
        learnt_by(longer, correlated())
