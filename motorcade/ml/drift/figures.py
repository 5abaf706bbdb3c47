"""The plots of a look at drift, as plain values for Plotly. Pure."""

from typing import Any

from motorcade.ml.drift.check import Drift, SignalDrift, bin_names, shares
from motorcade.runtime.pages.plot import GREY, Plot, colour

#: Signals that are drawn.
WORST = 6


def plots(drift: Drift) -> list[Plot]:
    """Every signal's index beside its limit, and the shares of the worst signals."""
    return [_indices(drift), *(_shares(one) for one in drift.signals[:WORST])]


def _indices(drift: Drift) -> Plot:
    names = [one.name for one in drift.signals]
    limits = {
        "type": "scatter",
        "mode": "markers",
        "name": "limit",
        "x": names,
        "y": [one.limit for one in drift.signals],
        "marker": {"color": colour(3)},
    }
    return Plot(
        "Population stability index of every signal",
        "beside its limit",
        {
            "data": [_bars("PSI", names, [one.psi for one in drift.signals], colour(0)), limits],
            "layout": {"xaxis": {"type": "category"}, "yaxis": {"title": {"text": "PSI"}}},
        },
        wide=True,
    )


def _shares(one: SignalDrift) -> Plot:
    names = bin_names(one.edges)
    return Plot(
        one.name,
        f"PSI {one.psi:.3f}, limit {one.limit:.3f}",
        {
            "data": [
                _bars("training range", names, [*shares(one.reference)], GREY),
                _bars("recent", names, [*shares(one.recent)], colour(0)),
            ],
            "layout": {
                "xaxis": {"type": "category"},
                "yaxis": {"title": {"text": "share of messages"}, "tickformat": ".0%"},
            },
        },
    )


def _bars(name: str, x: list[str], y: list[float], shown: str) -> dict[str, Any]:
    return {"type": "bar", "name": name, "x": x, "y": y, "marker": {"color": shown}}
