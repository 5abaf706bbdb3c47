"""From windows of signals to columns of statistics, what trees and other plain learners read.

Beside each signal's own course stands its residual: what is left of it once the other signals of
the same moment have said what it should be. A sensor that drifts and a control unit that hunts
show there and nowhere else (docs/physics.md, "Wear").
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Bools, Floats
from motorcade.ml.errors import ModelRefusedError
from motorcade.ml.features import Scale
from motorcade.ml.store import Weights
from motorcade.ml.windows import Floats32

#: What a window says of one signal, standardised. `change` is the mean of the window's later half
#: less that of its earlier; the residual's `rms` shows what swings about a mean that stays.
OWN = ("last", "mean", "std", "slope", "lowest", "highest", "change")
RESIDUAL = ("residual", "residual_rms", "residual_change")
STATISTICS = OWN + RESIDUAL

#: Weight of the ridge, as a share of the predictors' variance.
_RIDGE = 1e-3
#: Sets of present signals that get regressions of their own, and the share of rows that makes one
#: worth it; rarer ones share the full set's.
_MOST_MASKS, _COMMON = 16, 0.005
#: Rows that lack signals count for the moments only where complete rows per predictor are fewer.
_ENOUGH = 10
#: Windows that are worked on together, so that the arrays in between stay in the cache.
_CHUNK = 256


@dataclass(frozen=True)
class Expectation:
    """What each signal should be, given the others of the same moment.

    Linear in the standardised signals and their squares, learnt on healthy rows by ridge
    regression. A car that lacks signals gets regressions without them, where enough healthy rows
    lacked the same ones; elsewhere a signal that is lacking counts as its mean.

    masks: (m, features) 1 where a signal is there; the first is of all that were learnt.
    coefficients: (m, 2 · features + 1, features), of the signals, their squares and one.
    """

    masks: NDArray[np.int32]
    coefficients: Floats32

    @classmethod
    def learn(cls, inputs: Floats, present: Bools, learnt: Bools) -> "Expectation":
        """From healthy rows.

        Args:
            inputs: (n, features) standardised, 0 where absent.
            present: (n, features).
            learnt: (features,) those that count at all.
        """
        codes = Counter(map(bytes, np.packbits(present, axis=1)))
        masks = [learnt]
        for code, rows in codes.most_common(_MOST_MASKS):
            mask = np.unpackbits(np.frombuffer(code, np.uint8), count=len(learnt)).astype(bool)
            if rows >= _COMMON * len(present) and (mask != learnt).any():
                masks.append(mask)
        basis = _basis(inputs)
        complete = (present == learnt).all(axis=1)
        if complete.sum() >= _ENOUGH * basis.shape[1]:
            basis = basis[complete]
        gram = basis.T @ basis / max(len(basis), 1)
        coefficients = np.array([_solved(gram, mask) for mask in masks], dtype=np.float32)
        return cls(np.array(masks, dtype=np.int32), coefficients)

    def residuals(self, inputs: Floats32, seen: Bools) -> Floats32:
        """What the others do not explain, (n, rows, features).

        Args:
            inputs: (n, rows, features) standardised, without gaps.
            seen: (n, features) which signals a window has at all.
        """
        which = (seen[:, None, :] == self._masks).all(axis=2).argmax(axis=1)
        # One product of one shape a window: the same to the last bit in any batch.
        expected = np.matmul(_basis(inputs), self.coefficients[which])
        residuals: Floats32 = inputs - expected
        return residuals

    @cached_property
    def _masks(self) -> Bools:
        return self.masks.astype(bool)


@dataclass(frozen=True)
class WindowStatistics:
    """The columns of a model: `statistics` of each signal, statistic by statistic.

    Column c is about signal c modulo features. All are standardised by the healthy scale; NaN
    where a window does not tell.
    """

    scale: Scale
    expectation: Expectation
    statistics: tuple[str, ...] = STATISTICS

    @classmethod
    def learn(
        cls, scale: Scale, healthy: Floats32, statistics: Sequence[str] = STATISTICS
    ) -> "WindowStatistics":
        """From healthy windows, shape (n, rows, features): from the last row of each."""
        inputs, present = scale.apply(healthy[:, -1].astype(np.float64))
        expectation = Expectation.learn(inputs, present, scale.learnt)
        return cls(scale, expectation, tuple(statistics))

    @property
    def columns(self) -> int:
        """Columns in all."""
        return len(self.statistics) * len(self.scale.names)

    def of(self, windows: Floats32) -> Floats32:
        """The statistics of windows (n, rows, features), NaN where absent: (n, columns)."""
        out = np.empty((len(windows), self.columns), dtype=np.float32)
        for first in range(0, len(windows), _CHUNK):
            self._into(windows[first : first + _CHUNK], out[first : first + _CHUNK])
        return out

    def weights(self) -> Weights:
        """The arrays by name; the scale and the statistics' names are the manifest's."""
        return {"masks": self.expectation.masks, "coefficients": self.expectation.coefficients}

    @classmethod
    def from_weights(
        cls, weights: Weights, scale: Scale, statistics: Sequence[str]
    ) -> "WindowStatistics":
        """What `weights` gave.

        Raises:
            ModelRefusedError: arrays are missing or of another shape, or a statistic is unknown.
        """
        n = len(scale.names)
        masks, coefficients = weights.get("masks"), weights.get("coefficients")
        if masks is None or coefficients is None:
            raise ModelRefusedError("The weights lack the signals' regressions.")
        if masks.shape != (len(masks), n) or coefficients.shape != (len(masks), 2 * n + 1, n):
            raise ModelRefusedError(f"The signals' regressions are not those of {n} features.")
        if unknown := set(statistics) - set(STATISTICS):
            raise ModelRefusedError(f"Unknown window statistics: {', '.join(sorted(unknown))}.")
        return cls(scale, Expectation(masks, coefficients), tuple(statistics))

    def _into(self, windows: Floats32, out: Floats32) -> None:
        present = np.isfinite(windows) & self.scale.learnt
        inputs = np.where(present, (windows - self._mean) / self._std, np.float32(0))
        course = _Course(inputs, present)
        width = inputs.shape[2]
        found = {name: getattr(course, name)() for name in self.statistics if name in OWN}
        if len(found) < len(self.statistics):
            seen = course.count > 0
            # A gap within a window is filled with the window's mean: it must not disturb the
            # other signals' expectations.
            means = np.where(seen, course.mean(), np.float32(0))[:, None, :]
            filled = np.where(present, inputs, means)
            residuals = self.expectation.residuals(filled, seen)
            left = _Course(np.where(present, residuals, np.float32(0)), present)
            found |= {
                "residual": left.mean(),
                "residual_rms": left.rms(),
                "residual_change": left.change(),
            }
        for position, name in enumerate(self.statistics):
            out[:, position * width : (position + 1) * width] = found[name]

    @cached_property
    def _mean(self) -> Floats32:
        return self.scale.mean.astype(np.float32)

    @cached_property
    def _std(self) -> Floats32:
        return self.scale.std.astype(np.float32)


class _Course:
    """Statistics over the rows of windows.

    Args:
        inputs: (n, rows, features), 0 where absent.
        present: (n, rows, features).
    """

    def __init__(self, inputs: Floats32, present: Bools) -> None:
        self._inputs, self._present = inputs, present
        rows = inputs.shape[1]
        steps = np.arange(rows, dtype=np.float32) - (rows - 1) / 2
        later = (np.arange(rows) >= rows // 2).astype(np.float32)
        weights = np.stack([np.ones(rows), steps, later]).astype(np.float32)
        self._sum, self._moment, self._later = np.moveaxis(np.matmul(weights, inputs), 1, 0)
        counted = np.stack([np.ones(rows), steps, later, steps**2]).astype(np.float32)
        counts = np.matmul(counted, present.astype(np.float32))
        self.count, self._steps, self._later_count, self._squares = np.moveaxis(counts, 1, 0)
        self._rows = rows
        self._mean = _share(self._sum, self.count)

    def last(self) -> Floats32:
        return np.where(self._present[:, -1], self._inputs[:, -1], np.float32(np.nan))

    def mean(self) -> Floats32:
        return self._mean

    def std(self) -> Floats32:
        centred = self._inputs - np.where(self.count > 0, self._mean, np.float32(0))[:, None, :]
        centred *= self._present
        return np.sqrt(_share(np.einsum("nrf,nrf->nf", centred, centred), self.count))

    def rms(self) -> Floats32:
        squares = np.einsum("nrf,nrf->nf", self._inputs, self._inputs)
        return np.sqrt(_share(squares, self.count))

    def slope(self) -> Floats32:
        """Least squares, per window."""
        middle = _share(self._steps, self.count)
        spread = self._squares - self._steps * middle
        slope = _share(self._moment - self._sum * middle, spread, least=0.5)
        return slope * np.float32(self._rows)

    def lowest(self) -> Floats32:
        lowest = np.where(self._present, self._inputs, np.float32(np.inf)).min(axis=1)
        return np.where(self.count > 0, lowest, np.float32(np.nan))

    def highest(self) -> Floats32:
        highest = np.where(self._present, self._inputs, np.float32(-np.inf)).max(axis=1)
        return np.where(self.count > 0, highest, np.float32(np.nan))

    def change(self) -> Floats32:
        later = _share(self._later, self._later_count)
        return later - _share(self._sum - self._later, self.count - self._later_count)


def _share(total: Floats32, count: Floats32, least: float = 1.0) -> Floats32:
    """total / count, NaN where the count is below `least`."""
    enough = count >= least
    quotient: Floats32 = np.where(enough, total / np.where(enough, count, 1), np.nan).astype(
        np.float32
    )
    return quotient


def _basis(inputs: NDArray[np.floating[Any]]) -> NDArray[Any]:
    """The signals, their squares and one, along the last axis."""
    one = np.ones((*inputs.shape[:-1], 1), dtype=inputs.dtype)
    return np.concatenate([inputs, inputs * inputs, one], axis=-1)


def _solved(gram: Floats, mask: Bools) -> Floats:
    """Coefficients (basis, features) of each present signal on the other present ones.

    gram: (basis, basis) mean products of the basis over healthy rows.
    """
    n = len(mask)
    coefficients = np.zeros((2 * n + 1, n))
    for signal in np.flatnonzero(mask):
        others = mask.copy()
        others[signal] = False
        used = np.flatnonzero(np.r_[others, others, True])
        system = gram[np.ix_(used, used)]
        # The constant is not shrunk.
        ridge = np.r_[_RIDGE * np.maximum(np.diag(system)[:-1], 1e-12), 0.0]
        solution = np.linalg.solve(system + np.diag(ridge), gram[used, signal])
        coefficients[used, signal] = solution
    return coefficients
