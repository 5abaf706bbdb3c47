"""Latencies of the whole fleet: HDR histograms of all workers, merged when somebody asks."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from motorcade.fleet.arrays import Ints
from motorcade.simulator.measures import new_histogram

_PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9, "p9999": 99.99}
#: Merged at most once in this time: eight workers' four histograms take 6 ms.
_FRESH_S = 1.0
#: Tells which values a bucket counts.
_SCALE = new_histogram()


class MergedLatency:
    """Percentiles over the workers' cumulative histograms, each as HdrHistogram's own text.

    Args:
        monotonic_s: a clock.

    Attributes:
        recent: as `of` returns, of what came between the last two times of merging.
    """

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic_s
        self._until = -1.0
        self._merged: dict[str, dict[str, float]] = {}
        self._before: dict[str, Ints] = {}
        self.recent: dict[str, dict[str, float]] = {}

    def of(self, workers: Iterable[Mapping[str, str]]) -> dict[str, dict[str, float]]:
        """Milliseconds by name of histogram: p50 … p9999, max, and how many (n)."""
        if self._now() >= self._until:
            counts = _counts(workers)
            self._merged = {name: _figures(one) for name, one in counts.items()}
            # What a worker that started again forgot is no negative count.
            self.recent = {
                name: _figures(np.maximum(one - self._before.get(name, 0), 0))
                for name, one in counts.items()
            }
            self._before = counts
            self._until = self._now() + _FRESH_S
        return self._merged


def merge(workers: Iterable[Mapping[str, str]]) -> dict[str, dict[str, float]]:
    """As `MergedLatency.of`, computed anew."""
    return {name: _figures(one) for name, one in _counts(workers).items()}


def _counts(workers: Iterable[Mapping[str, str]]) -> dict[str, Ints]:
    """Counts by bucket of the workers' histograms together, shape (buckets,), by name."""
    merged: dict[str, Any] = {}
    for histograms in workers:
        for name, text in histograms.items():
            into = merged.setdefault(name, new_histogram())
            into.decode_and_add(text.encode("ascii"))
    return {
        name: np.ctypeslib.as_array(one.counts).astype(np.int64) for name, one in merged.items()
    }


def _figures(counts: Ints) -> dict[str, float]:
    count = int(counts.sum())
    if not count:
        return {**dict.fromkeys((*_PERCENTILES, "max"), 0.0), "n": 0}
    below = np.cumsum(counts)
    figures = {
        name: _milliseconds(int(np.searchsorted(below, max(1, round(at / 100 * count)))))
        for name, at in _PERCENTILES.items()
    }
    return {**figures, "max": _milliseconds(int(np.flatnonzero(counts)[-1])), "n": count}


def _milliseconds(bucket: int) -> float:
    """The highest value that a bucket counts."""
    value = _SCALE.get_value_from_index(bucket)
    return float(_SCALE.get_highest_equivalent_value(value)) / 1000
