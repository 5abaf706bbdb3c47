"""The verdict: thresholds first, PASS, FAIL or INVALID, then every figure of the run."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import msgspec

from motorcade.simulator.audit.faults import FaultAccounts
from motorcade.simulator.audit.latency import Latency
from motorcade.simulator.audit.limits import Limits
from motorcade.simulator.audit.reconcile import Accounts

#: Names of the latencies, which the verdict, the report and `motorcade compare` share.
CONNECT = "connect"
DUE_TO_PUBACK = "due → PUBACK"
DUE_TO_KAFKA = "due → Kafka"
DUE_TO_PREDICTION = "due → prediction"
DUE_TO_ALERT = "due → alert"
ALERT_TO_CAR = "alert → acknowledged by the car"


class Outcome(StrEnum):
    PASS = "PASS"  # noqa: S105 - not a password
    FAIL = "FAIL"
    #: The generator itself failed, so the figures judge it and not the target.
    INVALID = "INVALID"


class Scope(StrEnum):
    """How far the audit could follow a message."""

    #: What the cars say, and no Kafka.
    CARS = "cars"
    #: From the cars to the raw topic.
    RAW = "raw"
    #: From the cars to the predictions.
    PIPELINE = "pipeline"


@dataclass(frozen=True)
class Fleet:
    """The cars' side: connections, and what never went out. None where nobody observed it."""

    cars: int | None = None
    #: Cars that were connected when the ramp was over.
    connected: int | None = None
    connects: int = 0
    connect_failures: int = 0
    disconnects: int = 0
    #: Messages pushed out of full buffers, still in them at the end, refused by the broker, and
    #: acknowledged without a subscriber and sent again.
    buffer_dropped: int = 0
    unsent: int = 0
    refused: int = 0
    unheard: int = 0
    #: Seconds that the slowest of the run's events took until all was as before; infinite when
    #: one never was, None without an event to recover from.
    recovered_s: float | None = None
    #: Messages/s over the stages as a share of what they ask for; None where nobody observed it.
    rate_share: float | None = None


@dataclass(frozen=True)
class Generator:
    """How the load generator itself did."""

    lost_workers: int
    lag_p99_ms: float | None


@dataclass(frozen=True)
class BrokerAccount:
    """What the broker says of itself.

    drops: messages it dropped by its own count; None where it does not say. excused: messages
    that it acknowledged and lost as its declared durability allows; reasons say when and why.
    """

    name: str
    durability: str
    drops: int | None = None
    excused: int = 0
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProcessUsage:
    """What a process used over the run; memory is the highest resident set that was sampled."""

    name: str
    cpu_seconds: float
    rss_mib: float
    restarts: int
    #: CPU microseconds per message of the run; None where nothing was sent.
    cpu_us_per_message: float | None = None


@dataclass(frozen=True)
class Check:
    """A threshold and what was observed."""

    name: str
    observed: str
    limit: str
    ok: bool
    #: A broken check of the generator makes the run INVALID instead of failed.
    generator: bool = False


@dataclass(frozen=True)
class Findings:
    """Everything that an audit found, before it is judged."""

    scope: Scope
    qos: int
    accounts: Accounts
    fleet: Fleet
    faults: FaultAccounts
    latencies: dict[str, Latency]
    generator: Generator
    broker: BrokerAccount
    usage: tuple[ProcessUsage, ...] = ()
    #: Restarts that the run itself asked for, by process.
    asked_restarts: Mapping[str, int] = field(default_factory=dict)
    #: Some of the messages that were lost, as text.
    lost_examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The outcome of a run with all its figures."""

    outcome: Outcome
    checks: tuple[Check, ...]
    scope: Scope
    qos: int
    accounts: Accounts
    fleet: Fleet
    faults: FaultAccounts
    latencies: dict[str, Latency]
    generator: Generator
    broker: BrokerAccount
    usage: tuple[ProcessUsage, ...] = field(default=())
    asked_restarts: Mapping[str, int] = field(default_factory=dict)
    lost_examples: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Every figure, as plain JSON values; what is not a number becomes null."""
        plain = msgspec.json.decode(msgspec.json.encode(self))
        assert isinstance(plain, dict)
        return plain


def judge(findings: Findings, limits: Limits) -> Verdict:
    """Hold a run against its limits; a figure that is missing breaks its check."""
    checks = (
        *_of_generator(findings, limits),
        *_of_delivery(findings, limits),
        *_of_fleet(findings, limits),
        *_of_latencies(findings, limits),
        *_of_faults(findings, limits),
        _of_restarts(findings),
    )
    return Verdict(outcome_of(checks), checks, **vars(findings))


