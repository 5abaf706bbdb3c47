"""The verdict: thresholds first, PASS, FAIL or INVALID, then every figure; text and JSON."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from motorcade.fleet.arrays import Ints
from motorcade.simulator.audit.faults import FaultAccounts
from motorcade.simulator.audit.reconcile import Accounts


class Outcome(StrEnum):
    PASS = "PASS"  # noqa: S105 - not a password
    FAIL = "FAIL"
    #: The generator itself failed, so the figures judge it and not the target.
    INVALID = "INVALID"


@dataclass(frozen=True)
class Latency:
    """Milliseconds, exact over all n measurements; NaN where there were none."""

    n: int
    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, milliseconds: Ints) -> "Latency":
        if not len(milliseconds):
            return cls(0, math.nan, math.nan, math.nan)
        p50, p99 = np.percentile(milliseconds, [50, 99])
        return cls(len(milliseconds), float(p50), float(p99), float(milliseconds.max()))


@dataclass(frozen=True)
class Limits:
    """What a run must reach to pass."""

    #: Share of failures that an alert announced before their DTC.
    announced_share: float = 0.9
    median_lead_minutes: float = 30.0
    #: False alerts per healthy vehicle-day.
    false_alerts_per_day: float = 0.05
    #: due → Kafka, 99th percentile, milliseconds.
    due_to_kafka_p99_ms: float = 1000.0
    #: Lateness of the generator's ticks, 99th percentile, milliseconds; above it is INVALID.
    generator_lag_p99_ms: float = 1000.0


@dataclass(frozen=True)
class Generator:
    """How the load generator itself did."""

    lost_workers: int
    lag_p99_ms: float


@dataclass(frozen=True)
class ProcessUsage:
    """What a process used over the run; memory is the highest resident set that was sampled."""

    name: str
    cpu_seconds: float
    rss_mib: float
    restarts: int


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
class Verdict:
    """The outcome of a run with all its figures."""

    outcome: Outcome
    checks: tuple[Check, ...]
    accounts: Accounts
    faults: FaultAccounts
    latencies: dict[str, Latency]
    #: None where the broker does not say.
    broker_drops: int | None
    durability: str
    usage: tuple[ProcessUsage, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Every figure, as plain JSON values; NaN becomes null."""
        document = asdict(self)
        document["faults"] |= {
            "failures": self.faults.failures,
            "announced": self.faults.announced,
            "median_lead_minutes": self.faults.median_lead_minutes,
        }
        del document["faults"]["answers_ms"]
        plain = _plain(document)
        assert isinstance(plain, dict)
        return plain


def judge(
    accounts: Accounts,
    faults: FaultAccounts,
    latencies: dict[str, Latency],
    generator: Generator,
    broker_drops: int | None,
    durability: str,
    *,
    limits: Limits,
    usage: Sequence[ProcessUsage] = (),
) -> Verdict:
    """Hold a run against its limits.

    Raises nothing: a figure that is missing (NaN) breaks its check.
    """
    checks = tuple(_checks(accounts, faults, latencies, generator, limits))
    if any(check.generator and not check.ok for check in checks):
        outcome = Outcome.INVALID
    elif all(check.ok for check in checks):
        outcome = Outcome.PASS
    else:
        outcome = Outcome.FAIL
    return Verdict(
        outcome,
        checks,
        accounts,
        faults,
        latencies,
        broker_drops,
        durability,
        tuple(usage),
    )


