"""The benchmark on a page of its own: what the champion told, and what was true."""

from html import escape
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import plotly.io

from motorcade.fleet.errors import SettingsError
from motorcade.stack.replay.judge import CAP, capped
from motorcade.stack.replay.result import Figures, Result

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#1e293b}table{border-collapse:collapse}td,th{padding:.25rem .9rem;text-align:right;
border-bottom:1px solid #e2e8f0}td:first-child,th:first-child{text-align:left}
tr.champion{font-weight:600}p.note{color:#64748b}"""


def write(result: Result, path: Path) -> None:
    """Write the page: one file that needs nothing else.

    Raises:
        SettingsError: it cannot be written.
    """
    try:
        path.write_text(page(result), encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"--report {path} cannot be written: {error.strerror}.", "Name another file."
        ) from error


def page(result: Result) -> str:
    """The page's HTML."""
    champion, baseline = result.champion, result.baseline
    plots = (_against_truth(result), _by_engine(result))
    drawn = "".join(
        plotly.io.to_html(plot, full_html=False, include_plotlyjs=number == 0)
        for number, plot in enumerate(plots)
    )
    document = result.document()
    title = f"C-MAPSS {result.subset}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<style>{_STYLE}</style><h1>{title}: remaining life</h1>"
        f"<p>The champion is <b>{escape(champion.name)}</b>: RMSE <b>{champion.rmse:.2f}</b> cycles"
        f" and PHM08 score {champion.phm08:.0f} on {len(result.vehicles)} official test engines; "
        f"the best baseline beside it, {escape(baseline.name)}, {baseline.rmse:.2f}.</p>"
        "<table><tr><th>model<th>validation RMSE<th>test RMSE<th>PHM08<th>test RMSE, no cap</tr>"
        + "".join(_row(one, one is champion) for one in result.models)
        + "</table><p class=note>Chosen by cross-validation over "
        f"{document['training_engines']} training engines ({document['folds']} groups), cut short "
        f"at every moment; {document['configurations_tried']} configurations were tried in this "
        f"run, {document['configurations_explored']} while the project was made, all on training "
        "engines. The test engines' truth was read after the choice. "
        f"{document['messages']:,} messages went over MQTT, bridge, Kafka and refine; "
        f"{document['refined']:,} were found in the topic, each once. Lives are compared up to "
        f"{CAP} cycles.</p>{drawn}</html>"
    )


def _row(one: Figures, champion: bool) -> str:
    validation = "" if np.isnan(one.validation_rmse) else f"{one.validation_rmse:.2f}"
    kind = " class=champion" if champion else ""
    name = escape(one.name) + (" (baseline)" if one.baseline else "")
    return (
        f"<tr{kind}><td>{name}<td>{validation}<td>{one.rmse:.2f}<td>{one.phm08:,.0f}"
        f"<td>{one.rmse_uncapped:.2f}</tr>"
    )


def _against_truth(result: Result) -> go.Figure:
    figure = go.Figure()
    figure.add_scatter(x=[0, CAP], y=[0, CAP], mode="lines", name="as it was", line_dash="dot")
    for one in (result.champion, result.baseline):
        figure.add_scatter(
            x=capped(result.true), y=one.told, text=result.vehicles, mode="markers", name=one.name
        )
    figure.update_layout(
        title="Told and true remaining life of each test engine",
        xaxis_title=f"true cycles left, up to {CAP}",
        yaxis_title="told",
        template="plotly_white",
    )
    return figure


def _by_engine(result: Result) -> go.Figure:
    order = np.argsort(result.true, kind="stable")
    figure = go.Figure()
    figure.add_scatter(y=capped(result.true)[order], mode="lines", name="as it was")
    names = [result.vehicles[at] for at in order]
    figure.add_bar(y=result.champion.told[order], text=names, name=result.champion.name)
    figure.update_layout(
        title="By true remaining life",
        xaxis_title="test engines",
        yaxis_title="cycles",
        template="plotly_white",
    )
    return figure
