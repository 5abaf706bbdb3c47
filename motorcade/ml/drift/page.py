"""A look at drift on a page of its own: every signal's index, and the worst signals' shares."""

from pathlib import Path

from motorcade.ml.drift.check import Drift, SignalDrift, bin_names, shares
from motorcade.runtime.pages import render as pages
from motorcade.runtime.pages.plot import Plot, colour_of

#: Signals that are drawn.
WORST = 6
#: Above the plot: the names of signals and bins need the room below.
_LEGEND = {"orientation": "h", "x": 0, "y": 1.18}


def write(drift: Drift, path: Path) -> None:
    """Write the page: one file that needs nothing else.

    Raises:
        MotorcadeError: it cannot be written.
    """
    pages.keep(render(drift), path)


def render(drift: Drift) -> str:
    """The page as HTML."""
    return pages.render(
        "motorcade.ml.drift",
        "page.html.j2",
        [_indices(drift), *(_shares(one) for one in drift.signals[:WORST])],
        {"absent": lambda counts: f"{shares(counts)[-1]:.1%}"},
        drift=drift,
    )


def _indices(drift: Drift) -> Plot:
    names = [one.name for one in drift.signals]
    data = [
        {
            "type": "bar",
            "name": "PSI",
            "x": names,
            "y": [one.psi for one in drift.signals],
            "marker": {"color": colour_of(0)},
        },
        {
            "type": "scatter",
            "mode": "markers",
            "name": "limit",
            "x": names,
            "y": [one.limit for one in drift.signals],
            "marker": {"color": colour_of(3), "symbol": "line-ew-open", "size": 14},
        },
    ]
    layout = {
        "xaxis": {"automargin": True},
        "yaxis": {"rangemode": "tozero"},
        "legend": _LEGEND,
    }
    return Plot("Population stability index", "of every signal", {"data": data, "layout": layout})


def _shares(one: SignalDrift) -> Plot:
    names = bin_names(one.edges)
    data = [
        {
            "type": "bar",
            "name": name,
            "x": names,
            "y": shares(counts),
            "marker": {"color": colour_of(number)},
        }
        for number, (name, counts) in enumerate(
            (("training range", one.reference), ("recent", one.recent))
        )
    ]
    layout = {
        "xaxis": {"type": "category", "automargin": True},
        "yaxis": {"tickformat": ".0%", "rangemode": "tozero"},
        "legend": _LEGEND,
    }
    note = f"share of messages; PSI {one.psi:.3f}, limit {one.limit:.3f}"
    return Plot(one.name, note, {"data": data, "layout": layout})
