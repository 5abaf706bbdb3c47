"""What a stretch of a run came to: rates, latencies, lag and CPU between two looks; pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from motorcade.fleet.arrays import Floats
from motorcade.stack.load.saturation import Load
from motorcade.stack.load.watch import Sample, percentile
from motorcade.stack.pipeline import behind


@dataclass(frozen=True)
class Window:
    """Looks at a run within a stretch, oldest first, at least two."""

    samples: Sequence[Sample]
    qos: int

    @property
    def seconds(self) -> float:
        return (self._last.time_ms - self._first.time_ms) / 1000

    @property
    def offered(self) -> float:
        """Messages/s that the fleet put on the wire."""
        return self._grown("sent") / self.seconds

    @property
    def uncertain(self) -> float:
        """Messages/s by which more may have been offered: counts are up to two seconds old."""
        return 2 * self.offered / self.seconds

    def observed(self, load: float) -> dict[str, float]:
        """Values of the service levels; a level that could not be observed is left out.

        Args:
            load: messages/s that were asked for.
        """
        found = {
            "refused_connects": max(self._grown("connect_failures"), self._unconnected),
            "disconnects": self._grown("disconnects"),
            "dropped": self._grown("dropped") + (self._dropped or 0),
            "generator_lag_p99_ms": self._p99_ms("lag"),
        }
        if self.qos:
            found["due_to_puback_p99_ms"] = self._p99_ms("puback")
        if not self._last.without_kafka:
            found["due_to_kafka_p99_ms"] = percentile(self._latencies(), 99)
            kafka = self._last.kafka
            if kafka is None:
                found["lag_s"] = math.inf
            elif kafka.lag:  # behind somebody else's Kafka there is no group of ours
                found["lag_s"] = max(behind(kafka.lag, load).values()) / load
        return found

    def load(self) -> Load:
        """What the search for the saturated component looks at."""
        seconds = self.seconds
        return Load(
            rate=self.offered,
            acked=self._grown("acked") / seconds if self.qos else math.nan,
            cores={
                name: (used - self._first.cpu_s.get(name, 0.0)) / seconds
                for name, used in self._last.cpu_s.items()
            },
            machine=float(np.mean([s.machine for s in self.samples[1:]])),
            puback_p99_ms=self._p99_ms("puback") if self.qos else math.nan,
            kafka_p50_ms=percentile(self._latencies(), 50),
            lag_growth=self._lag_growth(),
            drops=self._dropped,
            failed_connects=int(max(self._grown("connect_failures"), self._unconnected)),
        )

    @property
    def _first(self) -> Sample:
        return self.samples[0]

    @property
    def _last(self) -> Sample:
        return self.samples[-1]

    @property
    def _unconnected(self) -> float:
        """Cars that shall be connected and are not; with back-off they may fail only rarely."""
        seen = [s for s in self.samples if s.fleet]
        return float(max(0, seen[-1].wanted - seen[-1].connected)) if seen else 0.0

    @property
    def _dropped(self) -> int | None:
        first, last = self._first.drops, self._last.drops
        return None if last is None else last - (first or 0)

    def _grown(self, name: str) -> float:
        looks = [s.fleet for s in self.samples if s.fleet]
        if len(looks) < 2:
            return 0.0
        return float(max(0, looks[-1].get(name, 0) - looks[0].get(name, 0)))

    def _latencies(self) -> Floats:
        seen = [s.kafka.latencies_ms for s in self.samples[1:] if s.kafka is not None]
        return np.concatenate(seen) if seen else np.zeros(0)

    def _p99_ms(self, name: str) -> float:
        """99th percentile of a latency of the cars: the median of those of the single seconds.

        So one bad second of a busy machine does not break a level, a load that is too high does.
        """
        seconds = [s.fleet.get("recent", {}).get(name, {}) for s in self.samples[1:]]
        found = [second["p99"] for second in seconds if second.get("n")]
        return float(np.median(found)) if found else math.nan

    def _kafka_ends(self) -> tuple[Sample | None, Sample | None]:
        seen = [s for s in self.samples if s.kafka is not None]
        return (seen[0], seen[-1]) if len(seen) > 1 else (None, None)

    def _lag_growth(self) -> dict[str, float]:
        first, last = self._kafka_ends()
        if first is None or last is None:
            return {}
        assert first.kafka is not None
        assert last.kafka is not None
        seconds = (last.time_ms - first.time_ms) / 1000
        before = behind(first.kafka.lag, self.offered)
        after = behind(last.kafka.lag, self.offered)
        return {g: (n - before.get(g, 0)) / seconds for g, n in after.items()}
