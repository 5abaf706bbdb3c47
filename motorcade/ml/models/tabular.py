"""What models on window statistics share: learning and loading them, and naming signals."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from motorcade.fleet.arrays import Floats, Ints
from motorcade.fleet.catalogue import Catalogue
from motorcade.ml.errors import ModelRefusedError
from motorcade.ml.features import Scale, scale_of
from motorcade.ml.models.base import TOP, Examples, TrainingData, Watch
from motorcade.ml.models.boosting import Sample
from motorcade.ml.models.quadratic import largest
from motorcade.ml.store import Manifest, Weights
from motorcade.ml.window_statistics import WindowStatistics
from motorcade.ml.windows import Floats32

HOUR_MS = 3_600_000.0


def learn_statistics(data: TrainingData, names: Sequence[str], watch: Watch) -> WindowStatistics:
    """What is normal, from the healthy examples that train."""
    watch.progress("statistics", 0, 1)
    healthy = data.train.windows.values[data.train.healthy(data.horizon_ms)]
    scale = Scale.learnt_from(healthy[:, -1], data.catalogue)
    statistics = WindowStatistics.learn(scale, healthy, names)
    watch.progress("statistics", 1, 1)
    return statistics


def fields_of(statistics: WindowStatistics) -> dict[str, Any]:
    """The manifest's fields."""
    scale = statistics.scale
    return {
        "mean": scale.mean.tolist(),
        "std": scale.std.tolist(),
        "learnt": scale.learnt.tolist(),
        "residual": np.ones(len(scale.names)).tolist(),
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


def no_signals(n: int, features: int) -> tuple[Ints, Floats]:
    """(top, share) of n windows to which no signal contributes."""
    most = min(TOP, features)
    return np.tile(np.arange(most), (n, 1)), np.zeros((n, most))


def signals_of(contributions: Floats, features: int) -> tuple[Ints, Floats]:
    """(top, share) of the signals that raised a prediction.

    Args:
        contributions: (n, columns), column c about signal c modulo features.
    """
    by_signal = contributions.reshape(len(contributions), -1, features).sum(axis=1)
    return largest(np.maximum(by_signal, 0.0))
