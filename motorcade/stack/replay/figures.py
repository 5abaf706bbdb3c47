"""The plots of a benchmark of remaining life, as plain values for Plotly. Pure."""

import numpy as np

from motorcade.runtime.pages.plot import GREY, Plot, colour
from motorcade.stack.replay.judge import CAP, capped
from motorcade.stack.replay.result import Result


def plots(result: Result) -> list[Plot]:
    """What the champion and the best baseline told against the truth, and engine by engine."""
    return [_against_truth(result), _by_engine(result)]


def _against_truth(result: Result) -> Plot:
    true = capped(result.true).tolist()
    models = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": one.name,
            "x": true,
            "y": one.told.tolist(),
            "text": result.vehicles,
            "marker": {"color": colour(number)},
        }
        for number, one in enumerate((result.champion, result.baseline))
    ]
    perfect = {
        "type": "scatter",
        "mode": "lines",
        "name": "as it was",
        "x": [0, CAP],
        "y": [0, CAP],
        "line": {"color": GREY, "dash": "dot"},
    }
    return Plot(
        "Told and true remaining life of each test engine",
        "in cycles",
        {
            "data": [perfect, *models],
            "layout": {
                "xaxis": {"title": {"text": f"true cycles left, up to {CAP}"}},
                "yaxis": {"title": {"text": "told"}},
            },
        },
    )


def _by_engine(result: Result) -> Plot:
    order = np.argsort(result.true, kind="stable")
    truth = {
        "type": "scatter",
        "mode": "lines",
        "name": "as it was",
        "y": capped(result.true)[order].tolist(),
        "line": {"color": GREY},
    }
    told = {
        "type": "bar",
        "name": result.champion.name,
        "y": result.champion.told[order].tolist(),
        "text": [result.vehicles[at] for at in order],
        "marker": {"color": colour(0)},
    }
    return Plot(
        "By true remaining life",
        "of the champion",
        {
            "data": [truth, told],
            "layout": {
                "xaxis": {"title": {"text": "test engines"}},
                "yaxis": {"title": {"text": "cycles"}},
            },
        },
    )
