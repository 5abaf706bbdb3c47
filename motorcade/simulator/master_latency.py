"""Latencies of the whole fleet: HDR histograms of all workers, merged when somebody asks."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from motorcade.simulator.measures import new_histogram

_PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9, "p9999": 99.99}
#: Merged at most once in this time: eight workers' four histograms take 10 ms.
_FRESH_S = 1.0


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
        self._before: dict[str, Any] = {}
        self.recent: dict[str, dict[str, float]] = {}

    def of(self, workers: Iterable[Mapping[str, str]]) -> dict[str, dict[str, float]]:
        """Milliseconds by name of histogram: p50 … p9999, max, and how many (n)."""
        if self._now() >= self._until:
            merged = _histograms(workers)
            self._merged = {name: _figures(one) for name, one in merged.items()}
            self.recent = {
                name: _figures(_difference(one, self._before.get(name)))
                for name, one in merged.items()
            }
            self._before = merged
            self._until = self._now() + _FRESH_S
        return self._merged


def merge(workers: Iterable[Mapping[str, str]]) -> dict[str, dict[str, float]]:
    """As `MergedLatency.of`, computed anew."""
    return {name: _figures(one) for name, one in _histograms(workers).items()}


def _histograms(workers: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for histograms in workers:
        for name, text in histograms.items():
            into = merged.setdefault(name, new_histogram())
            into.decode_and_add(text.encode("ascii"))
    return merged


def _difference(now: Any, before: Any) -> Any:
    """What a cumulative histogram gained; what a worker that started again forgot is nothing."""
    fresh = new_histogram()
    gained = np.ctypeslib.as_array(now.counts).astype(np.int64)
    if before is not None:
        gained = gained - np.ctypeslib.as_array(before.counts).astype(np.int64)
    for index in np.flatnonzero(gained > 0).tolist():
        fresh.record_value(max(1, now.get_value_from_index(index)), int(gained[index]))
    return fresh


def _figures(histogram: Any) -> dict[str, float]:
    count = int(histogram.total_count)
    if not count:
        return {**dict.fromkeys((*_PERCENTILES, "max"), 0.0), "n": 0}
    values = histogram.get_percentile_to_value_dict(list(_PERCENTILES.values()))
    figures = {name: values[at] / 1000 for name, at in _PERCENTILES.items()}
    return {**figures, "max": histogram.get_max_value() / 1000, "n": count}
