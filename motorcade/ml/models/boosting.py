"""Growing boosted trees with scikit-learn: settings, progress, and an early end."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np

from motorcade.fleet.arrays import Floats
from motorcade.ml.errors import TrainingError
from motorcade.ml.models.base import FitOptions, Watch
from motorcade.ml.models.trees import Forest
from motorcade.ml.window_statistics import STATISTICS
from motorcade.ml.windows import Floats32

#: Iterations between two looks at the validation loss.
_STRIDE = 25


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of boosted trees, from `--set NAME=VALUE`."""

    #: Iterations at most.
    trees: int = 150
    leaves: int = 15
    depth: int = 8
    #: What each iteration's trees are shrunk by.
    rate: float = 0.06
    #: Fewest examples in a leaf.
    leaf_examples: int = 100
    l2: float = 1.0
    #: Share of the columns that a question may choose from.
    columns: float = 1.0
    #: Statistics of each signal, with commas.
    statistics: str = ",".join(STATISTICS)

    @classmethod
    def of(cls, how: FitOptions) -> "Settings":
        """The settings that the options name.

        Raises:
            TrainingError: there is no such setting, or no such statistic.
        """
        try:
            settings = msgspec.convert(how.extra, cls, strict=False)
        except msgspec.ValidationError as error:
            raise TrainingError(
                f"The boosted trees cannot be set so: {error}.",
                f"They know {', '.join(cls.__struct_fields__)}.",
            ) from error
        if unknown := set(settings.names) - set(STATISTICS):
            raise TrainingError(
                f"There is no window statistic {', '.join(sorted(unknown))}.",
                f"There are {', '.join(STATISTICS)}.",
            )
        return settings

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the statistics."""
        return tuple(self.statistics.split(","))


class Sample(NamedTuple):
    """Rows to learn from: columns (n, columns), NaN where absent, and what is to be learnt (n,)."""

    columns: Floats32
    target: Any


class Grown(NamedTuple):
    """Trees, and the validation loss every few iterations; none where nothing validates."""

    forest: Forest
    losses: list[float]


#: Loss of raw predictions (n, outputs) against the target (n,).
Loss = Callable[[Floats, Any], float]


def grow(
    model: Any,
    settings: Settings,
    samples: tuple[Sample, Sample],
    loss: Loss,
    watch: Watch,
    phase: str,
) -> Grown:
    """Grow a scikit-learn model's trees until the validation loss no longer falls.

    Args:
        model: a HistGradientBoostingClassifier or -Regressor with `options`.
        settings: how many trees there may be.
        samples: rows to learn from, and rows that decide when it is enough; without the latter
            (a small fleet may have no failure to spare) all trees are grown.
        loss: of the validation rows.
        watch: told of the progress.
        phase: what is learnt, for people.
    """
    train, validate = samples
    losses: list[float] = []
    best: Forest | None = None
    for done in range(0, settings.trees, _STRIDE):
        watch.progress(phase, done, settings.trees, f"loss {losses[-1]:.4f}" if losses else "")
        model.set_params(max_iter=min(done + _STRIDE, settings.trees))
        model.fit(train.columns, train.target)
        forest = Forest.of(model)
        if len(validate.columns):
            losses.append(loss(forest.predict(validate.columns), validate.target))
            if losses[-1] > min(losses):
                break
        best = forest
    watch.progress(phase, settings.trees, settings.trees)
    assert best is not None
    return Grown(best, losses)


def options(settings: Settings, seed: int) -> Mapping[str, Any]:
    """Arguments of a scikit-learn model."""
    return {
        "learning_rate": settings.rate,
        "max_leaf_nodes": settings.leaves,
        "max_depth": settings.depth,
        "min_samples_leaf": settings.leaf_examples,
        "l2_regularization": settings.l2,
        "max_features": settings.columns,
        "early_stopping": False,
        "warm_start": True,
        "random_state": seed,
    }


def log_loss(raw: Floats, target: Any) -> float:
    """Mean negative log likelihood of a binary target under log-odds (n, 1)."""
    signed = np.where(np.asarray(target) > 0, raw[:, 0], -raw[:, 0])
    return float(np.logaddexp(0, -signed).mean())


def cross_entropy(raw: Floats, target: Any) -> float:
    """The same of classes 0 … outputs-1 under unnormalised log probabilities (n, outputs)."""
    if raw.shape[1] == 1:
        return log_loss(raw, target)
    shifted = raw - raw.max(axis=1, keepdims=True)
    chosen = shifted[np.arange(len(raw)), np.asarray(target)]
    return float((np.log(np.exp(shifted).sum(axis=1)) - chosen).mean())


def squared(raw: Floats, target: Any) -> float:
    """Mean squared error of (n, 1)."""
    return float(((raw[:, 0] - np.asarray(target)) ** 2).mean())