def outcome_of(checks: Sequence[Check]) -> Outcome:
    """What checks come to; a broken one of the generator makes the run INVALID."""
    if any(check.generator and not check.ok for check in checks):
        return Outcome.INVALID
    return Outcome.PASS if all(check.ok for check in checks) else Outcome.FAIL


def also(verdict: Verdict, check: Check) -> Verdict:
    """The verdict with a check of somebody else's, which counts as the others do."""
    checks = (*verdict.checks, check)
    return replace(verdict, outcome=outcome_of(checks), checks=checks)


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


def _of_delivery(found: Findings, limits: Limits) -> Iterator[Check]:
    a = found.accounts
    yield from _of_first_hop(found, limits)
    if found.scope is Scope.CARS:
        return
    if limits.lost is not None and found.qos:
        yield _at_most("acknowledged but not in telemetry.raw", a.lost, limits.lost)
    if limits.qos0_lost_share is not None and not found.qos:
        share = a.sent_missing / a.sent if a.sent else 0.0
        yield Check(
            "sent with QoS 0 but not in telemetry.raw",
            f"{a.sent_missing:,} ({share:.3%})",
            f"≤ {limits.qos0_lost_share:.3%}",
            share <= limits.qos0_lost_share,
        )
    yield _at_most("out of order per car in telemetry.raw", a.raw_reordered, 0)
    if found.scope is Scope.RAW:
        return
    yield _at_most("in raw but neither refined nor quarantined", a.unaccounted, 0)
    yield _at_most("both refined and quarantined", a.refined_and_quarantined, 0)
    yield _at_most("refined or quarantined but never in raw", a.invented, 0)
    yield _at_most("refined but neither scored nor not scored", a.unpredicted, 0)
    yield _at_most("refined more than once", a.refined_repeats, 0)
    yield _at_most("scored more than once", a.predicted_repeats, 0)
    yield _at_most("behind a newer one and not flagged late", a.reordered, 0)
    yield _at_most("alerts raised twice", found.faults.raised_twice, 0)


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
    named = {name: count for name, count in unasked.items() if count > 0}
    observed = ", ".join(f"{name} {count}" for name, count in named.items())
    return Check("restarts nobody asked for", observed or "0", "0", not named)


def _of_latencies(found: Findings, limits: Limits) -> Iterator[Check]:
    for name, limit in (
        (CONNECT, limits.connect_p99_ms),
        (DUE_TO_PUBACK, limits.due_to_puback_p99_ms if found.qos else None),
        (DUE_TO_KAFKA, None if found.scope is Scope.CARS else limits.due_to_kafka_p99_ms),
        (DUE_TO_PREDICTION, limits.due_to_prediction_p99_ms),
        (DUE_TO_ALERT, limits.due_to_alert_p99_ms),
        (ALERT_TO_CAR, limits.alert_to_car_p99_ms),
    ):
        latency = found.latencies.get(name, Latency(0))
        yield from _below(f"{name} p99", latency.p99, limit, " ms")


def _of_faults(found: Findings, limits: Limits) -> Iterator[Check]:
    faults = found.faults
    if found.scope is not Scope.PIPELINE:
        return
    if limits.false_alerts_per_day is not None:
        rate = faults.false_alerts / max(faults.healthy_vehicle_days, 1e-9)
        yield Check(
            "false alerts",
            f"{faults.false_alerts} in {faults.healthy_vehicle_days:.1f} healthy vehicle-days",
            f"≤ {limits.false_alerts_per_day:g} a day",
            rate <= limits.false_alerts_per_day,
        )
    if not faults.failures:
        return
    if limits.announced_share is not None:
        yield Check(
            "failures announced before their DTC",
            f"{faults.announced} of {faults.failures}",
            f"≥ {limits.announced_share:.0%}",
            faults.announced >= limits.announced_share * faults.failures,
        )
    if limits.median_lead_minutes is not None:
        lead = faults.median_lead_minutes
        yield Check(
            "median lead",
            "no failure was announced" if lead is None else f"{lead:.0f} simulated minutes",
            f"≥ {limits.median_lead_minutes:g}",
            lead is not None and lead >= limits.median_lead_minutes,
        )
    yield Check(
        "alerts that the car acknowledged",
        f"{faults.answered} of {faults.raised}",
        "all",
        faults.answered == faults.raised,
    )


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
        else:
            observed = f"{value:,.3g}{unit}" if math.isfinite(value) else "never"
        yield Check(name, observed, f"≤ {limit:g}{unit}", value is not None and value <= limit, gen)
