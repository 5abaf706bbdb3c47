"""Sequence models: they foretell cars that they never saw, the same in any batch; bad ones are
refused. The public demo's two models are as published."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from motorcade.fleet.catalogue import Catalogue, load_catalogue, shipped_catalogue
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.errors import ModelRefusedError, TrainingError
from motorcade.ml.models.base import (
    Architecture,
    Examples,
    FitOptions,
    Learnt,
    Model,
    Scores,
    TrainingData,
)
from motorcade.ml.models.calibration import Sigmoid, probability
from motorcade.ml.models.catalogue import architecture, load_model
from motorcade.ml.models.demo_published import PUBLISHED, Inputs
from motorcade.ml.models.forecast import OFFSETS, SLOPES
from motorcade.ml.models.forecaster import Targets, _targets
from motorcade.ml.models.kinds import any_kind, calibration_error, errors_of, scalings_of
from motorcade.ml.models.sequence_network import Shape
from motorcade.ml.store import FORMAT, Manifest, Origin
from motorcade.ml.windows import WindowSpec, WindowState

from .learning import Unwatched
from .telemetry import CATALOGUE, correlated

MINUTE_MS = 60_000
HORIZON_MS = 20 * MINUTE_MS
CAP_MS = 60 * MINUTE_MS
KINDS = ("P0128", "P0300")
#: Positions of the features that each kind wears out.
WORN = (3, 8)
WINDOW = WindowSpec(rows=12, every_ms=MINUTE_MS)
DEMO = load_catalogue(shipped_catalogue("demo"))


def wearing(seed: int, cars: int = 36, messages: int = 100) -> Examples:
    """Cars of which two thirds fail, each of one kind, after fifty minutes of wear."""
    columns = correlated(cars=cars, messages=messages, seed=seed)
    rng = np.random.default_rng(seed)
    values = columns.values.copy()
    car = np.unique(columns.vin, return_inverse=True)[1]
    number = columns.seq - 1
    fails = np.full((cars, 2), np.inf)
    for one in range(cars):
        kind = one % 3
        if kind == 2:
            continue
        fails[one, kind] = at = rng.integers(60, 120)
        mine = car == one
        column = CATALOGUE.feature_columns[WORN[kind]]
        values[mine, column] += (
            8 * values[:, column].std() * np.clip((number[mine] - (at - 50)) / 50, 0, 1)
        )
    kept = np.flatnonzero(number <= fails.min(axis=1)[car])
    driven = TelemetryColumns(
        columns.vin, values, columns.boot, columns.seq, columns.time, columns.due
    ).take(kept)
    ahead = (fails[car] - number[:, None])[kept] * float(MINUTE_MS)
    observed = (messages - 1 - number[kept]) * float(MINUTE_MS)
    ahead[ahead > observed[:, None]] = np.inf
    windows = WindowState(WINDOW, len(CATALOGUE.features)).push(driven, CATALOGUE.feature_columns)
    n = len(windows)
    return Examples(windows, ahead, observed, np.zeros(n, bool), np.ones(n), KINDS)


def healthy(seed: int, window: WindowSpec, catalogue: Catalogue = CATALOGUE) -> Examples:
    columns = correlated(seed=seed, catalogue=catalogue)
    state = WindowState(window, len(catalogue.features))
    windows = state.push(columns, catalogue.feature_columns)
    n = len(windows)
    never, ever = np.full((n, 0), np.inf), np.full(n, np.inf)
    return Examples(windows, never, ever, np.zeros(n, bool), np.ones(n), ())


def calm_data(catalogue: Catalogue, window: WindowSpec) -> TrainingData:
    train, validate, calibrate = (healthy(seed, window, catalogue) for seed in (0, 1, 2))
    return TrainingData(catalogue, train, validate, calibrate, HORIZON_MS, None, 0, window)


def manifest_of(how: Architecture, learnt: Learnt, data: TrainingData) -> Manifest:
    n = len(data.catalogue.features)
    fields: dict[str, Any] = {
        "mean": [0.0] * n,
        "std": [1.0] * n,
        "learnt": [True] * n,
        "residual": [1.0] * n,
        "threshold": 1.0,
    } | learnt.fields
    manifest = Manifest(
        format=FORMAT,
        name=how.name,
        version=1,
        architecture=how.name,
        created=0,
        catalogue=data.catalogue.name,
        features=list(data.catalogue.features),
        minimum_coverage=0.5,
        origin=Origin(ranges=[], schema_ids=[], dataset="", records={}, vehicles={}, seed=0),
        metrics=learnt.metrics,
        libraries={},
        window=data.window,
        horizon_ms=data.horizon_ms,
        **fields,
    )
    return msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest)


class Fitted:
    """A trained model, and what it is made of."""

    def __init__(self, name: str, data: TrainingData, how: FitOptions) -> None:
        self.catalogue = data.catalogue
        self.learnt = architecture(name).fit(data, how, Unwatched())
        self.manifest = manifest_of(architecture(name), self.learnt, data)
        self.model: Model = self.load()

    def load(
        self, changes: dict[str, Any] | None = None, weights: dict[str, Any] | None = None
    ) -> Model:
        manifest = msgspec.structs.replace(self.manifest, **(changes or {}))
        return load_model(manifest, self.learnt.weights | (weights or {}), self.catalogue)


@pytest.fixture(scope="module")
def wear() -> TrainingData:
    train, validate, calibrate = (wearing(seed) for seed in (0, 1, 2))
    return TrainingData(CATALOGUE, train, validate, calibrate, HORIZON_MS, CAP_MS, 0, WINDOW)


@pytest.fixture(scope="module")
def unseen() -> Examples:
    return wearing(3)


@pytest.fixture(scope="module")
def forecaster(wear: TrainingData) -> Fitted:
    return Fitted("forecaster", wear, FitOptions(epochs=6, learning_rate=4e-3))


@pytest.fixture(scope="module")
def autoencoder() -> Fitted:
    window = WindowSpec(rows=4, every_ms=MINUTE_MS)
    data = calm_data(CATALOGUE, window)
    return Fitted("lstm-autoencoder", data, FitOptions(epochs=12, batch=64, learning_rate=4e-3))


def demo(name: str, **extra: str) -> Fitted:
    window = architecture(name).window
    return Fitted(name, calm_data(DEMO, window), FitOptions(extra=dict(extra)))


def auc(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Chance that a positive one scores higher than another."""
    rank = np.argsort(np.argsort(score)) + 1.0
    n = positive.sum()
    return float((rank[positive].sum() - n * (n + 1) / 2) / (n * (len(score) - n)))


