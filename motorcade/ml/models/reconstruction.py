"""What the networks that reproduce or predict their input share: masks, scores, the probe."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Bools, Floats
from motorcade.fleet.catalogue import Catalogue
from motorcade.ml.errors import ModelRefusedError
from motorcade.ml.features import Scale
from motorcade.ml.models.base import TOP, Scores
from motorcade.ml.store import Manifest
from motorcade.ml.windows import Floats32

#: A graph from windows to (score, coverage, top, share).
Graph = Callable[[Any], Sequence[Any]]
#: Windows of one call are filled up to a multiple of this. Matrix products pick their code by the
#: number of rows: with few rows, float32 results would depend on the batch in their last bit.
_CHUNK = 64


def standardise(tf: Any, scale: Scale, dtype: Any) -> Callable[[Any], tuple[Any, Any]]:
    """As `Scale.apply`, within a graph, on (…, features); the mask is 0 or 1."""
    mean = tf.constant(scale.mean, dtype)
    std = tf.constant(scale.std, dtype)
    learnt = tf.constant(scale.learnt)

    def apply(rows: Any) -> tuple[Any, Any]:
        present = tf.math.logical_and(tf.math.is_finite(rows), learnt)
        return (tf.where(present, rows, mean) - mean) / std, tf.cast(present, dtype)

    return apply


def score_of(tf: Any, parts: Any, present: Any, known: float) -> Sequence[Any]:
    """(score, coverage, top, share) of residuals.

    Args:
        parts: (n, features) squared residuals in units of their spread, 0 where absent.
        present: (n, features) 0 or 1.
        known: the number of features that the model has learnt.
    """
    count = tf.reduce_sum(present, axis=1)
    # The power mean of the squared residuals. With exponent 1 one signal's deviation drowns
    # among the others, with infinity one signal's noise decides; on simulated wear 3 leads
    # failures by as much as the largest residual does, with fewer false alerts.
    # Beside the largest, because the third power of a wild value is beyond float32.
    largest = tf.maximum(tf.reduce_max(parts, axis=1), 1e-30)
    shares = parts / largest[:, tf.newaxis]
    mean = tf.reduce_sum(shares * shares * shares, axis=1) / tf.maximum(count, 1.0)
    return largest * mean ** (1 / 3), count / known, *contributions(tf, parts)


def contributions(tf: Any, parts: Any) -> tuple[Any, Any]:
    """(top, share): positions of the largest parts, and their shares of all parts' sum."""
    largest, where = tf.math.top_k(parts, min(TOP, parts.shape[1]))
    total = tf.maximum(tf.reduce_sum(parts, axis=1), 1e-30)
    return where, largest / total[:, tf.newaxis]


def spread(
    residuals: NDArray[np.floating[Any]], present: Bools, scale: Scale, catalogue: Catalogue
) -> Floats:
    """Root mean square of each feature's residual on healthy rows, standardised, shape (features,).

    Never below half a step of the signal's precision, which alone is no deviation.

    Args:
        residuals: (n, features) standardised.
        present: (n, features) mask.
    """
    squares = np.where(present, residuals, 0.0).astype(np.float64) ** 2
    root = np.sqrt(squares.sum(axis=0) / np.maximum(present.sum(axis=0), 1))
    steps = np.array([10.0**-signal.precision for signal in catalogue.signals if signal.feature])
    spreads: Floats = np.maximum(root, 0.5 * steps / scale.std)
    return spreads


def in_chunks(
    graph: Callable[[Any], Sequence[Any]], windows: Floats32
) -> list[NDArray[np.floating[Any]]]:
    """What a float32 graph says of n windows, the same to the last bit in any batch."""
    n = len(windows)
    # No window is a chunk of zeros, too: recurrent layers have no answer to an empty batch.
    short = -n % _CHUNK if n else _CHUNK
    if short:
        windows = np.concatenate([windows, np.zeros((short, *windows.shape[1:]), windows.dtype)])
    return [np.asarray(output)[:n] for output in graph(windows)]


def anomaly_scores(outputs: Sequence[Any], manifest: Manifest) -> Scores:
    """Scores of a graph's (score, coverage, top, share)."""
    score, coverage, top, share = (np.asarray(output) for output in outputs)
    score, coverage = score.astype(np.float64), coverage.astype(np.float64)
    # Rounded as Avro's float: a share of 0.5 is 0.5, whichever precision it was computed in.
    score[coverage < manifest.minimum_coverage - 1e-6] = np.nan
    return Scores.of_anomaly(score, coverage, top.astype(np.int64), share.astype(np.float64))


def probe(manifest: Manifest, scale: Scale) -> Floats32:
    """Windows of the mean vehicle and of two odd ones, shape (3, rows, features)."""
    shifts = np.array([0.0, 10.0, -10.0])[:, None, None]
    one_row = scale.mean + shifts * scale.std
    windows: Floats32 = np.repeat(one_row, manifest.window.rows, axis=1).astype(np.float32)
    return windows


def refuse_unless_finite(manifest: Manifest, outputs: Sequence[Any]) -> None:
    """Raise ModelRefusedError where what a model says of the probe is not finite."""
    if not all(np.isfinite(part).all() for part in outputs):
        raise ModelRefusedError(
            f"The model {manifest.name} {manifest.version} does not give finite scores."
        )
