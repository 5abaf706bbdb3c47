"""Recorded ranges as a tf.data set: training reads Kafka itself, no file in between."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.engine import tensorflow

#: Rows kept in memory after the first epoch: 2 million × 18 features × 4 bytes are 144 MB. More
#: are read from Kafka again in every epoch.
MOST_IN_MEMORY = 2_000_000
_SHUFFLED = 200_000


class RangeDataset:
    """Batches of feature rows for training, in an order that the seed decides.

    Args:
        batches: what to read, as often as it is iterated.
        rows: the rows of a batch that train, (n, features) with NaN where absent.
        width: features.
        size: rows in all, as far as known, which decides whether they are kept in memory.
        batch: rows per training step.
        seed: of the shuffling.
    """

    def __init__(
        self,
        batches: Iterable[TelemetryColumns],
        rows: Callable[[TelemetryColumns], NDArray[np.float64]],
        width: int,
        *,
        size: int,
        batch: int,
        seed: int,
    ) -> None:
        self._batches = batches
        self._rows = rows
        self._failure: BaseException | None = None
        tf = tensorflow()
        source = tf.data.Dataset.from_generator(
            self._generate, output_signature=tf.TensorSpec((None, width), tf.float32)
        ).unbatch()
        if size <= MOST_IN_MEMORY:
            source = source.cache()
        self._dataset = source.shuffle(
            max(1, min(size, _SHUFFLED)), seed=seed, reshuffle_each_iteration=True
        ).batch(batch)

    def __iter__(self) -> Iterator[Any]:
        """One epoch of (n, width) float32 tensors.

        Raises:
            MotorcadeError: what reading raised; TensorFlow would hide it in an error of its own.
        """
        try:
            yield from self._dataset
        except tensorflow().errors.OpError:
            if self._failure is not None:
                raise self._failure from None
            raise

    def _generate(self) -> Iterator[NDArray[np.float32]]:
        try:
            for columns in self._batches:
                rows = self._rows(columns)
                if len(rows):
                    yield rows.astype(np.float32)
        except BaseException as failure:
            self._failure = failure
            raise
