"""Restarts that follow from a run's own events: a process ends as what it needs is away; pure."""

import math
import os
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from motorcade.stack.keeper import LOGGED, Crash
from motorcade.stack.load.recovery import Happening
from motorcade.stack.load.watch import Sample

#: How a process of ours ends when a server that it needs does not answer. Anything else that it
#: ends with is a crash of its own, whatever was away meanwhile.
_UNAVAILABLE = f"exit status {os.EX_UNAVAILABLE}"
#: A server that starts again answers so long after its start at most: Kafka reads its log first.
_STARTS_MS = 60_000
#: A process that began to try before Kafka answered may give up so long after.
_GIVES_UP_MS = 15_000
#: supervisord's log has whole seconds.
_TICK_MS = 1_000


def followed(
    crashes: Iterable[Crash],
    happenings: Iterable[Happening],
    servers: Collection[str],
    samples: Sequence[Sample],
) -> Counter[str]:
    """How often each program ended because an event of the run had taken a server away.

    Args:
        crashes: ends of programs that nobody asked for.
        happenings: what the run did.
        servers: programs that others need.
        samples: looks at the run, which tell when Kafka answered again on a slow machine.
    """
    away = [
        (one.time_ms - _TICK_MS, max(one.over_ms + _STARTS_MS, _answered_ms(one, samples)))
        for one in happenings
        if not set(servers).isdisjoint(one.programs)
    ]
    return Counter(
        crash.name
        for crash in crashes
        if crash.how == _UNAVAILABLE
        and any(begins <= _wall_ms(crash) <= ends for begins, ends in away)
    )


def _answered_ms(happening: Happening, samples: Sequence[Sample]) -> float:
    """When no process could still fail for want of the Kafka that was away; 0 if it was not."""
    if "kafka" not in happening.programs:
        return 0.0
    looks = (s.time_ms for s in samples if s.time_ms > happening.over_ms and s.kafka is not None)
    return next(looks, math.inf) + _GIVES_UP_MS


def _wall_ms(crash: Crash) -> float:
    return time.mktime(time.strptime(crash.when, LOGGED)) * 1000
