"""The tables that the benchmark prints, in Markdown, a column for each broker."""

from collections.abc import Mapping, Sequence

from bench.brokers.conformance import Finding
from bench.brokers.load import Cost, Loss


def conformance_table(findings: Mapping[str, Sequence[Finding]]) -> str:
    """A row for each property: yes, partly or no, and what was observed."""
    names = list(dict.fromkeys(one.name for found in findings.values() for one in found))
    cells = {
        broker: {one.name: f"**{one.answer}**: {one.observed}" for one in found}
        for broker, found in findings.items()
    }
    return _table(
        ["property", *findings],
        [[name, *(cells[broker].get(name, "–") for broker in findings)] for name in names],
    )


def load_table(loads: Mapping[str, tuple[Cost, Loss]]) -> str:
    """A row for each figure."""
    costs = [cost for cost, _ in loads.values()]
    losses = [loss for _, loss in loads.values()]
    rows = [
        ["CPU per connection", *(f"{one.connect_us:,.0f} µs" for one in costs)],
        ["CPU per message, in and out", *(f"{one.message_us:,.0f} µs" for one in costs)],
        ["CPU when idle, of a core", *(f"{one.idle_cpu_share:.1%}" for one in costs)],
        ["memory per connection", *(f"{one.connection_kb:,.1f} kB" for one in costs)],
        ["memory of all nodes", *(f"{one.rss_mb:,.0f} MB" for one in costs)],
        ["**a node killed under load:** acknowledged", *(f"{o.acknowledged:,}" for o in losses)],
        ["lost", *(f"{one.lost:,}" for one in losses)],
        ["duplicated", *(f"{one.duplicated:,}" for one in losses)],
        ["out of order", *(f"{one.reordered:,}" for one in losses)],
        ["last one after the node's return", *(f"{one.latest_s:.1f} s" for one in losses)],
        ["kept of 200 queued on the node before", *(f"{one.queued_before}" for one in losses)],
        [
            "kept of 200 sent to the node meanwhile",
            *("–" if o.queued_meanwhile is None else f"{o.queued_meanwhile}" for o in losses),
        ],
    ]
    return _table(["", *loads], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
