"""Boosted trees foretell failures of a fleet in which some cars break, and say of which kind."""

import re

import msgspec
import numpy as np
import pytest

from motorcade.fleet.arrays import Bools, Floats
from motorcade.fleet.messages import DiagnosticTroubleCode
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.errors import ModelRefusedError, TrainingError
from motorcade.ml.labels.failures import Failures
from motorcade.ml.models.base import Model, Scores
from motorcade.ml.models.boosted import ARCHITECTURE, SUSPICIOUS
from motorcade.ml.models.catalogue import load_model
from motorcade.ml.training.assemble import Limits
from motorcade.ml.training.learn import Candidate, Plan
from motorcade.ml.windows import WindowSpec, WindowState

from .learning import learnt_by
from .telemetry import CATALOGUE, START_MS, correlated

CARS, MESSAGES = 60, 120
MINUTE = 60_000
HORIZON = 30 * MINUTE
#: What a failing car's last minutes show, by code.
SIGNS = {"P0217": "coolant_temp", "P0562": "battery_voltage"}
SETTINGS: dict[str, float | str] = {"trees": 25, "leaf_examples": 20, "leaves": 6, "rate": 0.15}
PLAN = Plan(horizon_ms=HORIZON, life_cap_ms=2 * HORIZON, limits=Limits(records=100))
FEATURES = CATALOGUE.feature_columns


class Small(type(ARCHITECTURE)):  # type: ignore[misc]
    """The same with windows of ten minutes."""

    window = WindowSpec(rows=10, every_ms=MINUTE)


