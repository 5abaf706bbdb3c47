"""A look at drift on a page of its own: every signal's index, and the worst signals' shares."""

from pathlib import Path

from motorcade.ml.drift.check import Drift, shares
from motorcade.ml.drift.figures import plots
from motorcade.runtime.pages.page import environment, keep


def write(drift: Drift, path: Path) -> None:
    """Write the page: one file that needs nothing else.

    Raises:
        PageError: the file cannot be written.
    """
    keep(render(drift), path)


def render(drift: Drift) -> str:
    """The page as HTML."""
    templates = environment("motorcade.ml.drift")
    return templates.get_template("page.html.j2").render(
        drift=drift,
        rows=[(one, shares(one.reference)[-1], shares(one.recent)[-1]) for one in drift.signals],
        plots=plots(drift),
    )
