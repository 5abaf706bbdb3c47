"""The autoencoder of the public streaming demo, 14 tanh – 7 relu – 7 tanh, with a linear output.

Linear, because standardised inputs are not bounded; the demo's relu could not reach what lies
below the mean. Training errors count only where a signal is present.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from motorcade.fleet.arrays import Floats
from motorcade.fleet.catalogue import Catalogue
from motorcade.ml.engine import tensorflow
from motorcade.ml.errors import ModelRefusedError, TrainingError
from motorcade.ml.features import Scale, scale_of
from motorcade.ml.models.base import (
    TOP,
    Examples,
    FitOptions,
    Learnt,
    Objective,
    Scores,
    TrainingData,
    Watch,
)
from motorcade.ml.models.gradient import descend, set_weights
from motorcade.ml.store import Manifest, Weights
from motorcade.ml.windows import Floats32, WindowSpec

NAME = "autoencoder"
_LAYERS = ((14, "tanh"), (7, "relu"), (7, "tanh"))


def build(features: int, *, dtype: str, seed: int = 0) -> Any:
    """An untrained network from (n, features) to (n, features)."""
    keras = tensorflow().keras
    shape = keras.Input((features,), dtype=dtype)
    out = shape
    for number, (units, activation) in enumerate((*_LAYERS, (features, "linear"))):
        out = keras.layers.Dense(
            units,
            activation=activation,
            dtype=dtype,
            name=f"dense_{number}",
            kernel_initializer=keras.initializers.GlorotUniform(seed + number),
        )(out)
    return keras.Model(shape, out)


class AutoencoderArchitecture:
    """Learns to reproduce what healthy cars send."""

    name = NAME
    objective: Objective = "anomaly"
    window = WindowSpec()
    baseline = False

    def fit(self, data: TrainingData, how: FitOptions, watch: Watch) -> Learnt:
        """See `Architecture`."""
        if data.window.rows != 1:
            raise TrainingError(
                f"The {NAME} sees one sample at a time, not windows of {data.window.rows}.",
                "Leave --window out, or train lstm-autoencoder.",
            )
        train, validate = (_healthy(part, data) for part in (data.train, data.validate))
        scale = Scale.learnt_from(train, data.catalogue)
        watch.progress("preparing", 0, 1, "importing TensorFlow")
        tf = tensorflow()
        watch.progress("preparing", 1, 1)
        network = build(len(scale.names), dtype="float32", seed=how.seed)
        standardise = _standardise(tf, scale, tf.float32)

        def loss(rows: Any) -> tuple[Any, Any]:
            inputs, present = standardise(rows)
            return (
                tf.reduce_sum(tf.square(network(inputs) - inputs) * present),
                tf.reduce_sum(present),
            )

        # A small training set still gets its hundred steps an epoch.
        how = msgspec.structs.replace(how, batch=min(how.batch, max(32, len(train) // 100)))
        found = descend(network, loss, [train], [validate], how, watch)
        fields = {
            "mean": scale.mean.tolist(),
            "std": scale.std.tolist(),
            "learnt": scale.learnt.tolist(),
            "residual": _spread(found.weights, scale, data.catalogue, validate).tolist(),
        }
        return Learnt(found.weights, fields, found.curves, found.metrics)

    def load(self, manifest: Manifest, weights: Weights, catalogue: Catalogue) -> "Autoencoder":
        """See `Architecture`."""
        return Autoencoder(manifest, weights, catalogue)


def _healthy(part: Examples, data: TrainingData) -> Floats32:
    """The last sample of the healthy examples, (n, features)."""
    rows: Floats32 = part.windows.values[part.healthy(data.horizon_ms), -1]
    return rows


def _standardise(tf: Any, scale: Scale, dtype: Any) -> Callable[[Any], tuple[Any, Any]]:
    """As `Scale.apply`, within a graph; the mask is 0 or 1."""
    mean = tf.constant(scale.mean, dtype)
    std = tf.constant(scale.std, dtype)
    learnt = tf.constant(scale.learnt)

    def apply(rows: Any) -> tuple[Any, Any]:
        present = tf.math.logical_and(tf.math.is_finite(rows), learnt)
        return (tf.where(present, rows, mean) - mean) / std, tf.cast(present, dtype)

    return apply


class Autoencoder:
    """A trained model, ready to score; healthy messages score around 2.

    It computes in float64 whatever the batch size, so that a message that is scored again after a
    restart, in another batch, gets the same score to the last bit of Avro's float.

    Raises:
        ModelRefusedError: the features are not the catalogue's, the weights do not fit, or a probe
            does not come out finite.
    """

    def __init__(self, manifest: Manifest, weights: Weights, catalogue: Catalogue) -> None:
        self.manifest = manifest
        self.scale = scale_of(manifest)
        self.scale.columns(catalogue)
        self._call = _scorer(manifest, self.scale, weights)
        self._probe()

    @property
    def window(self) -> WindowSpec:
        """The windows that it scores, of one row."""
        return self.manifest.window

    def score(self, values: Floats32) -> Scores:
        """See `Model`; values (n, 1, features)."""
        outputs = self._call(tensorflow().constant(values[:, -1].astype(np.float64)))
        score, coverage, top, share = (output.numpy() for output in outputs)
        score[coverage < self.manifest.minimum_coverage] = np.nan
        return Scores.of_anomaly(score, coverage, top.astype(np.int64), share)

    def _probe(self) -> None:
        """Score the mean car and two odd ones: it also warms the graph up."""
        shifts = np.array([0.0, 10.0, -10.0])[:, None, None]
        probe = self.scale.mean + shifts * self.scale.std
        scores = self.score(probe.astype(np.float32))
        if not all(np.isfinite(part).all() for part in scores[:4]):
            raise ModelRefusedError(
                f"The model {self.manifest.name} {self.manifest.version} does not give finite "
                "scores."
            )


def _scorer(manifest: Manifest, scale: Scale, weights: Weights) -> Callable[[Any], Sequence[Any]]:
    """The graph: one trace for every batch size, because the first dimension is open."""
    tf = tensorflow()
    n = len(scale.names)
    network = build(n, dtype="float64")
    set_weights(network, weights, NAME)
    standardise = _standardise(tf, scale, tf.float64)
    residual = tf.constant(manifest.residual, tf.float64)
    known = float(scale.learnt.sum())
    top = min(TOP, n)

    def call(rows: Any) -> Sequence[Any]:
        inputs, present = standardise(rows)
        parts = tf.square((network(inputs) - inputs) / residual) * present
        count = tf.reduce_sum(present, axis=1)
        # The power mean of the squared residuals. With exponent 1 one signal's deviation drowns
        # among the others, with infinity one signal's noise decides; on simulated wear 3 leads
        # failures by as much as the largest residual does, with fewer false alerts.
        mean = tf.reduce_sum(parts * parts * parts, axis=1) / tf.maximum(count, 1.0)
        largest, where = tf.math.top_k(parts, top)
        total = tf.maximum(tf.reduce_sum(parts, axis=1), 1e-30)
        share = largest / total[:, tf.newaxis]
        return mean ** (1 / 3), count / known, where, share

    graph: Callable[[Any], Sequence[Any]] = tf.function(
        call, input_signature=[tf.TensorSpec((None, n), tf.float64)]
    )
    return graph


def _spread(weights: Weights, scale: Scale, catalogue: Catalogue, features: Floats32) -> Floats:
    """Root mean square of each feature's residual on healthy rows, standardised, shape (features,).

    Never below half a step of the signal's precision, which alone is no deviation.

    Args:
        features: (n, features) in the signals' units, NaN where absent.
    """
    network = build(len(scale.names), dtype="float64")
    set_weights(network, weights, NAME)
    inputs, present = scale.apply(features.astype(np.float64))
    squares = np.where(present, network(inputs, training=False).numpy() - inputs, 0.0) ** 2
    root = np.sqrt(squares.sum(axis=0) / np.maximum(present.sum(axis=0), 1))
    steps = np.array([10.0**-signal.precision for signal in catalogue.signals if signal.feature])
    spreads: Floats = np.maximum(root, 0.5 * steps / scale.std)
    return spreads


ARCHITECTURE = AutoencoderArchitecture()
