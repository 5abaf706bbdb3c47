"""The public streaming demo's autoencoder as published: 18-14-7-7-18, with a relu at the end."""

import operator
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

NAME = "demo-autoencoder"
_EPOCHS, _BATCH, _BATCHES = 20, 100, 100
#: The demo calls it a learning rate.
_ACTIVITY = 1e-7


def build() -> Any:
    """The untrained network; its initial weights follow Keras's global seed."""
    keras = tensorflow().keras
    dense = keras.layers.Dense
    shape = keras.Input((INPUTS,))
    out = dense(14, "tanh", activity_regularizer=keras.regularizers.L1(_ACTIVITY), name="encoder")(
        shape
    )
    out = dense(7, "relu", name="code")(out)
    out = dense(7, "tanh", name="decoder")(out)
    return keras.Model(shape, dense(INPUTS, "relu", name="outputs")(out))


class DemoAutoencoderArchitecture:
    """Learns from the first 10,000 records without a failure, as the demo's script does.

    Setting: inputs=published (scaled by hand, as in the script) or inputs=raw.
    """

    name = NAME
    objective: Objective = "anomaly"
    window = WindowSpec()
    baseline = False

    def fit(self, data: TrainingData, how: FitOptions, watch: Watch) -> Learnt:
        """See `Architecture`; epochs, batch and learning rate are the demo's."""
        if data.window.rows != 1:
            raise TrainingError(
                f"The {NAME} sees one message at a time.", "Leave --window out for it."
            )
        inputs = Inputs(data.catalogue.features, scaling_of(how))
        watch.progress("preparing", 0, 1, "importing TensorFlow")
        tensorflow().keras.utils.set_random_seed(how.seed)
        watch.progress("preparing", 1, 1)
        network = build()
        # The demo's label: no failure has occurred to the car, up to now.
        rows = data.train.windows.values[data.train.healthy(0)][: _BATCH * _BATCHES, -1]
        scaled = inputs.of(rows)
        told = fit_as_published(network, scaled, scaled, _BATCH, _EPOCHS, watch)
        return learnt_as_published(network, inputs, *told)

    def load(self, manifest: Manifest, weights: Weights, catalogue: Catalogue) -> Published:
        """See `Architecture`."""
        last = operator.itemgetter((slice(None), -1))
        return Published(
            manifest, weights, catalogue, build(), lambda rows: (last(rows), last(rows))
        )


ARCHITECTURE = DemoAutoencoderArchitecture()
