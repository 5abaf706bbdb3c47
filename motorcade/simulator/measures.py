"""Latencies and counts of one worker: HDR histograms for the verdict, batches for Locust."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram

from motorcade.fleet.arrays import Ints

#: Histograms hold microseconds, from 1 µs to one hour, to three digits.
_HIGHEST_US = 3_600_000_000
_DIGITS = 3
#: Reports that wait while Locust's side stands still: a minute's.
_MOST_REPORTS = 60
#: States of a car, by number.
STATES = ("connecting", "driving", "parked", "reconnecting", "offline", "refused")
CONNECTING, DRIVING, PARKED, RECONNECTING, OFFLINE, REFUSED = range(len(STATES))


def new_histogram() -> Any:
    """An empty histogram of microseconds."""
    return HdrHistogram(1, _HIGHEST_US, _DIGITS)


def record(histogram: Any, milliseconds: Sequence[float] | Ints) -> None:
    """Count a batch of latencies; what is beyond an hour counts as an hour.

    The same as the histogram's own `record_value` for each, which takes a microsecond a value.
    """
    if not len(milliseconds):
        return
    values = np.rint(np.array(milliseconds, dtype=np.float64) * 1000)
    values = np.clip(values, 1, _HIGHEST_US).astype(np.int64)
    # A value's bucket is its power of two above those that are counted one by one.
    linear = histogram.sub_bucket_count
    bucket = np.frexp(values | (linear - 1))[1] - (int(linear).bit_length() - 1)
    places = bucket * (linear // 2) + (values >> bucket)
    counts = np.ctypeslib.as_array(histogram.counts)
    counts += np.bincount(places, minlength=len(counts)).astype(counts.dtype)
    histogram.total_count += len(values)
    histogram.min_value = min(histogram.min_value, int(values.min()))
    histogram.max_value = max(histogram.max_value, int(values.max()))


def encode(histogram: Any) -> str:
    """The histogram in HdrHistogram's own portable text form."""
    return str(histogram.encode().decode("ascii"))


@dataclass
class Counts:
    """What a worker's cars did since it started."""

    #: Telemetry on the wire, acknowledged by the broker, and given up because a buffer was full.
    sent: int = 0
    acked: int = 0
    dropped: int = 0
    #: PUBACKs that refuse for good, and that ask to come again: nobody has subscribed (0x10), or
    #: the quota is exceeded (0x97).
    refused: int = 0
    unheard: int = 0
    #: Telemetry that such a PUBACK brought out of order: a later message, on the wire behind it,
    #: was accepted. It arrives behind that one, which nobody could prevent.
    overtaken: int = 0
    connects: int = 0
    #: Connections lost that nobody asked to end, and attempts that failed.
    disconnects: int = 0
    connect_failures: int = 0
    dtcs: int = 0
    commands: int = 0
    #: Telemetry that was broken on purpose, and bytes of telemetry payloads on the wire.
    garbage: int = 0
    bytes_sent: int = 0


@dataclass
class Batch:
    """What happened in one second, milliseconds; handed to Locust's statistics."""

    connect_ms: list[float] = field(default_factory=list)
    reconnect_ms: list[float] = field(default_factory=list)
    puback_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """One second of a worker: `state` for the master, `batch` for Locust's statistics."""

    state: dict[str, Any]
    failures: list[dict[str, Any]]
    batch: Batch


def keep(reports: deque[Report], report: Report) -> None:
    """Append a report; beyond a minute's, the newest gives way and leaves it its failures.

    Counts and histograms are cumulative, but a failure is told once. Another thread may take from
    the left meanwhile: what is popped here is nobody else's.
    """
    if len(reports) >= _MOST_REPORTS:
        newest = reports.pop()
        report = replace(report, failures=newest.failures + report.failures)
    reports.append(report)


class Tally:
    """How many cars are in which state, by endpoint, and what they have under way, at any moment.

    Cars keep it themselves as they change: counting a hundred thousand of them takes too long.
    """

    def __init__(self, endpoints: int) -> None:
        self.cars = [[0] * len(STATES) for _ in range(endpoints)]
        #: Publishes on the wire without their PUBACK, and messages kept in cars.
        self.in_flight = 0
        self.waiting = 0

    def total(self, state: int) -> int:
        """Cars in a state on all endpoints."""
        return sum(cars[state] for cars in self.cars)


class Measures:
    """Counts and histograms of a worker, written on its loop only."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.batch = Batch()
        #: Time from `due` to the PUBACK, from when a car was wanted to its first CONNACK, from a
        #: loss of its connection (the end of a tunnel) to the next CONNACK, from `due` to the first
        #: attempt to send (the generator's own lag), and how late ticks were.
        self.histograms: dict[str, Any] = {
            name: new_histogram() for name in ("puback", "connect", "reconnect", "lag", "tick")
        }
        #: Of each batch, shape (n,).
        self.lag_ms: list[Ints] = []
        self.tick_ms: list[float] = []
        #: Worst lag within the last second, milliseconds.
        self.worst_lag_ms = 0.0

    def flush(self) -> Batch:
        """End a second: move what has gathered into the histograms; returns it for Locust."""
        batch, self.batch = self.batch, Batch()
        lag_ms = np.concatenate(self.lag_ms) if self.lag_ms else np.zeros(0, dtype=np.int64)
        self.worst_lag_ms = float(lag_ms.max(initial=0))
        record(self.histograms["puback"], batch.puback_ms)
        record(self.histograms["connect"], batch.connect_ms)
        record(self.histograms["reconnect"], batch.reconnect_ms)
        record(self.histograms["lag"], lag_ms)
        record(self.histograms["tick"], self.tick_ms)
        self.lag_ms.clear()
        self.tick_ms.clear()
        return batch
