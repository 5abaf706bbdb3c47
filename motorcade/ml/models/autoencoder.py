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
from motorcade.ml.errors import TrainingError
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
        standardised = standardise(tf, scale, tf.float32)

        def loss(rows: Any) -> tuple[Any, Any]:
            inputs, present = standardised(rows)
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


class Autoencoder:
    """A trained model, ready to score; healthy messages score around 2.

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
        return anomaly_scores(in_chunks(self._call, values[:, -1]), self.manifest)

    def _probe(self) -> None:
        """Score the mean car and two odd ones: it also warms the graph up."""
        refuse_unless_finite(self.manifest, self.score(probe(self.manifest, self.scale))[:4])


def _scorer(manifest: Manifest, scale: Scale, weights: Weights) -> Callable[[Any], Sequence[Any]]:
    """The graph: one trace for every batch size, because the first dimension is open."""
    tf = tensorflow()
    n = len(scale.names)
    network = build(n, dtype="float32")
    set_weights(network, weights, NAME)
    standardised = standardise(tf, scale, tf.float32)
    residual = tf.constant(manifest.residual, tf.float32)
    known = float(scale.learnt.sum())

    def call(rows: Any) -> Sequence[Any]:
        inputs, present = standardised(rows)
        parts = tf.square((network(inputs) - inputs) / residual) * present
        return score_of(tf, parts, present, known)

    graph: Callable[[Any], Sequence[Any]] = tf.function(
        call, input_signature=[tf.TensorSpec((None, n), tf.float32)]
    )
    return graph


def _spread(weights: Weights, scale: Scale, catalogue: Catalogue, features: Floats32) -> Floats:
    """Spread of the residuals on healthy rows (n, features), see `spread`."""
    network = build(len(scale.names), dtype="float64")
    set_weights(network, weights, NAME)
    inputs, present = scale.apply(features.astype(np.float64))
    return spread(network(inputs, training=False).numpy() - inputs, present, scale, catalogue)


ARCHITECTURE = AutoencoderArchitecture()