def _checks(
    accounts: Accounts,
    faults: FaultAccounts,
    latencies: dict[str, Latency],
    generator: Generator,
    limits: Limits,
) -> list[Check]:
    def none_of(name: str, count: int, *, of_generator: bool = False) -> Check:
        return Check(name, f"{count:,}", "0", count == 0, of_generator)

    def at_most(name: str, value: float, limit: float, unit: str, gen: bool = False) -> Check:
        return Check(name, f"{value:,.3g} {unit}", f"≤ {limit:g} {unit}", value <= limit, gen)

    checks = [
        none_of("workers lost by the generator", generator.lost_workers, of_generator=True),
        at_most(
            "generator lag p99", generator.lag_p99_ms, limits.generator_lag_p99_ms, "ms", gen=True
        ),
        Check(
            "messages acknowledged to cars",
            f"{accounts.acknowledged:,}",
            "> 0",
            accounts.acknowledged > 0,
            generator=True,
        ),
        none_of("acknowledged but not in telemetry.raw", accounts.acknowledged_missing),
        none_of("in raw but neither refined nor quarantined", accounts.unaccounted),
        none_of("both refined and quarantined", accounts.refined_and_quarantined),
        none_of("refined or quarantined but never in raw", accounts.invented),
        none_of("refined but neither scored nor not scored", accounts.unpredicted),
        none_of("out of order per car after the broker", accounts.reordered),
        none_of("alerts raised twice", faults.raised_twice),
        at_most("due → Kafka p99", latencies["due → Kafka"].p99, limits.due_to_kafka_p99_ms, "ms"),
    ]
    if faults.failures:
        share = faults.announced / faults.failures
        lead = faults.median_lead_minutes
        rate = faults.false_alerts / max(faults.healthy_vehicle_days, 1e-9)
        checks += [
            Check(
                "failures announced before their DTC",
                f"{faults.announced} of {faults.failures}",
                f"≥ {limits.announced_share:.0%}",
                share >= limits.announced_share,
            ),
            Check(
                "median lead",
                f"{lead:.0f} simulated minutes",
                f"≥ {limits.median_lead_minutes:g}",
                lead >= limits.median_lead_minutes,
            ),
            Check(
                "false alerts",
                f"{faults.false_alerts} in {faults.healthy_vehicle_days:.1f} healthy vehicle-days",
                f"≤ {limits.false_alerts_per_day:g} a day",
                rate <= limits.false_alerts_per_day,
            ),
            Check(
                "alerts that the car acknowledged",
                f"{faults.answered} of {faults.raised}",
                "all",
                faults.answered == faults.raised,
            ),
        ]
    return checks


def render(verdict: Verdict) -> RenderableType:
    """The verdict as a person reads it: the outcome first, then thresholds, then figures."""
    colour = {Outcome.PASS: "green", Outcome.FAIL: "red", Outcome.INVALID: "yellow"}
    parts: list[RenderableType] = [
        Text(verdict.outcome.value, style=f"bold {colour[verdict.outcome]}"),
        _checks_table(verdict),
        _accounts_table(verdict),
        _latency_table(verdict),
    ]
    if verdict.faults.announcements:
        parts.append(_faults_table(verdict))
    if verdict.usage:
        parts.append(_usage_table(verdict))
    return Group(*parts)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position == 0 else "right")
    return table


def _checks_table(verdict: Verdict) -> Table:
    table = _table("Thresholds", "", "threshold", "observed", "limit")
    table.columns[1].justify = "left"
    for check in verdict.checks:
        mark = Text("✓", style="green") if check.ok else Text("✗", style="bold red")
        table.add_row(mark, check.name, check.observed, check.limit)
    return table


def _accounts_table(verdict: Verdict) -> Table:
    a = verdict.accounts
    table = _table("Messages, by (vin, boot, seq)", "", "count", "note")
    table.columns[2].justify = "left"
    rows = [
        ("sent by cars", a.sent, ""),
        ("acknowledged by the broker", a.acknowledged, verdict.durability),
        ("dropped by the broker", verdict.broker_drops, "as the broker counts them"),
        (
            "in telemetry.raw",
            a.raw,
            f"{a.raw_repeats:,} exact repeats, {a.raw_reordered:,} behind a newer one",
        ),
        ("refined", a.refined, f"{a.late:,} flagged late, {a.refined_repeats:,} physical repeats"),
        (
            "quarantined",
            a.quarantined_records,
            ", ".join(f"{rule} {n:,}" for rule, n in a.quarantined_by_rule.items()),
        ),
        ("scored", a.scored, f"{a.predicted_repeats:,} physical repeats"),
        ("not scored", a.not_scored, "each with its reason"),
    ]
    for name, count, note in rows:
        table.add_row(name, "unknown" if count is None else f"{count:,}", note)
    return table


def _latency_table(verdict: Verdict) -> Table:
    table = _table("Latency in ms, from when a message was due", "", "p50", "p99", "max", "n")
    for name, latency in verdict.latencies.items():
        table.add_row(
            name, *(f"{v:,.0f}" for v in (latency.p50, latency.p99, latency.max)), f"{latency.n:,}"
        )
    return table


def _faults_table(verdict: Verdict) -> Table:
    table = _table("Failures", "VIN", "kind", "DTC", "announced before, simulated minutes")
    for item in verdict.faults.announcements:
        lead = "not announced" if item.lead_minutes is None else f"{item.lead_minutes:.0f}"
        table.add_row(item.vin, item.kind, item.code, lead)
    return table


def _usage_table(verdict: Verdict) -> Table:
    table = _table("Processes", "", "CPU s", "RSS MiB", "restarts")
    for usage in verdict.usage:
        table.add_row(
            usage.name, f"{usage.cpu_seconds:.1f}", f"{usage.rss_mib:.0f}", str(usage.restarts)
        )
    return table


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
