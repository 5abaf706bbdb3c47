"""Both growths as one self-contained page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bench.growth.lines import ALL, Growth
from motorcade.runtime.pages.page import environment, keep
from motorcade.runtime.pages.plot import GREY, Plot, colour


class Shown(NamedTuple):
    """A growth, and how it is put to people.

    unit: of what the parts took. step: what one more of `grows` takes. scale: from the unit to
    the step's. digits: of a figure in the table.
    """

    title: str
    growth: Growth
    grows: str
    unit: str
    step: str
    scale: float
    digits: int


def write(shown: list[Shown], path: Path) -> None:
    """Write the page.

    Raises:
        PageError: the file cannot be written.
    """
    template = environment("bench.growth").get_template("page.html.j2")
    # A part has one colour in all plots.
    parts = sorted({part for one in shown for part in one.growth.by_part})
    colours = {part: colour(number) for number, part in enumerate(parts)}
    plots = [_plot(one, colours) for one in shown]
    keep(template.render(shown=shown, plots=plots, all=ALL), path)


def _plot(shown: Shown, colours: Mapping[str, str]) -> Plot:
    """Every part's points, and the line through the sum of all."""
    growth = shown.growth
    line = growth.lines[ALL]
    data: list[dict[str, Any]] = [
        {
            "x": growth.x,
            "y": values,
            "name": "all processes" if part == ALL else part,
            "mode": "lines+markers" if part != ALL else "markers",
            "marker": {"size": 10 if part == ALL else 6, "color": colours[part]},
        }
        for part, values in growth.by_part.items()
    ]
    data.append(
        {
            "x": (ends := [0.0, max(growth.x)]),
            "y": [line.base + line.slope * x for x in ends],
            "name": "straight line",
            "mode": "lines",
            "line": {"dash": "dash", "color": GREY},
        }
    )
    layout = {
        "xaxis": {"title": {"text": shown.grows}},
        "yaxis": {"title": {"text": shown.unit}, "rangemode": "tozero"},
    }
    return Plot(shown.title, shown.unit, {"data": data, "layout": layout})
