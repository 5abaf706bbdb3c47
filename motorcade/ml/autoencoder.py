"""The autoencoder of the public streaming demo, 14 tanh – 7 relu – 7 tanh, with a linear output.

Linear, because standardised inputs are not bounded; the demo's relu could not reach what lies
below the mean. Training errors count only where a signal is present.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from motorcade.fleet.arrays import Floats, Ints
from motorcade.fleet.catalogue import Catalogue
from motorcade.ml.engine import tensorflow
from motorcade.ml.errors import ModelRefusedError, TrainingError
from motorcade.ml.features import Scale, scale_of
from motorcade.ml.store import Manifest, Weights

ARCHITECTURE = "autoencoder-14tanh-7relu-7tanh-linear"
_LAYERS = ((14, "tanh"), (7, "relu"), (7, "tanh"))
#: Signals that a prediction names.
TOP = 3


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


def weights_of(model: Any) -> Weights:
    """Its weights by name."""
    return {
        f"{layer.name}/{name}": np.asarray(value, dtype=np.float32)
        for layer in model.layers
        if layer.weights
        for name, value in zip(("kernel", "bias"), layer.get_weights(), strict=True)
    }


def _set_weights(model: Any, weights: Weights) -> None:
    expected = {name: value.shape for name, value in weights_of(model).items()}
    found = {name: value.shape for name, value in weights.items()}
    if found != expected:
        raise ModelRefusedError(
            f"The weights do not fit {ARCHITECTURE}: expected {expected}, found {found}."
        )
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([weights[f"{layer.name}/{name}"] for name in ("kernel", "bias")])


class Epoch(NamedTuple):
    """Progress of training: mean squared error per present, standardised feature."""

    number: int
    of: int
    loss: float
    validation_loss: float


@dataclass(frozen=True)
class Fit:
    """How to train; `patience` epochs without a better validation loss end it early."""

    epochs: int = 20
    learning_rate: float = 2e-3
    patience: int = 4
    seed: int = 0


def fit(
    batches: Any,
    validation: Floats,
    scale: Scale,
    how: Fit,
    each_epoch: Callable[[Epoch], None],
) -> tuple[Weights, list[Epoch]]:
    """Train a network and keep the weights of its best epoch.

    Args:
        batches: a tf.data set of (n, features) float32 in the signals' units, NaN where absent;
            iterated once an epoch.
        validation: (n, features) likewise.
        scale: normalisation of the features.
        how: epochs, learning rate, patience, seed.
        each_epoch: told after every epoch.

    Raises:
        TrainingError: the loss stopped being a number.
    """
    tf = tensorflow()
    model = build(len(scale.names), dtype="float32", seed=how.seed)
    optimizer = tf.keras.optimizers.Adam(how.learning_rate)
    optimizer.build(model.trainable_variables)
    standardise = _standardise(tf, scale, tf.float32)

    def loss_of(rows: Any) -> Any:
        inputs, present = standardise(rows)
        squares = tf.square(model(inputs) - inputs) * present
        return tf.reduce_sum(squares) / tf.maximum(tf.reduce_sum(present), 1.0)

    signature = [tf.TensorSpec((None, len(scale.names)), tf.float32)]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def step(rows: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(rows)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    measure = tf.function(loss_of, input_signature=signature)
    held = tf.constant(validation.astype(np.float32))
    best: Weights = {}
    history: list[Epoch] = []
    lowest, since = np.inf, 0
    for number in range(1, how.epochs + 1):
        total = count = 0.0
        for rows in batches:
            total += float(step(rows)) * len(rows)
            count += len(rows)
        epoch = Epoch(number, how.epochs, total / max(count, 1), float(measure(held)))
        if not np.isfinite([epoch.loss, epoch.validation_loss]).all():
            raise TrainingError(
                f"The loss is {epoch.loss} after epoch {number}.", "Lower the learning rate."
            )
        history.append(epoch)
        each_epoch(epoch)
        if epoch.validation_loss < lowest:
            lowest, since, best = epoch.validation_loss, 0, weights_of(model)
        else:
            since += 1
            if since >= how.patience:
                break
    return best, history


def _standardise(tf: Any, scale: Scale, dtype: Any) -> Callable[[Any], tuple[Any, Any]]:
    """As `Scale.apply`, within a graph; the mask is 0 or 1."""
    mean = tf.constant(scale.mean, dtype)
    std = tf.constant(scale.std, dtype)
    learnt = tf.constant(scale.learnt)

    def apply(rows: Any) -> tuple[Any, Any]:
        present = tf.math.logical_and(tf.math.is_finite(rows), learnt)
        return (tf.where(present, rows, mean) - mean) / std, tf.cast(present, dtype)

    return apply


class Scores(NamedTuple):
    """Scores of n rows; `score` is NaN where the coverage is below the model's minimum.

    score, coverage: (n,) float64; healthy messages score around 2. top: (n, TOP) positions of
    features, the largest contribution first. share: (n, TOP) of the sum of squared residuals.
    """

    score: Floats
    coverage: Floats
    top: Ints
    share: Floats


class Autoencoder:
    """A trained model, ready to score.

    It computes in float64 whatever the batch size, so that a message that is scored again after a
    restart, in another batch, gets the same score to the last bit of Avro's float.

    Raises:
        ModelRefusedError: the architecture or the features are not this code's and catalogue's,
            the weights do not fit, or a probe does not come out finite.
    """

    def __init__(self, manifest: Manifest, weights: Weights, catalogue: Catalogue) -> None:
        if manifest.architecture != ARCHITECTURE:
            raise ModelRefusedError(
                f"The model {manifest.name} {manifest.version} has architecture "
                f"{manifest.architecture!r}; this code knows {ARCHITECTURE!r}."
            )
        self.manifest = manifest
        self.scale = scale_of(manifest)
        self._columns = self.scale.columns(catalogue)
        self._call = _scorer(manifest, self.scale, weights)
        self._probe()

    def score(self, values: Floats) -> Scores:
        """Score rows of all signals, shape (n, signals), NaN where absent."""
        tf = tensorflow()
        outputs = self._call(tf.constant(values[:, self._columns]))
        score, coverage, top, share = (output.numpy() for output in outputs)
        score[coverage < self.manifest.minimum_coverage] = np.nan
        return Scores(score, coverage, top, share)

    def _probe(self) -> None:
        """Score the mean car and two odd ones: it also warms the graph up."""
        width = int(self._columns.max()) + 1
        rows = np.full((3, width), np.nan)
        for row, shift in enumerate((0.0, 10.0, -10.0)):
            rows[row, self._columns] = self.scale.mean + shift * self.scale.std
        outputs = self.score(rows)
        if not all(np.isfinite(part).all() for part in outputs):
            raise ModelRefusedError(
                f"The model {self.manifest.name} {self.manifest.version} does not give finite "
                "scores."
            )


def _scorer(manifest: Manifest, scale: Scale, weights: Weights) -> Callable[[Any], Sequence[Any]]:
    """The graph: one trace for every batch size, because the first dimension is open."""
    tf = tensorflow()
    n = len(scale.names)
    model = build(n, dtype="float64")
    _set_weights(model, weights)
    standardise = _standardise(tf, scale, tf.float64)
    residual = tf.constant(manifest.residual, tf.float64)
    known = float(scale.learnt.sum())
    top = min(TOP, n)

    def call(rows: Any) -> Sequence[Any]:
        inputs, present = standardise(rows)
        parts = tf.square((model(inputs) - inputs) / residual) * present
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


def spread(weights: Weights, scale: Scale, catalogue: Catalogue, features: Floats) -> Floats:
    """Root mean square of each feature's residual on healthy rows, standardised, shape (features,).

    Never below half a step of the signal's precision, which alone is no deviation.

    Args:
        features: (n, features) in the signals' units, NaN where absent.
    """
    model = build(len(scale.names), dtype="float64")
    _set_weights(model, weights)
    inputs, present = scale.apply(features)
    squares = np.where(present, model(inputs, training=False).numpy() - inputs, 0.0) ** 2
    root = np.sqrt(squares.sum(axis=0) / np.maximum(present.sum(axis=0), 1))
    steps = np.array([10.0**-signal.precision for signal in catalogue.signals if signal.feature])
    spreads: Floats = np.maximum(root, 0.5 * steps / scale.std)
    return spreads
