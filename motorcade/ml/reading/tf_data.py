"""Recorded telemetry as a tf.data set: training reads Kafka itself, no file in between."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.engine import tensorflow


def tf_dataset(batches: Iterable[TelemetryColumns], catalogue: Catalogue) -> Any:
    """Recorded telemetry as a `tf.data.Dataset`, read from Kafka whenever it is iterated.

    Args:
        batches: what to read, such as a reader.
        catalogue: the signals that the batches are laid out by.

    Returns:
        A dataset of batches as they are read: `vin` (n,) string, `boot`, `seq` and `time` (n,)
        int64, `features` (n, features) float32 in catalogue order, NaN where absent. Single
        records, shuffled, in other batches: `.unbatch().shuffle(…).batch(…)`. What reading raises
        comes out as an error of TensorFlow with the same words.
    """
    tf = tensorflow()
    names, columns = ("boot", "seq", "time"), catalogue.feature_columns

    def generate() -> Iterator[dict[str, Any]]:
        for batch in batches:
            rows = {name: getattr(batch, name) for name in names}
            features = batch.values[:, columns].astype(np.float32)
            yield {"vin": batch.vin, **rows, "features": features}

    signature = {name: tf.TensorSpec((None,), tf.int64) for name in names}
    signature["vin"] = tf.TensorSpec((None,), tf.string)
    signature["features"] = tf.TensorSpec((None, len(columns)), tf.float32)
    return tf.data.Dataset.from_generator(generate, output_signature=signature)
