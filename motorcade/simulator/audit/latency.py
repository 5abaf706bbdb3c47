"""Latencies of a run: histograms gathered in bounded memory, and their figures."""

from dataclasses import dataclass
from typing import Any

_SHARES = (50, 90, 99, 99.9, 99.99)


@dataclass(frozen=True)
class Latency:
    """Milliseconds over n measurements, to three digits; None where there were none."""

    n: int
    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    p999: float | None = None
    p9999: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, histogram: Any) -> "Latency":
        """The figures of a histogram of microseconds, see `motorcade.simulator.measures`."""
        n = int(histogram.get_total_count())
        if not n:
            return cls(0)
        # A percentile's value is the highest of its bucket, which may lie beyond the maximum.
        highest = float(histogram.get_max_value())
        p50, p90, p99, p999, p9999 = (
            min(histogram.get_value_at_percentile(share), highest) / 1000 for share in _SHARES
        )
        mean = float(histogram.get_mean_value()) / 1000
        return cls(n, mean, p50, p90, p99, p999, p9999, highest / 1000)
