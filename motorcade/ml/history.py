"""What a vehicle's whole boot says, in columns: where its signals are, how far they have moved.

Vehicles differ from the first message on by how they were built. What has worn shows in the
distance from a vehicle's own beginning, not from the fleet's mean: so each signal gives its recent
mean, and how far that lies from the mean of the boot's first samples. The age of the boot is two
columns more.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Floats, Ints
from motorcade.ml.features import Scale
from motorcade.ml.windows import Floats32

#: Samples of a boot before which no remaining life is told: as many as its beginning takes.
FEWEST = 30
#: Windows that are worked on together, so that the arrays in between stay small.
_CHUNK = 512


@dataclass(frozen=True)
class History:
    """Columns of windows that reach back to the boot's first message.

    2 · signals + 2 columns: of each learnt signal the recent mean with weights that fade, then the
    mean of the last `late` samples less that of the first `early`; then the samples so far, and
    their logarithm. Signals are standardised by the scale, which also says which are learnt.

    Args:
        scale: of the signals.
        fade: what each sample weighs less than the one after it, 0 to 1.
        late, early: samples.
    """

    scale: Scale
    fade: float = 0.15
    late: int = 20
    early: int = FEWEST

    @property
    def columns(self) -> int:
        """Columns in all."""
        return 2 * len(self._learnt) + 2

    def of(self, windows: Floats32) -> Floats:
        """The columns of windows (n, rows, features), NaN where absent; shape (n, columns).

        A signal that a window lacks counts as the fleet's mean, and as not having moved.
        """
        out = np.empty((len(windows), self.columns))
        for first in range(0, len(windows), _CHUNK):
            out[first : first + _CHUNK] = self._of(windows[first : first + _CHUNK])
        return out

    def moved(self, columns: Floats) -> Floats:
        """How far each feature has moved from its beginning, (n, features), in spreads."""
        width = len(self._learnt)
        moved = np.zeros((len(columns), len(self.scale.names)))
        moved[:, self._learnt] = columns[:, width : 2 * width]
        return moved

    def _of(self, windows: Floats32) -> Floats:
        rows = windows.shape[1]
        begun = np.isfinite(windows).any(axis=2)
        filled = np.where(begun.any(axis=1), rows - begun.argmax(axis=1), 1)
        first = rows - filled[:, None] + np.arange(min(self.early, rows))
        head = np.take_along_axis(windows, np.minimum(first, rows - 1)[:, :, None], axis=1)
        beginning = self._mean(head, (first < rows).astype(np.float64))
        fading = (1 - self.fade) ** np.arange(rows - 1, -1, -1, dtype=np.float64)
        tail = slice(rows - min(rows, self._reach), rows)
        recent = self._mean(windows[:, tail], fading[tail])
        last = min(self.late, rows)
        moved = self._mean(windows[:, -last:], np.ones(last)) - beginning
        columns = (recent, moved, filled[:, None], np.log(filled)[:, None])
        told: Floats = np.nan_to_num(np.concatenate(columns, axis=1), copy=False)
        return told

    def _mean(self, samples: Floats32, weights: NDArray[np.float64]) -> Floats:
        """Weighted means of the learnt signals, standardised; NaN where there is none.

        Args:
            samples: (n, k, features).
            weights: (k,), or (n, k).
        """
        values = samples[:, :, self._learnt].astype(np.float64)
        present = np.isfinite(values)
        weighed = present * (weights[:, :, None] if weights.ndim == 2 else weights[:, None])
        values = np.where(present, (values - self._centre) / self._spread, 0.0)
        total = weighed.sum(axis=1)
        some = total > 0
        means: Floats = np.where(
            some, (values * weighed).sum(axis=1) / np.where(some, total, 1.0), np.nan
        )
        return means

    @cached_property
    def _reach(self) -> int:
        """Samples after which the fading weights are below a thousandth of the first."""
        return int(np.ceil(np.log(1e-3) / np.log(1 - self.fade)))

    @cached_property
    def _learnt(self) -> Ints:
        return np.flatnonzero(self.scale.learnt)

    @cached_property
    def _centre(self) -> Floats:
        return self.scale.mean[self._learnt]

    @cached_property
    def _spread(self) -> Floats:
        return self.scale.std[self._learnt]
