"""A baseline, and often the champion: boosted trees on window statistics that foretell failures.

Three forests: whether a failure comes within the horizon, of which kind, and after what time. The
last two are only asked of windows that are suspicious at all, which few are.
"""

import numpy as np

from motorcade.fleet.arrays import Bools, Ints
from motorcade.fleet.catalogue import Catalogue
from motorcade.ml.errors import ModelRefusedError
from motorcade.ml.models import calibration
from motorcade.ml.models.base import (
    Examples,
    FitOptions,
    Learnt,
    Objective,
    Scores,
    TrainingData,
    Watch,
)
from motorcade.ml.models.boosting import (
    Sample,
    Settings,
    cross_entropy,
    grow,
    log_loss,
    options,
    squared,
)
from motorcade.ml.models.outcomes import require_outcomes
from motorcade.ml.models.reconstruction import probe, refuse_unless_finite
from motorcade.ml.models.tabular import (
    HOUR_MS,
    Deviations,
    coverage_of,
    fields_of,
    learn_statistics,
    life_sample,
    load_statistics,
)
from motorcade.ml.models.trees import Forest
from motorcade.ml.store import Manifest, Weights
from motorcade.ml.windows import Floats32, WindowSpec

NAME = "boosted"
#: Probability below which nothing else is asked: neither kind, nor life, nor contributions.
SUSPICIOUS = 0.01
#: Iterations of the trees that tell kinds apart.
_KIND_TREES = 75
#: Examples of a kind below which it is not told apart.
_FEW = 40


class BoostedArchitecture:
    """Learns from examples before failures, and from healthy ones."""

    name = NAME
    objective: Objective = "failure"
    window = WindowSpec(rows=30, every_ms=60_000)
    baseline = True

    def fit(self, data: TrainingData, how: FitOptions, watch: Watch) -> Learnt:
        """See `Architecture`."""
        # Not above: a scorer needs no scikit-learn.
        from sklearn.ensemble import (  # type: ignore[import-untyped]
            HistGradientBoostingClassifier,
            HistGradientBoostingRegressor,
        )

        settings = Settings.of(how)
        require_outcomes(data.train, data.horizon_ms)
        statistics = learn_statistics(data, settings.names, watch)
        parts = [_usable(part, data.horizon_ms) for part in (data.train, data.validate)]
        doomed = [part.next_failure_ms <= data.horizon_ms for part in parts]
        columns = [statistics.of(part.windows.values) for part in parts]

        train, validate = map(Sample, columns, doomed)
        model = HistGradientBoostingClassifier(**options(settings, data.seed))
        failing = grow(model, settings, (train, validate), log_loss, watch, "failures")
        weights = {**statistics.weights(), **failing.forest.weights("failure")}

        kinds = _kinds(parts[0], doomed[0])
        if len(kinds) > 1:
            train, validate = (
                _kind_sample(part, rows, ill, kinds)
                for part, rows, ill in zip(parts, columns, doomed, strict=True)
            )
            few = Settings(trees=_KIND_TREES, leaves=10, depth=5, leaf_examples=20, rate=0.1)
            model = HistGradientBoostingClassifier(**options(few, data.seed))
            told = grow(model, few, (train, validate), cross_entropy, watch, "kinds")
            weights |= told.forest.weights("kind")
        if (cap_ms := data.life_cap_ms) is not None:
            train, validate = (
                life_sample(part, rows, cap_ms) for part, rows in zip(parts, columns, strict=True)
            )
            model = HistGradientBoostingRegressor(**options(settings, data.seed))
            life = grow(model, settings, (train, validate), squared, watch, "remaining life")
            weights |= life.forest.weights("life")

        held = _usable(data.calibrate, data.horizon_ms)
        raw = failing.forest.predict(statistics.of(held.windows.values))[:, 0]
        failed = held.next_failure_ms <= data.horizon_ms
        sigmoid = calibration.Sigmoid.fitted(raw, failed, held.weight)
        limit = calibration.threshold(sigmoid.log_odds(raw), held, data.horizon_ms)
        fields = {
            **fields_of(statistics, data),
            "kinds": kinds,
            "threshold": float(calibration.expected_failures(np.array(limit))),
        }
        fields["extra"] |= {"slope": sigmoid.slope, "offset": sigmoid.offset}
        metrics = {"trees": float(len(failing.forest.roots))}
        if failing.losses:
            metrics["validation_loss"] = min(failing.losses)
        return Learnt(weights, fields, {"validation_loss": failing.losses}, metrics)

    def load(self, manifest: Manifest, weights: Weights, catalogue: Catalogue) -> "Boosted":
        """See `Architecture`."""
        return Boosted(manifest, weights, catalogue)


