"""What a run's screen shows of a look at it: cars, rates, latencies, lag."""

from collections.abc import Sequence

from motorcade.fleet import topics
from motorcade.stack.load.watch import KafkaView, Sample, percentile

#: Seconds over which a rate is shown.
_OVER_S = 3.0


def rate(samples: Sequence[Sample], name: str, over_s: float = _OVER_S) -> float:
    """Growth per second of a figure of the fleet over the last seconds; 0 of too few looks."""
    pair = _pair([s for s in samples if s.fleet], over_s)
    if pair is None:
        return 0.0
    first, last = pair
    grown = last.fleet.get(name, 0) - first.fleet.get(name, 0)
    return float(max(0, grown) / ((last.time_ms - first.time_ms) / 1000))


def record_rate(samples: Sequence[Sample], topic: str, over_s: float = _OVER_S) -> float:
    """Records per second that a topic gained over the last seconds; 0 of too few looks."""
    pair = _pair([s for s in samples if s.kafka is not None], over_s)
    if pair is None:
        return 0.0
    first, last = pair
    assert first.kafka is not None
    assert last.kafka is not None
    grown = last.kafka.counts[topic] - first.kafka.counts[topic]
    return grown / ((last.time_ms - first.time_ms) / 1000)


def _pair(samples: Sequence[Sample], over_s: float) -> tuple[Sample, Sample] | None:
    if len(samples) < 2:
        return None
    last = samples[-1]
    within = [s for s in samples[-20:-1] if last.time_ms - s.time_ms <= over_s * 1000 + 500]
    return (within[0] if within else samples[-2], last)


def figures(samples: Sequence[Sample]) -> dict[str, str]:
    """Lines of name and value for the screen."""
    last = samples[-1]
    fleet = last.fleet
    shown = {
        "cars connected": _cars(last),
        "sent": f"{fleet.get('sent', 0):>10,}   {rate(samples, 'sent'):,.0f}/s",
        "acknowledged": f"{fleet.get('acked', 0):>10,}   {rate(samples, 'acked'):,.0f}/s",
    }
    puback = fleet.get("latency", {}).get("puback")
    if puback:
        shown["PUBACK"] = f"p50 {puback['p50']:.0f} ms, p99 {puback['p99']:.0f} ms"
    if last.kafka is not None:
        shown |= _kafka(samples, last.kafka)
    elif not last.without_kafka:
        shown["Kafka"] = "does not answer"
    if last.drops:
        shown["dropped by the broker"] = f"{last.drops:,}"
    shown["generator lag"] = f"{fleet.get('lag_ms', 0):.0f} ms"
    shown["machine"] = f"{last.machine:.0%} of all cores busy"
    return shown


def _cars(last: Sample) -> str:
    said = f"{last.connected:,} of {last.fleet.get('wanted', 0):,}"
    offline = last.fleet.get("offline", 0)
    lost = last.fleet.get("disconnects", 0)
    said += f", {offline:,} in a tunnel" if offline else ""
    return said + (f", {lost:,} connections lost" if lost else "")


def _kafka(samples: Sequence[Sample], view: KafkaView) -> dict[str, str]:
    rows = (
        ("telemetry.raw", topics.RAW),
        ("refined", topics.TELEMETRY),
        ("predictions", topics.PREDICTIONS),
    )
    shown = {
        name: f"{view.counts[topic]:>10,}   {record_rate(samples, topic):,.0f}/s"
        for name, topic in rows
        if topic in view.counts
    }
    if view.counts.get(topics.DLQ):
        shown["quarantined"] = f"{view.counts[topics.DLQ]:>10,}"
    if len(view.latencies_ms):
        p50, p99 = (percentile(view.latencies_ms, share) for share in (50, 99))
        shown["due → Kafka"] = f"p50 {p50:.0f} ms, p99 {p99:.0f} ms"
    if not view.lag:
        return shown
    shown["lag"] = ", ".join(f"{group} {lag:,}" for group, lag in view.lag.items() if lag) or "none"
    return shown
