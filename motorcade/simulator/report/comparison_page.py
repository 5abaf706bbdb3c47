"""The comparison of two runs as one HTML file."""

from pathlib import Path

from motorcade.runtime.pages.page import environment, keep
from motorcade.simulator.report.compare import Change, Comparison
from motorcade.simulator.report.figures import both_plots


def figure(value: float | None) -> str:
    """A figure of any size, as short as it may be."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"


def write(comparison: Comparison, path: Path) -> None:
    """Write the page.

    Raises:
        PageError: the file cannot be written.
    """
    keep(render(comparison), path)


def render(comparison: Comparison) -> str:
    """The page as HTML."""
    a, b = comparison.a, comparison.b
    templates = environment("motorcade.simulator.report", figure=figure)
    return templates.get_template("compare.html.j2").render(
        name=a.manifest.scenario.get("name", "run"),
        runs=[("A", a), ("B", b)],
        rows=comparison.rows,
        better=comparison.changed(Change.BETTER),
        worse=comparison.changed(Change.WORSE),
        differences=comparison.differences,
        plots=both_plots(a, b),
    )
