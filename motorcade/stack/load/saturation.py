"""Which component a load saturated, and the evidence: pure, from what was measured at a load.

The way of a message has hops in a row; the first one that falls behind is where it is stuck. What
runs there and has no CPU left is what saturated; where the whole machine has none, it is that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: A process whose work is one thread is full at one core; this share leaves room for sampling.
_FULL_CORE = 0.85
#: Share of all cores beyond which the machine has nothing left to give.
_FULL_MACHINE = 0.93
#: A group that gains more than this share of the rate on top of its lag falls behind.
_GROWS = 0.05
#: Median latencies, milliseconds, from which a hop is behind; below it is its normal batching.
_LATE_MS = 1000.0
#: Processes shown as evidence when the machine is full.
_SHOWN = 4

MACHINE = "the machine's CPU"
GENERATOR = "the load generator"


@dataclass(frozen=True)
class Load:
    """What was measured while a load was held.

    Args:
        rate: messages/s on the wire.
        acked: messages/s that the broker acknowledged; NaN where none are (QoS 0).
        cores: CPU of each program, in cores.
        machine: share of all cores that was busy, 0 to 1.
        puback_p99_ms, kafka_p50_ms: from due to PUBACK and to Kafka; NaN where not measured.
        lag_growth: records/s by which each consumer group fell behind.
        drops: messages that the broker dropped meanwhile; None if it won't say.
        failed_connects: connects that were refused or failed.
    """

    rate: float
    acked: float
    cores: Mapping[str, float]
    machine: float
    puback_p99_ms: float
    kafka_p50_ms: float
    lag_growth: Mapping[str, float]
    drops: int | None
    failed_connects: int


@dataclass(frozen=True)
class Saturated:
    """A component and why it is the one."""

    component: str
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class _Hop:
    """A stretch of the way: who works there, and why it is behind."""

    workers: tuple[str, ...]
    reason: str


def saturated(load: Load, brokers: Sequence[str], groups: Sequence[str]) -> Saturated:
    """Name what saturated.

    Args:
        load: measured where a level broke.
        brokers: names of the broker's programs; empty for one that runs elsewhere.
        groups: consumer groups in the order of a message's way; each has the name of its program.
    """
    hops = list(_behind(load, brokers, groups))
    evidence = [hop.reason for hop in hops]
    suspects = hops[0].workers if hops else tuple(load.cores)
    fullest = max(suspects, key=lambda name: load.cores.get(name, 0.0), default="")
    if load.cores.get(fullest, 0.0) >= _FULL_CORE:
        evidence.append(f"{fullest} uses {load.cores[fullest]:.2f} of a core")
        return Saturated(fullest, tuple(evidence))
    if load.machine >= _FULL_MACHINE:
        users = sorted(load.cores.items(), key=lambda item: -item[1])[:_SHOWN]
        shares = ", ".join(f"{name} {cores:.2f}" for name, cores in users)
        evidence.append(f"{load.machine:.0%} of all cores are busy; most by {shares} cores")
        return Saturated(MACHINE, tuple(evidence))
    evidence.append(
        f"{load.machine:.0%} of all cores are busy: it waits for something else than CPU"
    )
    if hops:
        return Saturated(hops[0].workers[0] if hops[0].workers else "broker", tuple(evidence))
    return Saturated("unknown", tuple(evidence))


def _behind(load: Load, brokers: Sequence[str], groups: Sequence[str]) -> "list[_Hop]":
    """Hops that are behind, in the order of a message's way."""
    hops = []
    at_broker = tuple(brokers) or ("broker",)
    if load.failed_connects:
        hops.append(_Hop(at_broker, f"{load.failed_connects:,} connects were refused or failed"))
    if load.puback_p99_ms > _LATE_MS:
        hops.append(_Hop(at_broker, f"PUBACKs come {load.puback_p99_ms:,.0f} ms late (p99)"))
    if load.acked < load.rate * (1 - _GROWS):
        reason = f"the broker acknowledges {load.acked:,.0f} of {load.rate:,.0f} messages/s"
        hops.append(_Hop(at_broker, reason))
    if load.kafka_p50_ms > _LATE_MS:
        reason = f"messages reach Kafka {load.kafka_p50_ms:,.0f} ms late (median)"
        hops.append(_Hop(("bridge", "kafka", *brokers), reason))
    if load.drops:
        reason = f"the broker dropped {load.drops:,} messages from full queues"
        hops.append(_Hop(("bridge", "kafka", *brokers), reason))
    for group in groups:
        growth = load.lag_growth.get(group, 0.0)
        if growth > load.rate * _GROWS:
            hops.append(_Hop((group,), f"{group} falls behind by {growth:,.0f} records/s"))
    return hops
