"""An LSTM autoencoder over windows: what a healthy car did lately, told from what it could do.

The layers of the public demo's LSTM, 32-16-repeat-16-32, but over each car's own past, with
standardised inputs, a mask beside every value, linear outputs, and errors of present values only.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from motorcade.fleet.arrays import Floats
from motorcade.fleet.catalogue import Catalogue
from motorcade.ml.engine import tensorflow
from motorcade.ml.features import Scale, scale_of
from motorcade.ml.models.base import (
    Examples,
    FitOptions,
    Learnt,
    Objective,
    Scores,
    TrainingData,
    Watch,
)
from motorcade.ml.models.gradient import descend, set_weights
from motorcade.ml.models.reconstruction import (
    anomaly_scores,
    in_chunks,
    probe,
    refuse_unless_finite,
    score_of,
    spread,
    standardise,
)
from motorcade.ml.store import Manifest, Weights
from motorcade.ml.windows import Floats32, WindowSpec

NAME = "lstm-autoencoder"
_OUTER, _INNER = 32, 16
_SPREAD_BATCH = 4096


def build(rows: int, features: int) -> Any:
    """An untrained network from (n, rows, 2 · features), values and mask, to (n, rows, features).

    Its initial weights follow Keras's global seed.
    """
    keras = tensorflow().keras
    layers = keras.layers
    shape = out = keras.Input((rows, 2 * features))
    # Unrolled: a window is short, and a graph without a loop is several times as fast.
    out = layers.LSTM(_OUTER, return_sequences=True, unroll=True, name="encoder_outer")(out)
    out = layers.LSTM(_INNER, unroll=True, name="encoder_inner")(out)
    out = layers.RepeatVector(rows, name="repeat")(out)
    out = layers.LSTM(_INNER, return_sequences=True, unroll=True, name="decoder_inner")(out)
    out = layers.LSTM(_OUTER, return_sequences=True, unroll=True, name="decoder_outer")(out)
    return keras.Model(shape, layers.Dense(features, name="outputs")(out))


class LstmAutoencoderArchitecture:
    """Learns to reproduce the recent past of healthy cars."""

    name = NAME
    objective: Objective = "anomaly"
    window = WindowSpec(rows=10, every_ms=60_000)
    baseline = False

    def fit(self, data: TrainingData, how: FitOptions, watch: Watch) -> Learnt:
        """See `Architecture`."""
        train, validate = (_healthy(part, data) for part in (data.train, data.validate))
        scale = Scale.learnt_from(train[:, -1], data.catalogue)
        watch.progress("preparing", 0, 1, "importing TensorFlow")
        tf = tensorflow()
        watch.progress("preparing", 1, 1)
        tf.keras.utils.set_random_seed(how.seed)
        network = build(train.shape[1], len(scale.names))
        standardised = standardise(tf, scale, tf.float32)

        def loss(windows: Any) -> tuple[Any, Any]:
            inputs, present = standardised(windows)
            outputs = network(tf.concat([inputs, present], 2), training=True)
            return (
                tf.reduce_sum(tf.square(outputs - inputs) * present),
                tf.reduce_sum(present),
            )

        found = descend(network, loss, [train], [validate], how, watch)
        fields = {
            "mean": scale.mean.tolist(),
            "std": scale.std.tolist(),
            "learnt": scale.learnt.tolist(),
            "residual": _spread(found.weights, scale, data.catalogue, validate).tolist(),
        }
        return Learnt(found.weights, fields, found.curves, found.metrics)

    def load(self, manifest: Manifest, weights: Weights, catalogue: Catalogue) -> "LstmAutoencoder":
        """See `Architecture`."""
        return LstmAutoencoder(manifest, weights, catalogue)


class LstmAutoencoder:
    """A trained model, ready to score.

    Raises:
        ModelRefusedError: the features are not the catalogue's, the weights do not fit, or a probe
            does not come out finite.
    """

    def __init__(self, manifest: Manifest, weights: Weights, catalogue: Catalogue) -> None:
        self.manifest = manifest
        scale = scale_of(manifest)
        scale.columns(catalogue)
        self._call = _scorer(manifest, scale, weights)
        refuse_unless_finite(manifest, self.score(probe(manifest, scale))[:4])

    @property
    def window(self) -> WindowSpec:
        """The windows that it scores."""
        return self.manifest.window

    def score(self, values: Floats32) -> Scores:
        """See `Model`."""
        return anomaly_scores(in_chunks(self._call, values), self.manifest)


def _healthy(part: Examples, data: TrainingData) -> Floats32:
    windows: Floats32 = part.windows.values[part.healthy(data.horizon_ms)]
    return windows


def _scorer(manifest: Manifest, scale: Scale, weights: Weights) -> Callable[[Any], Sequence[Any]]:
    """The graph from windows to (score, coverage, top, share), traced once for all batch sizes."""
    tf = tensorflow()
    mean_residual = _mean_residual(tf, manifest.window.rows, scale, weights)
    residual = tf.constant(manifest.residual, tf.float32)
    known = float(scale.learnt.sum())

    def call(windows: Any) -> Sequence[Any]:
        deviation, present = mean_residual(windows)
        score, _, top, share = score_of(tf, tf.square(deviation / residual), present, known)
        last = tf.math.logical_and(tf.math.is_finite(windows[:, -1]), scale.learnt)
        coverage = tf.reduce_sum(tf.cast(last, tf.float32), axis=1) / known
        return score, coverage, top, share

    graph: Callable[[Any], Sequence[Any]] = tf.function(
        call,
        input_signature=[tf.TensorSpec((None, manifest.window.rows, len(scale.names)), tf.float32)],
    )
    return graph


def _mean_residual(
    tf: Any, rows: int, scale: Scale, weights: Weights
) -> Callable[[Any], tuple[Any, Any]]:
    """From windows to each feature's mean residual over its present values, and its presence.

    The mean with its sign: what comes and goes cancels out, a fault that has begun does not.
    """
    network = build(rows, len(scale.names))
    set_weights(network, weights, NAME)
    standardised = standardise(tf, scale, tf.float32)

    def call(windows: Any) -> tuple[Any, Any]:
        inputs, present = standardised(windows)
        outputs = network(tf.concat([inputs, present], 2), training=False)
        count = tf.reduce_sum(present, axis=1)
        total = tf.reduce_sum((outputs - inputs) * present, axis=1)
        return total / tf.maximum(count, 1.0), tf.minimum(count, 1.0)

    return call


def _spread(weights: Weights, scale: Scale, catalogue: Catalogue, windows: Floats32) -> Floats:
    """Spread of the mean residuals on healthy windows, see `spread`."""
    tf = tensorflow()
    rows = windows.shape[1]
    graph = tf.function(
        _mean_residual(tf, rows, scale, weights),
        input_signature=[tf.TensorSpec((None, *windows.shape[1:]), tf.float32)],
    )
    parts = [
        [part.numpy() for part in graph(windows[first : first + _SPREAD_BATCH])]
        for first in range(0, len(windows), _SPREAD_BATCH)
    ]
    residuals, present = (np.concatenate(column) for column in zip(*parts, strict=True))
    return spread(residuals, present > 0, scale, catalogue)


ARCHITECTURE = LstmAutoencoderArchitecture()
