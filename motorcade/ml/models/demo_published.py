"""What the public streaming demo's two models share: its 18 inputs, its scaling, its error.

As published by Kai Wähner: github.com/kaiwaehner/hivemq-mqtt-tensorflow-kafka-realtime-iot-machine-
learning-training-inference, python-scripts, AUTOENCODER cardata-v3.py and LSTM cardata-v2.py. They
are here to be measured against, so what is weak in them is kept: inputs scaled by hand or not at
all, four of them set to zero, a share of 0 to 1 taken for a percentage, no mask, no threshold.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from motorcade.fleet.catalogue import Catalogue
from motorcade.ml.engine import tensorflow
from motorcade.ml.errors import ModelRefusedError, TrainingError
from motorcade.ml.features import scale_of
from motorcade.ml.models.base import FitOptions, Learnt, Scores, Watch
from motorcade.ml.models.gradient import set_weights, weights_of
from motorcade.ml.models.reconstruction import (
    anomaly_scores,
    contributions,
    in_chunks,
    refuse_unless_finite,
)
from motorcade.ml.store import Manifest, Weights
from motorcade.ml.windows import Floats32, WindowSpec

_TIRE, _WHEEL = (20.0, 35.0), (0.0, 7.0)
#: The demo's `normalize_fn`: what becomes -1 and what becomes 1; None: the signal becomes 0.
PUBLISHED: dict[str, tuple[float, float] | None] = {
    "coolant_temp": None,
    "intake_air_temp": (15.0, 40.0),
    "intake_air_flow_speed": None,
    "battery_percentage": (0.0, 100.0),
    "battery_voltage": None,
    "current_draw": None,
    "speed": (0.0, 50.0),
    "engine_vibration_amplitude": (0.0, 7500.0),
    "throttle_pos": (0.0, 1.0),
    "tire_pressure_1_1": _TIRE,
    "tire_pressure_1_2": _TIRE,
    "tire_pressure_2_1": _TIRE,
    "tire_pressure_2_2": _TIRE,
    "accelerometer_1_1_value": _WHEEL,
    "accelerometer_1_2_value": _WHEEL,
    "accelerometer_2_1_value": _WHEEL,
    "accelerometer_2_2_value": _WHEEL,
    "control_unit_firmware": (1000.0, 2000.0),
}
INPUTS = len(PUBLISHED)


class Inputs:
    """The demo's 18 inputs of a message.

    Args:
        features: the catalogue's, which hold the demo's signals under its names.
        scaling: "published", or "raw" for none.

    Raises:
        ModelRefusedError: a signal is missing, or there is no such scaling.
    """

    def __init__(self, features: Sequence[str], scaling: str) -> None:
        missing = [name for name in PUBLISHED if name not in features]
        if missing:
            raise ModelRefusedError(
                f"The demo's models read {', '.join(missing)}, which the catalogue lacks.",
                "Run the demo's own car: motorcade up --car demo.",
            )
        self.scaling = scaling
        ranges = list(PUBLISHED.values())
        if scaling == "published":
            self._low = np.array([one[0] if one else 0.0 for one in ranges])
            self._step = np.array([2 / (one[1] - one[0]) if one else 0.0 for one in ranges])
            self._shift = np.array([-1.0 if one else 0.0 for one in ranges])
        elif scaling == "raw":
            self._low, self._step, self._shift = np.zeros(INPUTS), np.ones(INPUTS), np.zeros(INPUTS)
        else:
            raise ModelRefusedError(f"There is no scaling {scaling!r}: published, raw.")
        self.columns = np.array([list(features).index(name) for name in PUBLISHED])
        self.used = np.isin(np.arange(len(features)), self.columns[self._step != 0])

    def of(self, rows: Floats32) -> Floats32:
        """(…, features) in the signals' units to (…, 18); NaN where absent."""
        scaled: Floats32 = (rows[..., self.columns] - self._low) * self._step + self._shift
        return scaled.astype(np.float32)


