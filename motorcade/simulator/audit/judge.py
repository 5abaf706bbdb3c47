"""Holds what an audit found against limits: every check of the verdict. Pure.

What cannot be judged because there is no Kafka, or no pipeline of ours behind it, is listed as not
judged: it neither passes in silence nor fails.
"""

import math
from collections.abc import Iterator

from motorcade.simulator.audit.latency import Latency
from motorcade.simulator.audit.limits import Limits
from motorcade.simulator.audit.verdict import (
    ALERT_TO_CAR,
    CONNECT,
    DUE_TO_ALERT,
    DUE_TO_KAFKA,
    DUE_TO_PREDICTION,
    DUE_TO_PUBACK,
    Check,
    Findings,
    Scope,
    Verdict,
    not_judged,
    outcome_of,
)

#: Why something behind the broker, or behind the raw topic, is not judged.
_NO_KAFKA, _NO_PIPELINE = "no Kafka", "no pipeline of ours"


def judge(findings: Findings, limits: Limits) -> Verdict:
    """Hold a run against its limits; a figure that is missing breaks its check."""
    checks = (
        *_of_generator(findings, limits),
        *_of_first_hop(findings, limits),
        *_of_raw(findings, limits),
        *_of_pipeline(findings),
        *_of_fleet(findings, limits),
        *_of_latencies(findings, limits),
        *_of_faults(findings, limits),
        _of_restarts(findings),
    )
    return Verdict(outcome_of(checks), checks, **vars(findings))


def _of_generator(found: Findings, limits: Limits) -> Iterator[Check]:
    yield _at_most("workers lost by the generator", found.generator.lost_workers, 0, gen=True)
    yield from _below(
        "generator lag p99",
        found.generator.lag_p99_ms,
        limits.generator_lag_p99_ms,
        " ms",
        gen=True,
    )
    sent = found.accounts.sent
    yield Check("messages sent by cars", f"{sent:,}", "> 0", sent > 0, generator=True)


def _of_first_hop(found: Findings, limits: Limits) -> Iterator[Check]:
    a, fleet = found.accounts, found.fleet
    count = a.acknowledged if found.qos else a.sent
    if found.qos:
        yield Check("messages acknowledged to cars", f"{count:,}", "> 0", count > 0)
    what = "acknowledged" if found.qos else "sent"
    if limits.delivered_share is not None:
        wanted = a.sent + fleet.unsent + fleet.refused + fleet.buffer_dropped
        yield Check(
            f"{what} of all that cars had to send",
            f"{count:,} of {wanted:,}",
            f"≥ {limits.delivered_share:.3%}",
            count >= limits.delivered_share * wanted,
        )
    if limits.least_rate_share is not None:
        share = fleet.rate_share
        yield Check(
            f"rate over the stages, {what}",
            "unknown" if share is None else f"{share:.2%} of what they ask for",
            f"≥ {limits.least_rate_share:.2%}",
            share is not None and share >= limits.least_rate_share,
        )


def _of_raw(found: Findings, limits: Limits) -> Iterator[Check]:
    a = found.accounts
    why = _NO_KAFKA if found.scope is Scope.CARS else None
    if limits.lost is not None and found.qos:
        lost = _at_most("acknowledged but not in telemetry.raw", a.lost, limits.lost)
        yield _unless(why, lost)
    if limits.qos0_lost_share is not None and not found.qos:
        share = a.sent_missing / a.sent if a.sent else 0.0
        lost = Check(
            "sent with QoS 0 but not in telemetry.raw",
            f"{a.sent_missing:,} ({share:.3%})",
            f"≤ {limits.qos0_lost_share:.3%}",
            share <= limits.qos0_lost_share,
        )
        yield _unless(why, lost)
    wrong = a.raw_reordered - a.raw_overtaken
    shown = f"{wrong:,}"
    if a.raw_overtaken:
        shown += f", and {a.raw_overtaken:,} that the broker had refused for now"
    yield _unless(why, Check("out of order per car in telemetry.raw", shown, "0", wrong == 0))


def _of_pipeline(found: Findings) -> Iterator[Check]:
    a = found.accounts
    why = _beyond(found)
    if why is not None:
        yield not_judged("refined or quarantined, and scored or not, once each", "all", why)
        return
    yield _at_most("in raw but neither refined nor quarantined", a.unaccounted, 0)
    yield _at_most("both refined and quarantined", a.refined_and_quarantined, 0)
    yield _at_most("refined or quarantined but never in raw", a.invented, 0)
    yield _at_most("refined but neither scored nor not scored", a.unpredicted, 0)
    yield _at_most("refined more than once", a.refined_repeats, 0)
    yield _at_most("scored more than once", a.predicted_repeats, 0)
    yield _at_most("behind a newer one and not flagged late", a.reordered, 0)
    yield _at_most("alerts raised twice", found.faults.raised_twice, 0)


