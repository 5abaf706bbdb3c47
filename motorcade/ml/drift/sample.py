"""A bounded sample of telemetry, spread evenly over all that passed."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Bools, Floats, Ids
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.training.assemble import draws

#: Messages that are kept: 22 features of so many are 9 MB.
LIMIT = 100_000


class Sample:
    """The features of messages, thinned evenly whenever they are too many.

    Which messages stay is decided by a number drawn from each one's identity, so it does not depend
    on how batches are cut.

    Args:
        catalogue: decides the features.
        limit: most messages.
    """

    def __init__(self, catalogue: Catalogue, limit: int = LIMIT) -> None:
        self._columns = catalogue.feature_columns
        self._limit = limit
        self._share = 1.0
        self._parts: list[tuple[NDArray[np.float32], Ids, Floats]] = []
        self._kept = 0
        #: Messages that passed.
        self.seen = 0

    def add(self, batch: TelemetryColumns, wanted: Bools | None = None) -> None:
        """Take in a batch, or its wanted rows."""
        drawn = draws(batch, 0)
        keep = drawn < self._share
        if wanted is not None:
            keep &= wanted
        self.seen += len(batch) if wanted is None else int(wanted.sum())
        values = batch.values[np.ix_(keep, self._columns)].astype(np.float32)
        self._parts.append((values, batch.vin[keep], drawn[keep]))
        self._kept += len(values)
        while self._kept > self._limit:
            self._share /= 2
            self._parts = [
                (values[kept], vin[kept], drawn[kept])
                for values, vin, drawn in self._parts
                for kept in [drawn < self._share]
            ]
            self._kept = sum(len(values) for values, _, _ in self._parts)

    @property
    def values(self) -> NDArray[np.float32]:
        """(n, features) in the signals' units, NaN where absent."""
        empty = np.empty((0, len(self._columns)), dtype=np.float32)
        return np.concatenate([empty, *(values for values, _, _ in self._parts)])

    @property
    def vins(self) -> Ids:
        """Who sent them, shape (n,)."""
        return np.concatenate([np.empty(0, dtype="S17"), *(vin for _, vin, _ in self._parts)])


class Sampled:
    """Batches that are passed on as they come; of their first reading a sample is kept.

    Args:
        batches: the same rows whenever iterated.
        sample: filled by the first reading to the end.
        wanted: which vehicles' messages are sampled.
    """

    def __init__(
        self,
        batches: Iterable[TelemetryColumns],
        sample: Sample,
        wanted: Callable[[bytes], bool],
    ) -> None:
        self._batches = batches
        self._sample = sample
        self._wanted = wanted
        self._read = False

    def __iter__(self) -> Iterator[TelemetryColumns]:
        first, self._read = not self._read, True
        for batch in self._batches:
            if first and len(batch):
                names, row = np.unique(batch.vin, return_inverse=True)
                wanted = np.array([self._wanted(name) for name in names.tolist()])
                self._sample.add(batch, wanted[row])
            yield batch
