"""The benchmark on a page of its own: what the champion told, and what was true."""

from pathlib import Path

from motorcade.runtime.pages.page import environment, keep
from motorcade.stack.replay.figures import plots
from motorcade.stack.replay.judge import CAP
from motorcade.stack.replay.result import Result


def write(result: Result, path: Path) -> None:
    """Write the page: one file that needs nothing else.

    Raises:
        PageError: the file cannot be written.
    """
    keep(render(result), path)


def render(result: Result) -> str:
    """The page as HTML."""
    templates = environment("motorcade.stack.replay")
    return templates.get_template("page.html.j2").render(
        result=result, document=result.document(), cap=CAP, plots=plots(result)
    )
