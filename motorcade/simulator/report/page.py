"""The report: one HTML file that needs nothing else, the outcome first."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from motorcade.runtime.pages.page import environment, keep
from motorcade.simulator.audit.latency import Latency
from motorcade.simulator.audit.render import account_rows
from motorcade.simulator.audit.verdict import (
    DUE_TO_KAFKA,
    DUE_TO_PUBACK,
    Outcome,
    ProcessUsage,
    Scope,
    Verdict,
)
from motorcade.simulator.report.document import Document
from motorcade.simulator.report.figures import family, plots

_MEANING = {
    Outcome.PASS: "every threshold that could be judged was met",
    Outcome.FAIL: "a threshold was broken",
    Outcome.INVALID: "the load generator itself failed: the figures judge it and not the target",
}


@dataclass(frozen=True)
class Tile:
    """A headline figure."""

    value: str
    name: str
    note: str = ""


@dataclass(frozen=True)
class Family:
    """Processes of a kind, summed."""

    name: str
    count: int
    cpu_seconds: float
    cpu_us_per_message: float | None
    rss_mib: float
    restarts: int


def write(document: Document, path: Path) -> None:
    """Write the report of a run.

    Raises:
        PageError: the file cannot be written.
    """
    keep(render(document), path)


def render(document: Document) -> str:
    """The report as HTML."""
    manifest, verdict = document.manifest, document.verdict
    templates = environment("motorcade.simulator.report", ms=_ms, count=_count, span=_span)
    return templates.get_template("page.html.j2").render(
        document=document,
        manifest=manifest,
        verdict=verdict,
        name=manifest.scenario.get("name", "run"),
        description=manifest.scenario.get("description", ""),
        meaning=_MEANING[verdict.outcome],
        tiles=_tiles(document),
        checks=sorted(verdict.checks, key=lambda check: (check.ok, not check.judged)),
        accounts=account_rows(verdict),
        families=families(verdict.usage),
        plots=plots(document),
        scenario=yaml.safe_dump(manifest.scenario, sort_keys=False, allow_unicode=True),
        settings=yaml.safe_dump(manifest.settings, sort_keys=True, allow_unicode=True),
    )


def families(usage: tuple[ProcessUsage, ...]) -> list[Family]:
    """Usage by kind of process, most CPU first."""
    members: defaultdict[str, list[ProcessUsage]] = defaultdict(list)
    for one in usage:
        members[family(one.name)].append(one)
    found = [
        Family(
            name,
            len(some),
            sum(one.cpu_seconds for one in some),
            _summed(one.cpu_us_per_message for one in some),
            sum(one.rss_mib for one in some),
            sum(one.restarts for one in some),
        )
        for name, some in members.items()
    ]
    return sorted(found, key=lambda one: -one.cpu_seconds)


def _summed(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _tiles(document: Document) -> list[Tile]:
    verdict = document.verdict
    accounts, fleet = verdict.accounts, verdict.fleet
    tiles = []
    if fleet.connected is not None:
        lost = f"{fleet.disconnects:,} connections lost"
        tiles.append(Tile(f"{fleet.connected:,}", "cars connected", lost))
    tiles.append(Tile(f"{accounts.sent:,}", "messages sent", _rate(document)))
    tiles += _loss(verdict)
    for name in (DUE_TO_KAFKA, DUE_TO_PUBACK):
        latency = verdict.latencies.get(name, Latency(0))
        if latency.p99 is not None:
            note = f"p50 {_ms(latency.p50)} ms, max {_ms(latency.max)} ms"
            tiles.append(Tile(f"{_ms(latency.p99)} ms", f"{name} p99", note))
            break
    each = _summed(one.cpu_us_per_message for one in verdict.usage)
    if each is not None:
        tiles.append(Tile(f"{each:,.0f} µs", "CPU a message", "all processes together"))
    if document.limit is not None and document.limit.confirmed_rate is not None:
        tiles.append(Tile(f"{document.limit.confirmed_rate:,.0f}/s", "held", "confirmed"))
    return tiles


def _loss(verdict: Verdict) -> list[Tile]:
    accounts = verdict.accounts
    if verdict.scope is Scope.CARS:
        return []
    if not verdict.qos:
        share = accounts.sent_missing / accounts.sent if accounts.sent else 0.0
        return [Tile(f"{accounts.sent_missing:,}", "lost with QoS 0", f"{share:.3%} of those sent")]
    excused = f"{accounts.excused:,} excused by the broker's durability"
    return [Tile(f"{accounts.lost:,}", "lost", excused if accounts.excused else "QoS 1")]


def _rate(document: Document) -> str:
    """The highest mean rate of a stage."""
    series = document.series
    rates = list(zip(series.time_ms, series.figures.get("rate.sent", []), strict=False))
    means = {}
    for stage in document.stages:
        found = [r for at, r in rates if r is not None and stage.from_ms < at <= stage.to_ms]
        if found:
            means[stage.name] = sum(found) / len(found)
    if not means:
        return ""
    best = max(means, key=lambda name: means[name])
    return f"{means[best]:,.0f}/s in the stage {best}"


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _count(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _span(milliseconds: float) -> str:
    seconds = round(milliseconds / 1000)
    hours, rest = divmod(seconds, 3600)
    parts = [(hours, "h"), (rest // 60, "min"), (rest % 60, "s")]
    return " ".join(f"{n} {unit}" for n, unit in parts if n) or "0 s"