def test_failures_of_unseen_cars_are_foretold_with_their_kind_and_their_signal(
    forecaster: Fitted, unseen: Examples
) -> None:
    scores = forecaster.model.score(unseen.windows.values)
    doomed = unseen.next_failure_ms <= HORIZON_MS
    known = unseen.known(HORIZON_MS)
    assert auc(scores.score[known], doomed[known]) > 0.95
    assert (scores.kind == unseen.failure_ms.argmin(axis=1))[doomed].mean() > 0.95
    above = doomed & (scores.score > forecaster.manifest.threshold)
    assert above[doomed].mean() > 0.5
    named = np.array(WORN)[unseen.failure_ms.argmin(axis=1)]
    assert (scores.top[above, 0] == named[above]).mean() > 0.9


def test_remaining_life_falls_as_the_failure_comes_nearer(
    forecaster: Fitted, unseen: Examples
) -> None:
    scores = forecaster.model.score(unseen.windows.values)
    fails = np.isfinite(unseen.next_failure_ms)
    truth = np.minimum(unseen.next_failure_ms, CAP_MS)[fails]
    error = np.sqrt(np.mean((scores.life[fails] - truth) ** 2))
    assert error < 0.7 * truth.std()
    assert ((scores.life >= 0) & (scores.life <= CAP_MS)).all()


