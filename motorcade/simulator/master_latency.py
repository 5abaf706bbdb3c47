"""Latencies of the whole fleet: HDR histograms of all workers, merged when somebody asks."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from motorcade.simulator.measures import new_histogram

_PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9, "p9999": 99.99}
#: Merged at most once in this time: eight workers' four histograms take 10 ms.
_FRESH_S = 1.0


class MergedLatency:
    """Percentiles over the workers' cumulative histograms, each as HdrHistogram's own text.

    Args:
        monotonic_s: a clock.
    """

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic_s
        self._until = -1.0
        self._merged: dict[str, dict[str, float]] = {}

    def of(self, workers: Iterable[Mapping[str, str]]) -> dict[str, dict[str, float]]:
        """Milliseconds by name of histogram: p50 … p9999, max, and how many (n)."""
        if self._now() >= self._until:
            self._merged = merge(workers)
            self._until = self._now() + _FRESH_S
        return self._merged


def merge(workers: Iterable[Mapping[str, str]]) -> dict[str, dict[str, float]]:
    """As `MergedLatency.of`, computed anew."""
    merged: dict[str, Any] = {}
    for histograms in workers:
        for name, text in histograms.items():
            into = merged.setdefault(name, new_histogram())
            into.decode_and_add(text.encode("ascii"))
    return {name: _figures(histogram) for name, histogram in merged.items()}


def _figures(histogram: Any) -> dict[str, float]:
    count = int(histogram.total_count)
    if not count:
        return {**dict.fromkeys((*_PERCENTILES, "max"), 0.0), "n": 0}
    values = histogram.get_percentile_to_value_dict(list(_PERCENTILES.values()))
    figures = {name: values[at] / 1000 for name, at in _PERCENTILES.items()}
    return {**figures, "max": histogram.get_max_value() / 1000, "n": count}