def _of_fleet(found: Findings, limits: Limits) -> Iterator[Check]:
    fleet = found.fleet
    if limits.connected_share is not None:
        if fleet.cars is None or fleet.connected is None:
            observed, ok = "unknown", False
        else:
            observed = f"{fleet.connected:,} of {fleet.cars:,}"
            ok = fleet.connected >= limits.connected_share * fleet.cars
        yield Check("cars connected", observed, f"≥ {limits.connected_share:.2%}", ok)
    for name, count, limit in (
        ("connections lost", fleet.disconnects, limits.disconnects),
        ("connects that failed", fleet.connect_failures, limits.connect_failures),
        ("messages dropped from full buffers", fleet.buffer_dropped, limits.buffer_dropped),
    ):
        if limit is not None:
            yield _at_most(name, count, limit)
    yield from _below("recovered after", fleet.recovered_s, limits.recovered_within_s, " s")


def _of_restarts(found: Findings) -> Check:
    asked = found.asked_restarts
    unasked = {u.name: u.restarts - asked.get(u.name, 0) for u in found.usage}
    own = {u.name: min(u.restarts, asked.get(u.name, 0)) for u in found.usage}
    observed = _listed(unasked) or "0"
    if by_events := _listed(own):
        observed += f"; through the run's own events: {by_events}"
    return Check("restarts nobody asked for", observed, "0", max(unasked.values(), default=0) <= 0)


def _of_latencies(found: Findings, limits: Limits) -> Iterator[Check]:
    no_kafka = _NO_KAFKA if found.scope is Scope.CARS else None
    beyond = _beyond(found)
    for name, limit, why in (
        (CONNECT, limits.connect_p99_ms, None),
        (DUE_TO_PUBACK, limits.due_to_puback_p99_ms if found.qos else None, None),
        (DUE_TO_KAFKA, limits.due_to_kafka_p99_ms, no_kafka),
        (DUE_TO_PREDICTION, limits.due_to_prediction_p99_ms, beyond),
        (DUE_TO_ALERT, limits.due_to_alert_p99_ms, beyond),
        (ALERT_TO_CAR, limits.alert_to_car_p99_ms, beyond),
    ):
        latency = found.latencies.get(name, Latency(0))
        for check in _below(f"{name} p99", latency.p99, limit, " ms"):
            yield _unless(why, check)


def _of_faults(found: Findings, limits: Limits) -> Iterator[Check]:
    faults, why = found.faults, _beyond(found)
    if limits.false_alerts_per_day is not None:
        days = faults.healthy_vehicle_days
        false = Check(
            "false alerts",
            f"{faults.false_alerts} in {days:.1f} healthy vehicle-days",
            f"≤ {limits.false_alerts_per_day:g} a day",
            faults.false_alerts / max(days, 1e-9) <= limits.false_alerts_per_day,
        )
        yield _unless(why, false)
    if not faults.failures:
        return
    if limits.announced_share is not None:
        announced = Check(
            "failures announced before their DTC",
            f"{faults.announced} of {faults.failures}",
            f"≥ {limits.announced_share:.0%}",
            faults.announced >= limits.announced_share * faults.failures,
        )
        yield _unless(why, announced)
    if limits.median_lead_minutes is not None:
        lead = faults.median_lead_minutes
        early = Check(
            "median lead",
            "no failure was announced" if lead is None else f"{lead:.0f} simulated minutes",
            f"≥ {limits.median_lead_minutes:g}",
            lead is not None and lead >= limits.median_lead_minutes,
        )
        yield _unless(why, early)
    answered = Check(
        "alerts that the car acknowledged",
        f"{faults.answered} of {faults.raised}",
        "all",
        faults.answered == faults.raised,
    )
    yield _unless(why, answered)


def _beyond(found: Findings) -> str | None:
    """Why nothing behind the raw topic is judged; None where it is."""
    return {Scope.CARS: _NO_KAFKA, Scope.RAW: _NO_PIPELINE, Scope.PIPELINE: None}[found.scope]


def _unless(why: str | None, check: Check) -> Check:
    """The check, or that it is not judged and why."""
    return check if why is None else not_judged(check.name, check.limit, why)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count > 0)


def _at_most(name: str, count: int, limit: int, *, gen: bool = False) -> Check:
    shown = f"≤ {limit:,}" if limit else "0"
    return Check(name, f"{count:,}", shown, count <= limit, gen)


def _below(
    name: str, value: float | None, limit: float | None, unit: str, *, gen: bool = False
) -> Iterator[Check]:
    """A check if there is a limit; a value that is missing breaks it."""
    if limit is not None:
        if value is None:
            observed = "nothing observed"
        elif math.isinf(value):
            observed = "never"
        else:
            observed = f"{value:,.0f}{unit}" if value >= 100 else f"{value:.3g}{unit}"
        yield Check(name, observed, f"≤ {limit:g}{unit}", value is not None and value <= limit, gen)