class Boosted:
    """Trained trees, ready to score.

    The score is the number of failures to be expected within the horizon, -ln(1 - probability).

    Raises:
        ModelRefusedError: see `Model`.
    """

    def __init__(self, manifest: Manifest, weights: Weights, catalogue: Catalogue) -> None:
        self.manifest = manifest
        self._statistics = load_statistics(manifest, weights, catalogue)
        columns = self._statistics.columns
        self._failing = Forest.from_weights(weights, "failure", columns)
        self._deviations = Deviations(self._statistics, np.array(manifest.residual))
        self._sigmoid = _sigmoid(manifest)
        self._kinds = self._life = None
        if len(manifest.kinds) > 1:
            self._kinds = Forest.from_weights(weights, "kind", columns)
            if max(self._kinds.outputs, 2) != len(manifest.kinds):
                raise ModelRefusedError(
                    f"The trees tell {self._kinds.outputs} kinds apart, not {len(manifest.kinds)}."
                )
        if manifest.life_cap_ms is not None:
            self._life = Forest.from_weights(weights, "life", columns)
        refuse_unless_finite(manifest, self.score(probe(manifest, self._statistics.scale))[:4])

    @property
    def window(self) -> WindowSpec:
        """The windows that it scores."""
        return self.manifest.window

    def score(self, values: Floats32) -> Scores:
        """See `Model`. A window below `SUSPICIOUS` names no kind, and contributions are 0."""
        columns = self._statistics.of(values)
        raw = self._failing.predict(columns)[:, 0]
        log_odds = self._sigmoid.log_odds(raw)
        score = calibration.expected_failures(log_odds)
        probability = calibration.probability(log_odds)
        coverage = coverage_of(self._statistics.scale, values)
        n = len(values)
        kind = np.full(n, -1, dtype=np.int64)
        life = np.full(n, float(self.manifest.life_cap_ms or np.nan))
        rows = np.flatnonzero(probability >= SUSPICIOUS)
        if len(rows):
            asked = columns[rows]
            kind[rows] = self._kind_of(asked)
            if self._life is not None:
                life[rows] = self._life.predict(asked)[:, 0] * HOUR_MS
                np.clip(life, 0.0, self.manifest.life_cap_ms, out=life)
        top, share = self._deviations.of(values, rows)
        unknown = coverage < self.manifest.minimum_coverage
        score[unknown] = probability[unknown] = life[unknown] = np.nan
        kind[unknown] = -1
        return Scores(score, coverage, top, share, probability, life, kind)

    def _kind_of(self, columns: Floats32) -> Ints:
        if self._kinds is None:
            return np.zeros(len(columns), dtype=np.int64)
        raw = self._kinds.predict(columns)
        # Two kinds are told apart by one number, the log-odds of the second.
        chosen: Ints = (raw[:, 0] > 0).astype(np.int64) if raw.shape[1] == 1 else raw.argmax(axis=1)
        return chosen


def _usable(part: Examples, horizon_ms: int) -> Examples:
    """Examples whose future is known, of cars that have not failed yet."""
    return part.take(part.known(horizon_ms) & ~part.after_failure)


def _kinds(part: Examples, doomed: Bools) -> list[str]:
    """Kinds of failure among the doomed examples that there are enough of, sorted."""
    counts = np.bincount(part.failure_ms[doomed].argmin(axis=1), minlength=len(part.kinds))
    return [kind for kind, count in zip(part.kinds, counts, strict=True) if count >= _FEW]


def _kind_sample(part: Examples, columns: Floats32, doomed: Bools, kinds: list[str]) -> Sample:
    """The doomed examples of some kinds, and the positions of their kinds."""
    position = {kind: number for number, kind in enumerate(kinds)}
    number = np.array([position.get(kind, -1) for kind in part.kinds], dtype=np.int64)
    chosen = number[part.failure_ms.argmin(axis=1)]
    mine = doomed & (chosen >= 0)
    return Sample(columns[mine], chosen[mine])


def _sigmoid(manifest: Manifest) -> calibration.Sigmoid:
    slope, offset = manifest.extra.get("slope"), manifest.extra.get("offset")
    if not isinstance(slope, float) or not isinstance(offset, float) or not slope > 0:
        raise ModelRefusedError(
            f"The model {manifest.name} {manifest.version} does not say how its log-odds are "
            "calibrated."
        )
    return calibration.Sigmoid(slope, offset)


ARCHITECTURE = BoostedArchitecture()
