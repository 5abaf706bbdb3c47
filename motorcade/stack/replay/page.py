"""The benchmark on a page of its own: what the champion told, and what was true."""

from pathlib import Path
from typing import Any

import numpy as np

from motorcade.runtime.pages import render as pages
from motorcade.runtime.pages.plot import GREY, Plot, colour_of
from motorcade.stack.replay.judge import CAP, capped
from motorcade.stack.replay.result import Result


def write(result: Result, path: Path) -> None:
    """Write the page: one file that needs nothing else.

    Raises:
        MotorcadeError: it cannot be written.
    """
    pages.keep(render(result), path)


def render(result: Result) -> str:
    """The page as HTML."""
    return pages.render(
        "motorcade.stack.replay",
        "page.html.j2",
        [_against_truth(result), _by_engine(result)],
        {"cycles": lambda value: "" if np.isnan(value) else f"{value:.2f}"},
        result=result,
        told=result.document(),
    )


def _against_truth(result: Result) -> Plot:
    data: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "as it was",
            "x": [0, CAP],
            "y": [0, CAP],
            "line": {"color": GREY, "dash": "dot"},
        }
    ]
    data += [
        {
            "type": "scatter",
            "mode": "markers",
            "name": one.name,
            "x": capped(result.true).tolist(),
            "y": one.told.tolist(),
            "text": result.vehicles,
            "marker": {"color": colour_of(number)},
        }
        for number, one in enumerate((result.champion, result.baseline))
    ]
    layout = {
        "xaxis": {"title": {"text": f"true cycles left, up to {CAP}"}},
        "yaxis": {"title": {"text": "told"}},
    }
    return Plot(
        "Told and true remaining life", "of each test engine", {"data": data, "layout": layout}
    )


def _by_engine(result: Result) -> Plot:
    order = np.argsort(result.true, kind="stable")
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "as it was",
            "y": capped(result.true)[order].tolist(),
            "line": {"color": GREY},
        },
        {
            "type": "bar",
            "name": result.champion.name,
            "y": result.champion.told[order].tolist(),
            "text": [result.vehicles[at] for at in order],
            "textposition": "none",
            "marker": {"color": colour_of(0)},
        },
    ]
    layout = {
        "xaxis": {"title": {"text": "test engines"}},
        "yaxis": {"title": {"text": "cycles"}},
    }
    return Plot("By true remaining life", "cycles", {"data": data, "layout": layout})
