"""A look at drift on a page of its own: every signal's index, and the worst signals' shares."""

from datetime import UTC, datetime
from html import escape
from pathlib import Path

import plotly.graph_objects as go
import plotly.io

from motorcade.ml.drift.check import Drift, SignalDrift, bin_names, shares

#: Signals that are drawn.
WORST = 6

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#1e293b}table{border-collapse:collapse}td,th{padding:.25rem .9rem;text-align:right;
border-bottom:1px solid #e2e8f0}td:first-child,th:first-child{text-align:left}
tr.drift{font-weight:600}p.note{color:#64748b}"""


def write(drift: Drift, path: Path) -> None:
    """Write the page: one file that needs nothing else.

    Raises:
        OSError: it cannot be written.
    """
    path.write_text(page(drift), encoding="utf-8")


def page(drift: Drift) -> str:
    """The page's HTML."""
    plots = [_indices(drift), *(_shares(one) for one in drift.signals[:WORST])]
    drawn = "".join(
        plotly.io.to_html(plot, full_html=False, include_plotlyjs=number == 0)
        for number, plot in enumerate(plots)
    )
    title = f"Drift of {escape(drift.model)}:{drift.version}"
    names = ", ".join(one.name for one in drift.drifted)
    verdict = f"<b>{escape(names)}</b> drifted." if names else "No drift."
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<style>{_STYLE}</style><h1>{title}</h1>"
        f"<p>{verdict} {drift.messages:,} messages of {drift.vehicles:,} vehicles, "
        f"{_when(drift.since)} to {_when(drift.checked)} UTC, against what the model was trained "
        "on.</p><table><tr><th>signal<th>PSI<th>chance explains<th>limit<th>absent then"
        "<th>absent now<th>verdict</tr>"
        + "".join(_row(one) for one in drift.signals)
        + "</table><p class=note>PSI is the population stability index over ten bins of the "
        "training range and one of absent values. The limit is the larger of what chance explains "
        f"in samples of these sizes, from so few vehicles, (an alarm in {drift.alpha:.0%} of looks "
        f"when nothing has drifted) and {drift.material:g}, below which a shift is of no "
        f"consequence.</p>{drawn}</html>"
    )


def _row(one: SignalDrift) -> str:
    kind = " class=drift" if one.verdict == "drift" else ""
    return (
        f"<tr{kind}><td>{escape(one.name)}<td>{one.psi:.3f}<td>{one.chance:.3f}<td>{one.limit:.3f}"
        f"<td>{shares(one.reference)[-1]:.1%}<td>{shares(one.recent)[-1]:.1%}<td>{one.verdict}</tr>"
    )


def _indices(drift: Drift) -> go.Figure:
    names = [one.name for one in drift.signals]
    figure = go.Figure()
    figure.add_bar(x=names, y=[one.psi for one in drift.signals], name="PSI")
    figure.add_scatter(
        x=names, y=[one.limit for one in drift.signals], mode="markers", name="limit"
    )
    figure.update_layout(
        title="Population stability index of every signal",
        yaxis_title="PSI",
        template="plotly_white",
    )
    return figure


def _shares(one: SignalDrift) -> go.Figure:
    names = bin_names(one.edges)
    figure = go.Figure()
    figure.add_bar(x=names, y=shares(one.reference), name="training range")
    figure.add_bar(x=names, y=shares(one.recent), name="recent")
    figure.update_layout(
        title=f"{one.name}: PSI {one.psi:.3f}, limit {one.limit:.3f}",
        yaxis_title="share of messages",
        yaxis_tickformat=".0%",
        xaxis_type="category",
        template="plotly_white",
    )
    return figure


def _when(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}"
