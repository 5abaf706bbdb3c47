"""The public streaming demo's LSTM as published: 32-16-repeat-16-32, predicts the next message."""

from typing import Any

from motorcade.fleet.catalogue import Catalogue
from motorcade.ml.engine import tensorflow
from motorcade.ml.errors import TrainingError
from motorcade.ml.models.base import FitOptions, Learnt, Objective, TrainingData, Watch
from motorcade.ml.models.demo_published import (
    INPUTS,
    Inputs,
    Published,
    fit_as_published,
    learnt_as_published,
    scaling_of,
)
from motorcade.ml.store import Manifest, Weights
from motorcade.ml.windows import WindowSpec

NAME = "demo-lstm"
_LOOK_BACK = 1
_EPOCHS, _BATCH, _BATCHES = 5, 1, 1000


def build() -> Any:
    """The untrained network; its initial weights follow Keras's global seed."""
    keras = tensorflow().keras
    layers = keras.layers

    def lstm(units: int, name: str, *, sequences: bool = True) -> Any:
        return layers.LSTM(
            units, activation="relu", return_sequences=sequences, unroll=True, name=name
        )

    shape = out = keras.Input((_LOOK_BACK, INPUTS))
    out = lstm(32, "encoder_outer")(out)
    out = lstm(16, "encoder_inner", sequences=False)(out)
    out = layers.RepeatVector(_LOOK_BACK, name="repeat")(out)
    out = lstm(16, "decoder_inner")(out)
    out = lstm(32, "decoder_outer")(out)
    out = layers.TimeDistributed(layers.Dense(INPUTS, name="dense"), name="outputs")(out)
    return keras.Model(shape, out)


class DemoLstmArchitecture:
    """Learns to predict a message from the one before it, from the first 1,000 pairs.

    The demo's script pairs each message with the next one in the topic, whichever car sent it;
    windows here are of one car, which is kinder to it. Failing cars are not left out, as there.

    Setting: inputs=published (scaled by hand, as in the script) or inputs=raw.
    """

    name = NAME
    objective: Objective = "anomaly"
    window = WindowSpec(rows=_LOOK_BACK + 1)
    baseline = False

    def fit(self, data: TrainingData, how: FitOptions, watch: Watch) -> Learnt:
        """See `Architecture`; epochs, batch and learning rate are the demo's."""
        if data.window.rows != _LOOK_BACK + 1:
            raise TrainingError(
                f"The {NAME} sees one message and predicts the next.", "Leave --window out for it."
            )
        inputs = Inputs(data.catalogue.features, scaling_of(how))
        watch.progress("preparing", 0, 1, "importing TensorFlow")
        tensorflow().keras.utils.set_random_seed(how.seed)
        watch.progress("preparing", 1, 1)
        network = build()
        windows = data.train.windows
        pairs = inputs.of(windows.values[windows.filled > _LOOK_BACK][: _BATCH * _BATCHES])
        told = fit_as_published(
            network, pairs[:, :_LOOK_BACK], pairs[:, -1:], _BATCH, _EPOCHS, watch
        )
        return learnt_as_published(network, inputs, *told)

    def load(self, manifest: Manifest, weights: Weights, catalogue: Catalogue) -> Published:
        """See `Architecture`."""
        return Published(
            manifest,
            weights,
            catalogue,
            build(),
            lambda rows: (rows[:, :_LOOK_BACK], rows[:, -1:]),
        )


ARCHITECTURE = DemoLstmArchitecture()
