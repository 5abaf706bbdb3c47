"""Renders a page from a template of its own and plots as plain values, and writes it."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from motorcade.fleet.errors import MotorcadeError
from motorcade.runtime.pages.plot import Plot


def render(
    package: str,
    template: str,
    plots: Sequence[Plot],
    filters: Mapping[str, Callable[..., str]] | None = None,
    **values: object,
) -> str:
    """A page as HTML.

    Args:
        package: where the template lies, which extends `base.html.j2`.
        plots: all of the page, in the order of the numbers that the template gives their frames.
        filters: that the template uses beside `moment`, which tells wall-clock milliseconds.
        values: that the template shows; `plots` is one of them.
    """
    made = Environment(
        loader=ChoiceLoader(
            [PackageLoader(package, "."), PackageLoader("motorcade.runtime.pages", ".")]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"moment": _moment, **(filters or {})}
    # "</" would end the script that the figures stand in.
    figures = msgspec.json.encode([one.figure for one in plots]).decode().replace("</", "<\\/")
    return made.get_template(template).render(
        plots=plots, figures=figures, plotly=get_plotlyjs(), **values
    )


def keep(html: str, path: Path) -> None:
    """Write a page, and make the folder that it is to be in.

    Raises:
        MotorcadeError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise MotorcadeError(
            f"The page {path} cannot be written: {error.strerror}.", "Name another file: --report."
        ) from error


def _moment(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(milliseconds / 1000))
