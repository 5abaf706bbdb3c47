"""Synthetic telemetry whose features hang together: three hidden causes behind all signals."""

from collections.abc import Iterator

import numpy as np

from motorcade.fleet.catalogue import Catalogue, load_catalogue
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.fleet.vin import generate_vin

CATALOGUE = load_catalogue()
START_MS = 1_770_000_000_000


def correlated(
    cars: int = 30, messages: int = 60, seed: int = 0, catalogue: Catalogue = CATALOGUE
) -> TelemetryColumns:
    """`messages` of each car, car by car in turn, one a minute."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(3, len(catalogue.names)))
    n = cars * messages
    signals = rng.normal(size=(n, 3)) @ mixing + 0.1 * rng.normal(size=(n, len(catalogue.names)))
    middle, width = (catalogue.low + catalogue.high) / 2, catalogue.high - catalogue.low
    vins = np.array([generate_vin(7, car) for car in range(cars)], dtype="S17")
    number = np.repeat(np.arange(messages), cars)
    time = START_MS + 60_000 * number
    return TelemetryColumns(
        np.tile(vins, messages),
        middle + signals * width / 40,
        np.full(n, START_MS),
        number + 1,
        time,
        time,
    )


class Batches:
    """Rows in batches, as often as iterated."""

    def __init__(self, columns: TelemetryColumns, size: int = 256) -> None:
        self.columns = columns
        self._size = size

    def __iter__(self) -> Iterator[TelemetryColumns]:
        for first in range(0, len(self.columns), self._size):
            last = min(first + self._size, len(self.columns))
            yield self.columns.take(np.arange(first, last))
