"""Records that do not decode: each is counted, each kind is logged once, none stops a stream."""

from typing import Protocol

from prometheus_client import Counter

from motorcade.runtime.kafka import Record

_MALFORMED = Counter(
    "motorcade_malformed_total", "Records passed over because they do not decode", ["step", "topic"]
)


class Log(Protocol):
    """The one thing that is asked of a log."""

    def warning(self, event: str, **fields: object) -> object: ...


class Malformed:
    """Counts and reports for one process."""

    def __init__(self, log: Log, step: str) -> None:
        self._log = log
        self._step = step
        self._reported: set[str] = set()

    def __call__(self, topic: str, problem: Exception | str, record: Record) -> None:
        """Count a record; log the first of each topic, with its place."""
        _MALFORMED.labels(self._step, topic).inc()
        if topic in self._reported:
            return
        self._reported.add(topic)
        self._log.warning(
            "malformed record passed over; further ones are only counted",
            topic=topic,
            partition=record.partition,
            offset=record.offset,
            problem=str(problem),
        )