def test_probabilities_of_unseen_cars_mean_what_they_say(
    forecaster: Fitted, unseen: Examples
) -> None:
    scores = forecaster.model.score(unseen.windows.values)
    known = unseen.known(HORIZON_MS)
    doomed = unseen.next_failure_ms <= HORIZON_MS
    weight = unseen.weight[known]
    assert calibration_error(scores.probability[known], doomed[known], weight) < 0.1
    np.testing.assert_allclose(scores.probability, 1 - np.exp(-scores.score), rtol=1e-12)
    metrics = forecaster.learnt.metrics
    assert {f"calibration_error_{kind}" for kind in (*KINDS, "any")} <= metrics.keys()
    assert metrics["calibration_error_any"] < metrics["uncalibrated_error_any"]


@pytest.mark.parametrize("size", [1, 7, 256])
def test_a_score_is_the_same_to_the_last_bit_in_any_batch(
    forecaster: Fitted, autoencoder: Fitted, unseen: Examples, size: int
) -> None:
    for fitted, windows in (
        (forecaster, unseen.windows.values[::9]),
        (autoencoder, healthy(5, autoencoder.manifest.window).windows.values[::9]),
    ):
        values = windows.copy()
        values[np.random.default_rng(0).random(values.shape) < 0.1] = np.nan
        whole = fitted.model.score(values)
        parts = [fitted.model.score(values[i : i + size]) for i in range(0, len(values), size)]
        for name in Scores._fields:
            rows = np.concatenate([getattr(part, name) for part in parts])
            np.testing.assert_array_equal(
                rows.astype(np.float32), getattr(whole, name).astype(np.float32)
            )


def test_below_the_minimum_coverage_nothing_is_foretold(
    forecaster: Fitted, unseen: Examples
) -> None:
    values = unseen.windows.values[-2:].copy()
    values[0, -1, 9:] = np.nan
    values[1, -1, 8:] = np.nan
    scores = forecaster.model.score(values)
    for told in (scores.score, scores.probability, scores.life):
        assert np.isfinite(told).tolist() == [True, False]
    assert scores.coverage.tolist() == [0.5, pytest.approx(8 / 18)]
    assert scores.kind[1] == -1
    silent = forecaster.model.score(np.full_like(values, np.nan))
    assert np.isnan(silent.score).all()
    assert (silent.coverage == 0).all()


def test_remaining_life_can_be_learnt_alone(wear: TrainingData, unseen: Examples) -> None:
    extra: dict[str, float | str] = {
        "heads": "life", "members": 2, "early": 4, "age": 1, "recent": 10, "pool": 3,
        "convolutions": 2, "units": 0,
    }  # fmt: skip
    fitted = Fitted("forecaster", wear, FitOptions(epochs=2, extra=extra))
    scores = fitted.model.score(unseen.windows.values)
    assert np.isnan(scores.probability).all()
    assert (scores.kind == -1).all()
    np.testing.assert_allclose(scores.score, 1 - scores.life / CAP_MS)
    # The score at which life ends within the horizon.
    assert fitted.manifest.threshold == pytest.approx(1 - HORIZON_MS / CAP_MS)
    assert fitted.manifest.kinds == []


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"heads": "tails"}, "no heads 'tails'"),
        ({"layers": 3}, "no setting layers=3"),
        ({"rows": 3}, "no setting rows=3"),
        ({"pool": 0}, "cannot be built so: Expected `int` >= 1"),
        ({"units": "many"}, "cannot be built so: Expected `int`, got `str`"),
    ],
)
def test_a_setting_that_does_not_exist_is_named(
    wear: TrainingData, extra: dict[str, float | str], reason: str
) -> None:
    with pytest.raises(TrainingError, match=reason):
        architecture("forecaster").fit(wear, FitOptions(extra=extra), Unwatched())


def test_without_failures_or_a_cap_there_is_nothing_to_foretell(wear: TrainingData) -> None:
    none = wear._replace(train=wear.train.take(wear.train.healthy(np.inf)))
    none.train.failure_ms[:] = np.inf
    with pytest.raises(TrainingError, match="No vehicle that trains failed"):
        architecture("forecaster").fit(none, FitOptions(), Unwatched())
    with pytest.raises(TrainingError, match="needs a cap"):
        architecture("forecaster").fit(
            wear._replace(life_cap_ms=None), FitOptions(extra={"heads": "life"}), Unwatched()
        )


