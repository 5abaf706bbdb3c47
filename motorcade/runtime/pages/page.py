"""Templates with what every page needs, and the file that a page is kept in."""

from collections.abc import Callable
from pathlib import Path

import msgspec
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from motorcade.fleet.clock import utc
from motorcade.fleet.errors import MotorcadeError

_BASE = "motorcade.runtime.pages"


class PageError(MotorcadeError):
    """A page cannot be written; the message names its file."""


def environment(package: str, **filters: Callable[..., str]) -> Environment:
    """The templates in a package's folder, which may use those of this one.

    `base.html.j2` is what they extend, with the blocks title, style, header and body;
    `plots.html.j2` has the macro `drawn`, which shows plots. The filter `utc` writes a moment.
    Nothing that a page is given can become markup.

    Args:
        package: whose folder has the templates.
        filters: that its templates use, by name.
    """
    made = Environment(
        loader=ChoiceLoader([PackageLoader(one, ".") for one in (package, _BASE)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"script_json": script_json, "utc": utc, **filters}
    made.globals["plotly"] = get_plotlyjs()
    return made


def script_json(value: object) -> str:
    """JSON that may stand within a script: without "<" nothing in it can end, or begin, one."""
    return msgspec.json.encode(value).decode().replace("<", "\\u003c")


def keep(html: str, path: Path) -> None:
    """Write a page, and the folder that it is to be in.

    Raises:
        PageError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise PageError(
            f"The page {path} cannot be written: {error.strerror}.", "Name another file: --report."
        ) from error
