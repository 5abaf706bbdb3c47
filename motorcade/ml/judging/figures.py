"""The plots of an evaluation, as plain values for Plotly. Pure."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from motorcade.ml.judging.evaluation import Operating, Verdict
from motorcade.ml.judging.picture import HEALTHY
from motorcade.runtime.pages.plot import GREY, Plot, colour

_POINTS = 400


def comparison_plots(verdicts: Sequence[Verdict]) -> list[Plot]:
    """Plots that hold all models."""
    found = [_precision_recall(verdicts), _budget(verdicts)]
    if any(one.evaluation.reliability for one in verdicts):
        found.append(_calibration(verdicts))
    return found


def model_plots(verdict: Verdict) -> list[Plot]:
    """Plots of one model."""
    found = [_scores(verdict), _leads(verdict), _confusion(verdict), _contributions(verdict)]
    return [plot for plot in found if plot is not None]


def _precision_recall(verdicts: Sequence[Verdict]) -> Plot:
    data = []
    for number, one in enumerate(verdicts):
        area = one.evaluation.pr_auc.value
        name = one.evaluation.name + ("" if area is None else f" ({area:.3f})")
        thin = _thin(len(one.picture.recall))
        data.append(
            _line(
                name,
                [one.picture.recall[at] for at in thin],
                [one.picture.precision[at] for at in thin],
                number,
            )
        )
    chance = verdicts[0].evaluation.failing
    if chance is not None:
        data.append(_dashed("chance", [0, 1], [chance, chance]))
    return Plot(
        "Precision and recall",
        "of messages: failing within the horizon against healthy",
        {"data": data, "layout": _layout("recall", "precision", [0, 1.02], [0, 1.02])},
    )


def _budget(verdicts: Sequence[Verdict]) -> Plot:
    data: list[dict[str, Any]] = []
    for number, one in enumerate(verdicts):
        curve = _rising(one.evaluation.curve)
        data.append(
            _line(
                one.evaluation.name,
                [point.false_per_day for point in curve],
                [point.recall for point in curve],
                number,
                shape="hv",
            )
        )
        own = one.evaluation.own
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"{one.evaluation.name}, its own threshold",
                "showlegend": False,
                "x": [own.false_per_day],
                "y": [own.recall],
                "marker": {"color": colour(number), "size": 11, "symbol": "diamond"},
            }
        )
    layout = _layout("false alerts per healthy vehicle-day", "failures announced", None, [0, 1.02])
    return Plot(
        "Failures announced and false alerts", "by threshold; ◆ as deployed", _figure(data, layout)
    )


def _calibration(verdicts: Sequence[Verdict]) -> Plot:
    data: list[dict[str, Any]] = [_dashed("calibrated", [0, 1], [0, 1])]
    for number, one in enumerate(verdicts):
        bins = one.evaluation.reliability
        if bins:
            error = one.evaluation.calibration_error
            name = f"{one.evaluation.name} (error {error:.4f})"
            line = _line(name, [b.told for b in bins], [b.failed for b in bins], number)
            counts = [f"{b.count:,} messages" for b in bins]
            data.append(line | {"mode": "lines+markers", "text": counts})
    layout = _layout("probability told", "share that failed", [0, 1.02], [0, 1.02])
    return Plot("Calibration", "failures within the horizon", _figure(data, layout))


def _scores(verdict: Verdict) -> Plot:
    picture, one = verdict.picture, verdict.evaluation
    edges = np.array(picture.edges)
    log = bool(len(edges)) and edges[0] > 0
    middle = np.sqrt(edges[1:] * edges[:-1]) if log else (edges[1:] + edges[:-1]) / 2
    data = []
    kinds = _numbers(verdict)
    for name, counts in picture.histogram.items():
        share = np.array(counts) / max(1, sum(counts))
        shown = GREY if name == HEALTHY else colour(kinds[name])
        line = _line(name, middle.tolist(), share.tolist(), 0)
        line["line"] |= {"color": shown, "shape": "hvh"}
        data.append(line | {"fill": "tozeroy"} if name == HEALTHY else line)
    layout = _layout("score", "share of the class", None, None)
    if log:
        layout["xaxis"]["type"] = "log"
    layout["shapes"] = [
        {
            "type": "line",
            "x0": one.threshold,
            "x1": one.threshold,
            "y0": 0,
            "y1": 1,
            "yref": "paper",
            "line": {"color": "#ef4444", "dash": "dash"},
            "label": {"text": "threshold", "textposition": "end", "textangle": 0},
        }
    ]
    note = "of messages, healthy and before each kind of failure"
    return Plot("Score by class", note, _figure(data, layout))


def _leads(verdict: Verdict) -> Plot | None:
    leads = verdict.picture.lead
    if not leads:
        return None
    kinds = _numbers(verdict)
    data = [
        {
            "type": "box",
            "name": kind,
            "x": values,
            "orientation": "h",
            "boxpoints": "all",
            "jitter": 0.5,
            "pointpos": 0,
            "marker": {"color": colour(kinds[kind]), "size": 3},
            "showlegend": False,
        }
        for kind, values in leads.items()
    ]
    layout = _layout("minutes from the first alert to the failure", "", None, None)
    layout["xaxis"]["rangemode"] = "tozero"
    layout["yaxis"] |= {"automargin": True}
    return Plot("Lead time", "of the failures that were announced", _figure(data, layout))


def _confusion(verdict: Verdict) -> Plot | None:
    rows = verdict.evaluation.confusion
    if not rows:
        return None
    columns = sorted({name for row in rows.values() for name in row})
    counts = [[row.get(name, 0) for name in columns] for row in rows.values()]
    return Plot(
        "Failures by kind of alert",
        "the first alert of each failure; healthy: false alerts",
        _heat(columns, list(rows), counts, "%{y}: %{z} × %{x}<extra></extra>"),
    )


def _contributions(verdict: Verdict) -> Plot | None:
    found = verdict.picture.contributions
    if not found:
        return None
    signals = [
        name for name in next(iter(found.values())) if any(r[name] > 0 for r in found.values())
    ]
    shares = [[round(row[name], 4) for name in signals] for row in found.values()]
    return Plot(
        "Contributions by signal",
        "mean share of the score, of messages above the threshold",
        _heat(signals, list(found), shares, "%{y}, %{x}: %{z:.0%}<extra></extra>", text=False),
    )


def _heat(
    x: list[str], y: list[str], z: list[Any], hover: str, *, text: bool = True
) -> dict[str, Any]:
    data: dict[str, Any] = {
        "type": "heatmap",
        "x": x,
        "y": y,
        "z": z,
        "colorscale": [[0, "rgba(59,130,246,0.04)"], [1, "#3b82f6"]],
        "showscale": False,
        "hovertemplate": hover,
    }
    if text:
        data |= {"texttemplate": "%{z}"}
    layout = {
        "xaxis": {"type": "category", "automargin": True},
        "yaxis": {"type": "category", "automargin": True, "autorange": "reversed"},
    }
    return _figure([data], layout)


def _numbers(verdict: Verdict) -> dict[str, int]:
    """A number of each kind of failure, so that it has one colour on the page."""
    picture = verdict.picture
    names = {*picture.histogram, *picture.lead} - {HEALTHY}
    return {name: number for number, name in enumerate(sorted(names))}


def _rising(curve: Sequence[Operating]) -> list[Operating]:
    return sorted(curve, key=lambda point: (point.false_per_day, point.recall))


def _line(
    name: str, x: list[float], y: list[float], number: int, shape: str = "linear"
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [_short(value) for value in x],
        "y": [_short(value) for value in y],
        "line": {"color": colour(number), "width": 2, "shape": shape},
    }


def _dashed(name: str, x: list[float], y: list[float]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": x,
        "y": y,
        "line": {"color": GREY, "width": 1, "dash": "dot"},
    }


def _layout(
    x: str, y: str, x_range: list[float] | None, y_range: list[float] | None
) -> dict[str, Any]:
    axes: dict[str, dict[str, Any]] = {
        "xaxis": {"title": {"text": x}},
        "yaxis": {"title": {"text": y}},
    }
    for axis, limits in (("xaxis", x_range), ("yaxis", y_range)):
        axes[axis] |= {"rangemode": "tozero"} if limits is None else {"range": limits}
    return axes


def _figure(data: list[Any], layout: dict[str, Any]) -> dict[str, Any]:
    return {"data": data, "layout": layout}


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _thin(count: int) -> list[int]:
    places = np.linspace(0, max(0, count - 1), min(count, _POINTS)).astype(int)
    found: list[int] = np.unique(places).tolist()
    return found
