"""Intervals by drawing vehicles with replacement: messages of one vehicle tell the same story.

Resampling messages instead would make a fleet of ten vehicles look as certain as one of thousands.
"""

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Floats, Ints

RESAMPLES = 400
_LEVEL = 0.95


class Figure(msgspec.Struct, frozen=True):
    """A figure and its 95 % interval; None where it cannot be told."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Draws:
    """How often each vehicle is drawn, the same in every figure of an evaluation.

    Args:
        vehicles: how many there are.
        seed: another seed gives other draws.
        resamples: how often vehicles are drawn.
    """

    def __init__(self, vehicles: int, seed: int = 0, resamples: int = RESAMPLES) -> None:
        rng = np.random.default_rng(seed)
        self._weight = rng.multinomial(
            vehicles, np.full(vehicles, 1 / max(1, vehicles)), size=resamples
        ).astype(np.float64)  # Products of floats are BLAS's, those of integers are not.

    def ratio(self, above: Floats, below: Floats) -> Figure:
        """Of two sums over vehicles, each given as (vehicles,)."""
        whole = float(below.sum())
        if whole <= 0:
            return Figure(None)
        tops, bottoms = self._weight @ above, self._weight @ below
        drawn = bottoms > 0
        return _figure(float(above.sum()) / whole, tops[drawn] / bottoms[drawn])

    def median(self, values: Floats, vehicle: Ints) -> Figure:
        """Of values that belong to vehicles, both (k,)."""
        if not len(values):
            return Figure(None)
        order = np.argsort(values)
        reached = np.cumsum(self._weight[:, vehicle[order]], axis=1)
        drawn = reached[:, -1] > 0
        half = reached[drawn, -1:] / 2
        place = (reached[drawn] >= half).argmax(axis=1)
        return _figure(float(np.median(values)), values[order][place])

    def ranking(
        self,
        failing: NDArray[np.integer[Any]],
        healthy: NDArray[np.integer[Any]],
        exact: tuple[float, float],
    ) -> tuple[Figure, Figure]:
        """Of PR-AUC and ROC-AUC.

        Args:
            failing, healthy: (vehicles, levels) messages of each class, by level of rising score.
            exact: both, of all messages.
        """
        hits = np.cumsum((self._weight @ failing.astype(np.float64))[:, ::-1], axis=1)
        misses = np.cumsum((self._weight @ healthy.astype(np.float64))[:, ::-1], axis=1)
        both = (hits[:, -1] > 0) & (misses[:, -1] > 0)
        pr, roc = areas(hits[both], misses[both])
        return _figure(exact[0], pr), _figure(exact[1], roc)


def areas(hits: Floats, misses: Floats) -> tuple[Floats, Floats]:
    """(PR-AUC, ROC-AUC) of each row.

    Args:
        hits, misses: (rows, levels) failing and healthy messages at a level or above, from the
            highest level down.
    """
    recall = hits / hits[:, -1:]
    false = misses / misses[:, -1:]
    precision = hits / np.maximum(hits + misses, 1)
    pr = (np.diff(recall, axis=1, prepend=0) * precision).sum(axis=1)
    middle = recall - np.diff(recall, axis=1, prepend=0) / 2
    roc = (np.diff(false, axis=1, prepend=0) * middle).sum(axis=1)
    return pr, roc


def counts(vehicle: NDArray[np.int32], level: Ints, shape: tuple[int, int]) -> NDArray[np.int32]:
    """Messages of each vehicle at each level, (vehicles, levels)."""
    flat = np.bincount(vehicle.astype(np.int64) * shape[1] + level, minlength=shape[0] * shape[1])
    return flat.astype(np.int32).reshape(shape)


def _figure(value: float, drawn: Floats) -> Figure:
    if not len(drawn):
        return Figure(value)
    low, high = np.quantile(drawn, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Figure(value, float(low), float(high))
