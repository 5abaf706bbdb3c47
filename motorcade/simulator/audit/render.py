"""The verdict as a person reads it in a terminal: the outcome, thresholds, then figures."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from motorcade.simulator.audit.verdict import Check, Outcome, Scope, Verdict

_COLOURS = {Outcome.PASS: "green", Outcome.FAIL: "red", Outcome.INVALID: "yellow"}


def render(verdict: Verdict) -> RenderableType:
    """The whole verdict."""
    parts: list[RenderableType] = [
        Text(verdict.outcome.value, style=f"bold {_COLOURS[verdict.outcome]}"),
        _checks_table(verdict),
        _accounts_table(verdict),
        _latency_table(verdict),
    ]
    if verdict.faults.announcements:
        parts.append(_faults_table(verdict))
    if verdict.usage:
        parts.append(_usage_table(verdict))
    return Group(*parts)


def account_rows(verdict: Verdict) -> list[tuple[str, int | None, str]]:
    """Messages from the car to the prediction: what, how many (None: unknown), and a note."""
    a, broker, fleet = verdict.accounts, verdict.broker, verdict.fleet
    rows: list[tuple[str, int | None, str]] = [
        ("sent by cars", a.sent, f"QoS {verdict.qos}" + _some(", {:,} garbage", a.garbage)),
    ]
    if fleet.buffer_dropped or fleet.unsent or fleet.refused:
        note = f"full buffers {fleet.buffer_dropped:,}, still waiting {fleet.unsent:,}"
        note += f", refused by the broker {fleet.refused:,}"
        rows.append(("never delivered to the broker", _undelivered(verdict), note))
    if verdict.qos:
        rows.append(("acknowledged by the broker", a.acknowledged, broker.durability))
    rows.append(("dropped by the broker", broker.drops, "as the broker counts them"))
    if verdict.scope is Scope.CARS:
        return rows
    notes = f"{a.raw_repeats:,} exact repeats, {a.raw_reordered:,} behind a newer one"
    notes += _some(" ({:,} refused for now by the broker and sent again)", a.raw_overtaken)
    notes += _some(", {:,} without identity", a.raw_unidentified)
    rows.append(
        ("in telemetry.raw", a.raw, notes + _some(", {:,} of other cars or runs", a.others))
    )
    if verdict.qos:
        named = "; ".join(verdict.lost_examples[:3])
        rows.append(("lost", a.lost, named))
        if a.excused:
            rows.append(("excused", a.excused, "; ".join(broker.reasons)))
    else:
        share = a.sent_missing / a.sent if a.sent else 0.0
        rows.append(("lost with QoS 0", a.sent_missing, f"{share:.3%} of those sent"))
    if verdict.scope is Scope.RAW:
        return rows
    by_rule = ", ".join(f"{rule} {n:,}" for rule, n in a.quarantined_by_rule.items())
    rows += [
        ("refined", a.refined, f"{a.late:,} flagged late, {a.refined_repeats:,} physical repeats"),
        ("quarantined", a.quarantined_records, by_rule),
        ("scored", a.scored, f"{a.predicted_repeats:,} physical repeats"),
        ("not scored", a.not_scored, "each with its reason"),
    ]
    return rows


def _undelivered(verdict: Verdict) -> int:
    fleet = verdict.fleet
    return fleet.buffer_dropped + fleet.unsent + fleet.refused


def _some(text: str, count: int) -> str:
    return text.format(count) if count else ""


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position == 0 else "right")
    return table


def _checks_table(verdict: Verdict) -> Table:
    table = _table("Thresholds", "", "threshold", "observed", "limit")
    table.columns[1].justify = "left"
    for check in verdict.checks:
        table.add_row(_mark(check), check.name, check.observed, check.limit)
    return table


def _mark(check: Check) -> Text:
    if not check.judged:
        return Text("–", style="dim")
    return Text("✓", style="green") if check.ok else Text("✗", style="bold red")


def _accounts_table(verdict: Verdict) -> Table:
    table = _table("Messages, by (vin, boot, seq)", "", "count", "note")
    table.columns[2].justify = "left"
    for name, count, note in account_rows(verdict):
        table.add_row(name, "unknown" if count is None else f"{count:,}", note)
    return table


def _latency_table(verdict: Verdict) -> Table:
    heads = ("mean", "p50", "p90", "p99", "p99.9", "p99.99", "max", "n")
    table = _table("Latency in ms, from when a message was due", "", *heads)
    for name, one in verdict.latencies.items():
        values = (one.mean, one.p50, one.p90, one.p99, one.p999, one.p9999, one.max)
        shown = ("–" if value is None else f"{value:,.{value < 10:d}f}" for value in values)
        table.add_row(name, *shown, f"{one.n:,}")
    return table


def _faults_table(verdict: Verdict) -> Table:
    table = _table("Failures", "VIN", "kind", "DTC", "announced before, simulated minutes")
    for item in verdict.faults.announcements:
        lead = "not announced" if item.lead_minutes is None else f"{item.lead_minutes:.0f}"
        table.add_row(item.vin, item.kind, item.code, lead)
    return table


def _usage_table(verdict: Verdict) -> Table:
    table = _table("Processes", "", "CPU s", "µs a message", "RSS MiB", "restarts")
    for usage in verdict.usage:
        each = usage.cpu_us_per_message
        table.add_row(
            usage.name,
            f"{usage.cpu_seconds:.1f}",
            "–" if each is None else f"{each:,.1f}",
            f"{usage.rss_mib:.0f}",
            str(usage.restarts),
        )
    return table