def test_a_car_that_was_cut_short_teaches_how_long_it_lasted(wear: TrainingData) -> None:
    part = wear.train.take(np.arange(4))
    part.failure_ms[:] = [[np.inf, np.inf], [5 * MINUTE_MS, np.inf], [np.inf] * 2, [np.inf] * 2]
    part.observed_ms[:] = [15 * MINUTE_MS, 5 * MINUTE_MS, 90 * MINUTE_MS, 90 * MINUTE_MS]
    part.after_failure[:] = [False, False, False, True]
    told: Targets = _targets(part, wear, Shape(rows=12, features=18, kinds=2, life=1))
    assert told.known.tolist() == [0, 1, 1]
    assert told.failed.tolist() == [[0, 0], [1, 0], [0, 0]]
    assert told.life.tolist() == [0.25, pytest.approx(5 / 60), 1.0]
    assert told.exact.tolist() == [0, 1, 1]


class Interrupted(Unwatched):
    """Keeps the last checkpoint, and ends the training after an epoch."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.kept: tuple[int, dict[str, NDArray[Any]]] | None = None

    def checkpoint(self, epoch: int, state: Mapping[str, NDArray[Any]]) -> None:
        self.kept = epoch, {name: np.array(value) for name, value in state.items()}
        if epoch == self.after:
            raise KeyboardInterrupt

    def resume(self) -> tuple[int, dict[str, NDArray[Any]]] | None:
        return self.kept


def test_an_interrupted_training_ends_with_the_weights_of_an_uninterrupted_one(
    wear: TrainingData,
) -> None:
    how = FitOptions(epochs=3, batch=512, seed=4, extra={"convolutions": 0, "units": 8})
    forecaster = architecture("forecaster")
    whole = forecaster.fit(wear, how, Unwatched())
    watch = Interrupted(after=2)
    with pytest.raises(KeyboardInterrupt):
        forecaster.fit(wear, how, watch)
    resumed = forecaster.fit(wear, how, watch)
    assert resumed.weights.keys() == whole.weights.keys()
    for name, value in whole.weights.items():
        np.testing.assert_array_equal(resumed.weights[name], value)
    assert resumed.curves == whole.curves


@pytest.mark.parametrize(
    ("changes", "weights", "reason"),
    [
        ({"features": ["a"] * 18}, {}, "features are not those of the catalogue"),
        ({"kinds": ["P0128"]}, {}, "its windows, features or kinds are others"),
        ({"window": WindowSpec(rows=9)}, {}, "its windows, features or kinds are others"),
        ({"extra": {}}, {}, "tells no network"),
        ({"life_cap_ms": None}, {}, "lacks the life cap"),
        ({}, {"member_0_hidden/bias": np.zeros(3, np.float32)}, "do not fit forecaster"),
        ({}, {"more": np.zeros(3, np.float32)}, "do not fit forecaster"),
        ({}, {SLOPES: np.ones(2)}, "does not fit 2 kinds"),
        ({}, {SLOPES: np.array([1.0, -1.0, 1.0])}, "not finite and rising"),
        ({}, {OFFSETS: np.array([1.0, np.nan, 1.0])}, "not finite and rising"),
        ({}, {SLOPES: np.full(3, 1e308)}, "does not give finite scores"),
    ],
)
def test_a_forecaster_that_does_not_fit_is_refused(
    forecaster: Fitted, changes: dict[str, Any], weights: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ModelRefusedError, match=reason):
        forecaster.load(changes, weights)


def test_any_failure_is_as_probable_as_kinds_that_do_not_know_of_each_other() -> None:
    logits = np.array([[-2.0, -1.0], [0.0, 3.0], [-40.0, -40.0], [60.0, -5.0]])
    same = [Sigmoid(1.0, 0.0)] * 3
    each = probability(logits)
    expected = 1 - (1 - each[:, 0]) * (1 - each[:, 1])
    np.testing.assert_allclose(probability(any_kind(logits, same)[:, 2]), expected, atol=1e-12)


def test_scaling_makes_overconfident_odds_honest() -> None:
    rng = np.random.default_rng(0)
    part = wearing(0)
    n = len(part)
    honest = rng.normal(-1.0, 1.5, size=(n, 2))
    failed = rng.random((n, 2)) < probability(honest)
    errors = errors_of(3 * honest + 2, failed, part)
    for kind in (*KINDS, "any"):
        assert errors[f"calibration_error_{kind}"] < 0.05
        assert errors[f"uncalibrated_error_{kind}"] > 0.1
    first = scalings_of(3 * honest + 2, failed, part)[0]
    assert first.slope == pytest.approx(1 / 3, rel=0.15)


def test_one_signal_that_leaves_the_others_for_a_whole_window_is_anomalous_and_named(
    autoencoder: Fitted,
) -> None:
    calm = healthy(6, autoencoder.manifest.window).windows.values
    moved = calm.copy()
    moved[:, :, 4] += 4 * np.nanstd(calm[:, :, 4])
    quiet, loud = autoencoder.model.score(calm), autoencoder.model.score(moved)
    assert auc(np.r_[quiet.score, loud.score], np.arange(2 * len(calm)) >= len(calm)) > 0.95
    assert (loud.top[:, 0] == 4).mean() > 0.9
    assert np.isnan(loud.probability).all()


def test_an_lstm_autoencoder_that_does_not_fit_is_refused(autoencoder: Fitted) -> None:
    with pytest.raises(ModelRefusedError, match="do not fit lstm-autoencoder"):
        autoencoder.load(weights={"outputs/bias": np.zeros(3, np.float32)})
    with pytest.raises(ModelRefusedError, match="features are not those"):
        autoencoder.load({"features": ["a"] * 18})
    with pytest.raises(ModelRefusedError, match="does not give finite scores"):
        autoencoder.load({"residual": [1e-30] * 18})


@pytest.mark.parametrize("name", ["demo-autoencoder", "demo-lstm"])
def test_the_demos_models_run_on_its_car_and_do_not_score_what_lacks_a_signal(name: str) -> None:
    fitted = demo(name)
    values = healthy(7, fitted.manifest.window, DEMO).windows.values[-100:]
    scores = fitted.model.score(values)
    assert np.isfinite(scores.score).all()
    assert (scores.score >= 0).all()
    # The four signals that the published script sets to zero are never named.
    zeroed = [DEMO.features.index(name) for name, ends in PUBLISHED.items() if ends is None]
    assert not np.isin(scores.top[:, 0], zeroed).all()
    values[0, -1, 5] = np.nan
    assert np.isfinite(fitted.model.score(values).score).tolist() == [False] + [True] * 99
    with pytest.raises(ModelRefusedError, match=f"do not fit {name}"):
        fitted.load(weights={"more": np.zeros(1, np.float32)})


def test_the_demos_inputs_are_scaled_as_its_script_does() -> None:
    inputs = Inputs(DEMO.features, "published")
    row = np.full(len(DEMO.features), np.nan, dtype=np.float32)
    for name, value in (("speed", 50.0), ("battery_percentage", 1.0), ("throttle_pos", 0.25)):
        row[DEMO.features.index(name)] = value
    told = dict(zip(PUBLISHED, inputs.of(row).tolist(), strict=True))
    assert told["speed"] == 1.0
    # A share of one is taken for one per cent.
    assert told["battery_percentage"] == pytest.approx(-0.98)
    assert told["throttle_pos"] == -0.5
    raw = Inputs(DEMO.features, "raw").of(row)
    assert raw[list(PUBLISHED).index("speed")] == 50.0
    with pytest.raises(ModelRefusedError, match="no scaling 'standard'"):
        Inputs(DEMO.features, "standard")
    with pytest.raises(ModelRefusedError, match="which the catalogue lacks"):
        Inputs(DEMO.features[1:], "raw")
