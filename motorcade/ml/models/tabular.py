"""What models on window statistics share: learning and loading them, and naming signals."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from motorcade.fleet.arrays import Floats, Ints
from motorcade.fleet.catalogue import Catalogue
from motorcade.ml.errors import ModelRefusedError
from motorcade.ml.features import Scale, scale_of
from motorcade.ml.models.base import Examples, TrainingData, Watch
from motorcade.ml.models.boosting import Sample
from motorcade.ml.models.quadratic import largest
from motorcade.ml.store import Manifest, Weights
from motorcade.ml.window_statistics import WindowStatistics
from motorcade.ml.windows import Floats32

HOUR_MS = 3_600_000.0
#: Spread of a residual that is explained without rest, standardised.
_LEAST = 1e-4


def learn_statistics(data: TrainingData, names: Sequence[str], watch: Watch) -> WindowStatistics:
    """What is normal, from the healthy examples that train."""
    watch.progress("statistics", 0, 1)
    healthy = data.train.windows.values[data.train.healthy(data.horizon_ms)]
    scale = Scale.learnt_from(healthy[:, -1], data.catalogue)
    statistics = WindowStatistics.learn(scale, healthy, names)
    watch.progress("statistics", 1, 1)
    return statistics


def fields_of(statistics: WindowStatistics, data: TrainingData) -> dict[str, Any]:
    """The manifest's fields; the residuals' spread is that of cars that did not train."""
    scale = statistics.scale
    healthy = data.validate.windows.values[data.validate.healthy(data.horizon_ms)]
    return {
        "mean": scale.mean.tolist(),
        "std": scale.std.tolist(),
        "learnt": scale.learnt.tolist(),
        "residual": _spread(statistics, healthy).tolist(),
        "extra": {"statistics": list(statistics.statistics)},
    }


def load_statistics(manifest: Manifest, weights: Weights, catalogue: Catalogue) -> WindowStatistics:
    """What `fields_of` and the weights gave.

    Raises:
        ModelRefusedError: they do not fit each other or the catalogue.
    """
    scale = scale_of(manifest)
    scale.columns(catalogue)
    names = manifest.extra.get("statistics")
    if not isinstance(names, list) or not names:
        raise ModelRefusedError(
            f"The model {manifest.name} {manifest.version} names no window statistics."
        )
    return WindowStatistics.from_weights(weights, scale, names)


def life_sample(part: Examples, columns: Floats32, cap_ms: int) -> Sample:
    """Examples whose remaining life is known up to the cap, and that life in hours."""
    ahead = np.minimum(part.next_failure_ms, cap_ms)
    seen = np.isfinite(part.next_failure_ms) | (part.observed_ms >= cap_ms)
    mine = seen & ~part.after_failure
    return Sample(columns[mine], ahead[mine] / HOUR_MS)


def coverage_of(scale: Scale, windows: Floats32) -> Floats:
    """Share of the learnt features that the last samples carry, shape (n,)."""
    return scale.coverage(np.isfinite(windows[:, -1]) & scale.learnt)


class Deviations:
    """Which signals stray from what the others let expect: the contributions of these models.

    Trees that read a residual may blame a signal for what another does to its expectation. In
    units of the healthy spread, however, the largest residual is that of the signal that strays:
    the others' are smaller by their partial correlation with it.
    """

    def __init__(self, statistics: WindowStatistics, residual: Floats) -> None:
        self._statistics = replace(statistics, statistics=("residual_rms",))
        self._residual = residual

    def of(self, windows: Floats32, rows: Ints) -> tuple[Ints, Floats]:
        """(top, share) of n windows; the shares are 0 but for the rows that are asked for."""
        n, _, features = windows.shape
        parts = np.zeros((n, features))
        strays = self._statistics.of(windows[rows]) / self._residual
        parts[rows] = np.nan_to_num(strays) ** 2
        return largest(parts)


def _spread(statistics: WindowStatistics, windows: Floats32) -> Floats:
    """Root mean square of each signal's residual in healthy windows, shape (features,)."""
    found = replace(statistics, statistics=("residual_rms",)).of(windows).astype(np.float64)
    present = np.isfinite(found)
    squares = np.where(present, found, 0.0) ** 2
    spread: Floats = np.sqrt(squares.sum(axis=0) / np.maximum(present.sum(axis=0), 1))
    return np.maximum(spread, _LEAST)
