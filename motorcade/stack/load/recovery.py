"""How long a run took to be as it was before something happened; pure, from its samples."""

from collections.abc import Sequence
from dataclasses import dataclass

from motorcade.fleet import topics
from motorcade.simulator.scenarios.events import FleetEvent, Garbage, Offline, Pace, StackEvent
from motorcade.stack.load.watch import Sample, percentile
from motorcade.stack.pipeline import behind

#: A pipeline this many seconds behind is in its normal batching.
_BEHIND_S = 2.0
#: The calm must last: states are reported every second, and what was cut shows a little later.
_LASTS_MS = 5_000
#: So many messages sent, so long ago that one of them must have come.
_SENT, _STUCK_MS = 10, 2_000


@dataclass(frozen=True)
class Happening:
    """Something that happened: when, and when its cause was over; wall-clock milliseconds."""

    kind: str
    detail: str
    time_ms: int
    over_ms: int
    #: Whether all has to become as it was; a change that lasts has nothing to recover from.
    recovers: bool
    #: Programs that it was done to; none for what happens to cars.
    programs: tuple[str, ...] = ()


def lasts_s(event: FleetEvent | StackEvent) -> float:
    """Seconds from an event's beginning until its cause is over."""
    if isinstance(event, Offline):
        return event.seconds + (event.groups - 1) * event.stagger_s
    if isinstance(event, Garbage):
        return event.seconds
    return float(getattr(event, "seconds", 0.0))


def has_to_recover(event: FleetEvent | StackEvent) -> bool:
    """Whether an event disturbs, so that a run can recover from it."""
    return not isinstance(event, Pace) and getattr(event, "kind", "") not in {"faults", "garbage"}


def calm(sample: Sample, rate_per_s: float) -> bool:
    """Whether all cars are connected, and nothing of the pipeline is away or behind.

    Args:
        sample: a look at the run.
        rate_per_s: messages/s that the fleet publishes.
    """
    if not sample.fleet or sample.connected < sample.wanted or sample.unready:
        return False
    if sample.kafka is None:
        return sample.without_kafka
    most = max(rate_per_s * _BEHIND_S, 50)
    late = percentile(sample.kafka.latencies_ms, 50) > _BEHIND_S * 1000
    return not late and all(lag <= most for lag in behind(sample.kafka.lag, rate_per_s).values())


def recovered_s(
    samples: Sequence[Sample], happening: Happening, rate_per_s: float, until_ms: int
) -> float | None:
    """Seconds from the end of the cause until the run was calm and stayed so.

    Args:
        samples: the run's, oldest first.
        happening: what happened.
        rate_per_s: messages/s that the fleet publishes.
        until_ms: when the next thing happened or the run ended; later samples do not count.

    Returns:
        None when it did not become calm in that time, was so for too short a time to tell, or had
        nothing to recover from.
    """
    if not happening.recovers:
        return None
    since: int | None = None
    for position, one in enumerate(samples):
        if not happening.over_ms <= one.time_ms <= until_ms:
            continue
        if not calm(one, rate_per_s) or _stuck(samples[: position + 1]):
            since = None
        elif since is None:
            since = one.time_ms
        elif one.time_ms - since >= _LASTS_MS:
            return (since - happening.over_ms) / 1000
    return None


def _stuck(samples: Sequence[Sample]) -> bool:
    """Whether cars send and nothing comes to Kafka."""
    last = samples[-1]
    before = next((s for s in reversed(samples) if last.time_ms - s.time_ms >= _STUCK_MS), None)
    if before is None or last.kafka is None or before.kafka is None:
        return False
    sent = last.fleet.get("sent", 0) - before.fleet.get("sent", 0)
    came = last.kafka.counts[topics.RAW] - before.kafka.counts[topics.RAW]
    return bool(sent >= _SENT and not came)
