"""Learners of a number from a row of columns: ridge, a Gaussian kernel, boosted trees.

Each is a pair: how it is learnt, which gives arrays, and how it predicts from them. What they
predict is a share of the capped life, and rows are standardised columns.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np

from motorcade.fleet.arrays import Floats
from motorcade.ml.errors import ModelRefusedError, TrainingError
from motorcade.ml.history import FEWEST
from motorcade.ml.models.base import FitOptions
from motorcade.ml.models.trees import Forest
from motorcade.ml.store import Weights

#: Rows whose kernel is worked out together, so that the matrix stays small.
_CHUNK = 1024


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the learners and of the columns, from `--set NAME=VALUE`."""

    #: Samples and weights of the columns, see `History`.
    fade: float = 0.15
    late: int = 20
    early: int = FEWEST
    #: Width of the kernel: exp(-gamma · |distance|² / columns).
    gamma: float = 0.6
    #: Weight of the coefficients' squares, of the kernel and of the plain ridge.
    shrink: float = 0.1
    ridge: float = 10.0
    #: Rows that the kernel keeps at most; they stand for the others.
    support: int = 4000
    #: Of the boosted trees.
    trees: int = 120
    leaves: int = 15
    rate: float = 0.08
    leaf_examples: int = 20
    l2: float = 1.0
    #: Share of the columns that a question of the trees may choose from.
    columns: float = 0.5

    @classmethod
    def of(cls, how: FitOptions) -> "Settings":
        """The settings that the options name.

        Raises:
            TrainingError: there is no such setting.
        """
        try:
            return msgspec.convert(how.extra, cls, strict=False)
        except msgspec.ValidationError as error:
            raise TrainingError(
                f"A model of remaining life cannot be set so: {error}.",
                f"It knows {', '.join(cls.__struct_fields__)}.",
            ) from error


#: (n, columns) to (n,).
Predict = Callable[[Floats], Floats]


class Learner(NamedTuple):
    """How a learner is learnt, and how it is read back.

    learn: (rows (n, columns), targets (n,), weights (n,), settings, seed) to arrays by name.
    load: arrays and the number of columns to a function that predicts; raises ModelRefusedError.
    """

    learn: Callable[[Floats, Floats, Floats, Settings, int], Weights]
    load: Callable[[Weights, int], Predict]


def _learn_ridge(
    rows: Floats, target: Floats, weight: Floats, settings: Settings, _seed: int
) -> Weights:
    mean = np.average(target, weights=weight)
    gram = rows.T @ (rows * weight[:, None]) + settings.ridge * np.eye(rows.shape[1])
    coefficients = np.linalg.solve(gram, rows.T @ (weight * (target - mean)))
    return {"ridge/coefficients": coefficients, "ridge/offset": np.array([mean])}


def _load_ridge(weights: Weights, columns: int) -> Predict:
    coefficients, offset = _arrays(weights, "ridge/coefficients", "ridge/offset")
    if coefficients.shape != (columns,) or offset.shape != (1,):
        raise ModelRefusedError(f"The ridge's coefficients are not those of {columns} columns.")

    def predict(rows: Floats) -> Floats:
        told: Floats = rows @ coefficients + offset[0]
        return told

    return predict


def _learn_kernel(
    rows: Floats, target: Floats, weight: Floats, settings: Settings, _seed: int
) -> Weights:
    """Kernel ridge regression on evenly chosen rows."""
    if len(rows) > settings.support:
        chosen = np.linspace(0, len(rows) - 1, settings.support).round().astype(np.int64)
        rows, target, weight = rows[chosen], target[chosen], weight[chosen]
    mean = np.average(target, weights=weight)
    gamma = settings.gamma / rows.shape[1]
    gram = _kernel(rows, rows, gamma)
    # A row that stands for many may be missed by less.
    gram[np.diag_indices_from(gram)] += settings.shrink * weight.mean() / weight
    coefficients = np.linalg.solve(gram, target - mean)
    return {
        "kernel/support": rows.astype(np.float32),
        "kernel/coefficients": coefficients,
        "kernel/shape": np.array([gamma, mean]),
    }


def _load_kernel(weights: Weights, columns: int) -> Predict:
    names = ("kernel/support", "kernel/coefficients", "kernel/shape")
    support, coefficients, shape = _arrays(weights, *names)
    if support.ndim != 2 or support.shape[1] != columns or shape.shape != (2,):
        raise ModelRefusedError(f"The kernel's rows are not those of {columns} columns.")
    if coefficients.shape != (len(support),) or not shape[0] > 0:
        raise ModelRefusedError("The kernel's rows and coefficients do not fit each other.")
    near = support.astype(np.float64)
    gamma, mean = shape.tolist()

    def predict(rows: Floats) -> Floats:
        out = np.empty(len(rows))
        for first in range(0, len(rows), _CHUNK):
            part = slice(first, first + _CHUNK)
            out[part] = mean + _kernel(rows[part], near, gamma) @ coefficients
        return out

    return predict


def _kernel(rows: Floats, others: Floats, gamma: float) -> Floats:
    squares = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * rows @ others.T
    kernel: Floats = np.exp(-gamma * np.maximum(squares, 0.0))
    return kernel


def _learn_trees(
    rows: Floats, target: Floats, weight: Floats, settings: Settings, seed: int
) -> Weights:
    # Not above: a scorer needs no scikit-learn.
    from sklearn.ensemble import HistGradientBoostingRegressor  # type: ignore[import-untyped]

    model: Any = HistGradientBoostingRegressor(
        max_iter=settings.trees,
        learning_rate=settings.rate,
        max_leaf_nodes=settings.leaves,
        min_samples_leaf=settings.leaf_examples,
        l2_regularization=settings.l2,
        max_features=settings.columns,
        early_stopping=False,
        random_state=seed,
    )
    model.fit(rows.astype(np.float32), target, sample_weight=weight)
    return Forest.of(model).weights("trees")


def _load_trees(weights: Weights, columns: int) -> Predict:
    forest = Forest.from_weights(weights, "trees", columns)
    if forest.outputs != 1:
        raise ModelRefusedError(f"The trees say {forest.outputs} numbers, not one.")
    return lambda rows: forest.predict(rows.astype(np.float32))[:, 0]


def _arrays(weights: Weights, *names: str) -> list[Any]:
    if missing := [name for name in names if name not in weights]:
        raise ModelRefusedError(f"The weights lack {', '.join(missing)}.")
    return [weights[name] for name in names]


LEARNERS = {
    "ridge": Learner(_learn_ridge, _load_ridge),
    "kernel": Learner(_learn_kernel, _load_kernel),
    "trees": Learner(_learn_trees, _load_trees),
}