def scaling_of(how: FitOptions) -> str:
    """The scaling that `--set inputs=…` asks for.

    Raises:
        TrainingError: another setting was given.
    """
    unknown = how.extra.keys() - {"inputs"}
    if unknown:
        raise TrainingError(
            f"The demo's models have no setting {', '.join(sorted(unknown))}.",
            "There is one: inputs=published or inputs=raw.",
        )
    return str(how.extra.get("inputs", "published"))


def fit_as_published(
    network: Any,
    inputs: Floats32,
    outputs: Floats32,
    batch: int,
    epochs: int,
    watch: Watch,
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Keras's own loop as the demo calls it: Adam, mean squared error, in the stream's order.

    It takes seconds, so it begins anew after an interruption. Returns curves and metrics.
    """
    keras = tensorflow().keras
    complete = np.isfinite(inputs).all(axis=tuple(range(1, inputs.ndim)))
    complete &= np.isfinite(outputs).all(axis=tuple(range(1, outputs.ndim)))
    if not complete.any():
        raise TrainingError(
            "No example carries all signals of the demo's car.", "Record more of them."
        )
    network.compile(loss="mean_squared_error", optimizer="adam")

    def ended(epoch: int, logs: dict[str, float]) -> None:
        watch.progress("training", epoch + 1, epochs, f"loss {logs['loss']:.4f}")

    history = network.fit(
        inputs[complete],
        outputs[complete],
        batch_size=batch,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=ended)],
    ).history
    losses = [float(loss) for loss in history["loss"]]
    if not np.isfinite(losses).all():
        raise TrainingError(
            "The demo's model does not learn from these inputs: its loss is no number.",
            "Take --set inputs=published.",
        )
    return {"loss": losses}, {"loss": losses[-1], "epochs": float(epochs)}


def learnt_as_published(
    network: Any, inputs: Inputs, curves: dict[str, list[float]], metrics: dict[str, float]
) -> Learnt:
    """What fitting gives: the demo has no normalisation that is learnt."""
    fields = {"learnt": inputs.used.tolist(), "extra": {"inputs": inputs.scaling}}
    return Learnt(weights_of(network), fields, curves, metrics)


class Published:
    """A model of the demo, ready to score: the mean squared error of its 18 outputs.

    A message, or the one before it, that lacks a signal is not scored: there are no masks.

    Args:
        network: untrained.
        reads: from scaled windows (n, rows, 18) to what the network is given and what it should
            say.

    Raises:
        ModelRefusedError: see `Model`.
    """

    def __init__(
        self,
        manifest: Manifest,
        weights: Weights,
        catalogue: Catalogue,
        network: Any,
        reads: Callable[[Any], tuple[Any, Any]],
    ) -> None:
        self.manifest = manifest
        scale_of(manifest).columns(catalogue)
        self._inputs = Inputs(manifest.features, str(manifest.extra.get("inputs")))
        set_weights(network, weights, manifest.architecture)
        tf = tensorflow()

        def call(windows: Any) -> Sequence[Any]:
            present = tf.cast(tf.math.is_finite(windows), tf.float32)
            given, truth = reads(tf.where(tf.math.is_finite(windows), windows, 0.0))
            parts = tf.reshape(tf.square(network(given, training=False) - truth), (-1, INPUTS))
            where, share = contributions(tf, parts)
            coverage = tf.reduce_mean(present, axis=(1, 2))
            return tf.reduce_mean(parts, axis=1), coverage, where, share

        rows = manifest.window.rows
        self._call = tf.function(
            call, input_signature=[tf.TensorSpec((None, rows, INPUTS), tf.float32)]
        )
        probe = np.zeros((2, rows, len(manifest.features)), dtype=np.float32)
        refuse_unless_finite(manifest, self.score(probe)[:4])

    @property
    def window(self) -> WindowSpec:
        """The windows that it scores."""
        return self.manifest.window

    def score(self, values: Floats32) -> Scores:
        """See `Model`."""
        score, coverage, where, share = in_chunks(self._call, self._inputs.of(values))
        score = np.where(coverage < 1, np.nan, score)
        top = self._inputs.columns[where.astype(np.int64)]
        return anomaly_scores((score, coverage, top, share), self.manifest)