def fleet(seed: int) -> tuple[TelemetryColumns, list[DiagnosticTroubleCode]]:
    """Every other car breaks in its last hour: a signal leaves its course half an hour before."""
    rng = np.random.default_rng(seed)
    columns = correlated(CARS, MESSAGES, seed=seed)
    vins = columns.vin[:CARS]
    codes, keep = [], np.ones(len(columns), dtype=bool)
    for car in range(0, CARS, 2):
        kind = list(SIGNS)[car // 2 % 2]
        last = int(rng.integers(MESSAGES - 60, MESSAGES))
        mine = np.arange(car, len(columns), CARS)
        column = CATALOGUE.column(SIGNS[kind])
        spread = columns.values[:, column].std()
        growth = np.clip((np.arange(MESSAGES) - (last - 30)) / 30, 0, 1)
        columns.values[mine, column] += 3 * spread * growth
        keep[mine[last + 1 :]] = False
        at = START_MS + last * MINUTE
        codes.append(
            DiagnosticTroubleCode(
                code=kind,
                kind=kind,
                vin=vins[car].decode(),
                boot=START_MS,
                time=at,
                due=at,
            )
        )
    return columns.take(keep), codes


def learnt(
    seed: int,
    codes: list[DiagnosticTroubleCode] | None = None,
    extra: dict[str, float | str] = SETTINGS,
) -> Candidate:
    columns, true = fleet(seed)
    return learnt_by(Small(), columns, true if codes is None else codes, plan=PLAN, extra=extra)


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    return learnt(1)


def judged(model: Model, seed: int = 2) -> tuple[Scores, Floats, Bools]:
    """Scores of another fleet, time to the failure by kind, and whether that is known."""
    columns, codes = fleet(seed)
    failures = Failures.of(codes)
    windows = WindowState(model.window, len(FEATURES)).push(columns, FEATURES)
    ahead = failures.ahead(windows.vin, windows.boot, windows.time)
    end = START_MS + MESSAGES * MINUTE
    known = (ahead.min(axis=1) <= HORIZON) | (end - windows.time >= HORIZON)
    return model.score(windows.values), ahead, known


def area(score: Floats, failed: Bools) -> float:
    """Under the ROC curve."""
    rank = np.argsort(np.argsort(score)) + 1
    n = failed.sum()
    return float((rank[failed].sum() - n * (n + 1) / 2) / (n * (~failed).sum()))


def test_failures_of_cars_that_never_trained_are_foretold(candidate: Candidate) -> None:
    scores, ahead, known = judged(candidate.model)
    failed = ahead.min(axis=1) <= HORIZON
    assert area(scores.score[known], failed[known]) > 0.9
    above = scores.score > candidate.manifest.threshold
    assert above[failed & (ahead.min(axis=1) < 10 * MINUTE)].mean() > 0.9
    assert above[known & ~failed].mean() < 0.01


def test_a_probability_is_what_share_of_windows_precedes_a_failure(candidate: Candidate) -> None:
    scores, ahead, known = judged(candidate.model)
    failed = ahead.min(axis=1) <= HORIZON
    assert scores.probability[known].mean() == pytest.approx(failed[known].mean(), abs=0.05)
    for low, high in ((0, 0.1), (0.9, 1)):
        bin_ = known & (scores.probability >= low) & (scores.probability <= high)
        assert scores.probability[bin_].mean() == pytest.approx(failed[bin_].mean(), abs=0.08)


def test_the_kind_and_its_signal_are_named(candidate: Candidate) -> None:
    scores, ahead, _ = judged(candidate.model)
    late = (ahead.min(axis=1) < 10 * MINUTE) & (scores.probability >= SUSPICIOUS)
    kind = ahead[late].argmin(axis=1)
    assert candidate.manifest.kinds == sorted(SIGNS)
    assert (scores.kind[late] == kind).mean() > 0.95
    named = np.array([CATALOGUE.features.index(SIGNS[k]) for k in candidate.manifest.kinds])
    assert (scores.top[late, 0] == named[kind]).mean() > 0.8
    assert (scores.share.sum(axis=1) <= 1 + 1e-9).all()


def test_the_remaining_life_falls_towards_the_failure(candidate: Candidate) -> None:
    scores, ahead, known = judged(candidate.model)
    left = np.minimum(ahead.min(axis=1), PLAN.life_cap_ms or 0)
    assert (scores.life[known] <= 2 * HORIZON).all()
    late = left < 10 * MINUTE
    assert np.median(scores.life[late]) < 20 * MINUTE
    assert np.median(scores.life[known & (left > HORIZON)]) > 40 * MINUTE


def test_with_shuffled_labels_nothing_is_foretold() -> None:
    _, codes = fleet(1)
    rng = np.random.default_rng(0)
    vins = np.array([code.vin for code in codes])
    others = [vin.decode() for vin in np.unique(fleet(1)[0].vin)]
    shuffled = [
        msgspec.structs.replace(
            code,
            vin=str(vin),
            time=START_MS + int(rng.integers(MESSAGES)) * MINUTE,
        )
        for code, vin in zip(codes, rng.permutation(others)[: len(vins)], strict=True)
    ]
    scores, ahead, known = judged(learnt(1, shuffled).model)
    failed = ahead.min(axis=1) <= HORIZON
    assert area(scores.score[known], failed[known]) < 0.75


@pytest.mark.parametrize("size", [1, 19, 300])
def test_a_window_is_scored_alike_in_any_batch(candidate: Candidate, size: int) -> None:
    columns, _ = fleet(3)
    state = WindowState(candidate.model.window, len(FEATURES))
    values = state.push(columns, FEATURES).values[-600:].copy()
    values[:50, :, 4] = np.nan
    whole = candidate.model.score(values)
    parts = [candidate.model.score(values[i : i + size]) for i in range(0, 600, size)]
    for name in Scores._fields:
        rows = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(rows, getattr(whole, name))


def test_too_few_signals_give_no_score(candidate: Candidate) -> None:
    values = np.full((2, 10, 18), np.nan, np.float32)
    values[0] = candidate.manifest.mean
    scores = candidate.model.score(values)
    assert np.isfinite(scores.score).tolist() == [True, False]
    assert np.isnan([scores.probability[1], scores.life[1]]).all()
    assert scores.kind[1] == -1


def test_the_same_data_and_seed_give_the_same_model(candidate: Candidate) -> None:
    again = learnt(1)
    assert again.manifest.threshold == candidate.manifest.threshold
    for name, array in candidate.weights.items():
        np.testing.assert_array_equal(again.weights[name], array)


def test_a_fleet_without_failures_cannot_teach() -> None:
    with pytest.raises(TrainingError, match="0 come within"):
        learnt(1, [])


def test_a_horizon_for_which_nobody_was_watched_is_refused_with_one_that_fits() -> None:
    columns, codes = fleet(1)
    day = msgspec.structs.replace(PLAN, horizon_ms=24 * 60 * MINUTE)
    with pytest.raises(TrainingError, match="whole horizon of 24 h") as refused:
        learnt_by(Small(), columns, codes, plan=day, extra=SETTINGS)
    # The cars that do not break are watched for two hours.
    said = re.search(r"--horizon=(\d+)m", str(refused.value))
    assert said is not None
    assert 50 <= int(said[1]) <= 60
    fitting = msgspec.structs.replace(PLAN, horizon_ms=int(said[1]) * MINUTE)
    learnt_by(Small(), columns, codes, plan=fitting, extra=SETTINGS)


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(TrainingError, match="branches"):
        learnt(1, extra={"branches": 3})
    with pytest.raises(TrainingError, match="kurtosis"):
        learnt(1, extra={"statistics": "mean,kurtosis"})


def test_a_model_that_is_not_whole_is_refused(candidate: Candidate) -> None:
    weights = {k: v for k, v in candidate.weights.items() if not k.startswith("kind/")}
    with pytest.raises(ModelRefusedError, match="kind/"):
        load_model(candidate.manifest, weights, CATALOGUE)
    uncalibrated = msgspec.structs.replace(
        candidate.manifest, extra={"statistics": candidate.manifest.extra["statistics"]}
    )
    with pytest.raises(ModelRefusedError, match="calibrated"):
        load_model(uncalibrated, candidate.weights, CATALOGUE)
    more = msgspec.structs.replace(candidate.manifest, kinds=[*candidate.manifest.kinds, "P0300"])
    with pytest.raises(ModelRefusedError, match="kinds"):
        load_model(more, candidate.weights, CATALOGUE)
