"""The evaluation's page: one HTML file that needs nothing else, the comparison first."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from motorcade.fleet.errors import MotorcadeError
from motorcade.ml.judging.bootstrap import Figure
from motorcade.ml.judging.evaluation import Verdict
from motorcade.ml.judging.figures import comparison_plots, model_plots


def write(
    path: Path,
    verdicts: Sequence[Verdict],
    *,
    dataset: str,
    part: str,
    notes: Sequence[str] = (),
) -> None:
    """Write the page.

    Args:
        path: of the file; its folder is made.
        verdicts: of models on the same messages, at least one.
        dataset, part: what judged them.
        notes: what people should know.

    Raises:
        MotorcadeError: the file cannot be written.
    """
    html = render(verdicts, dataset=dataset, part=part, notes=notes)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise MotorcadeError(
            f"The report {path} cannot be written: {error}.", "Name another file: --report."
        ) from error


def render(verdicts: Sequence[Verdict], *, dataset: str, part: str, notes: Sequence[str]) -> str:
    """The page as HTML; arguments as `write`."""
    whole = comparison_plots(verdicts)
    drawn = [model_plots(one) for one in verdicts]
    figures = [plot.figure for plots in (whole, *drawn) for plot in plots]
    firsts, at = [], len(whole)
    for plots in drawn:
        firsts.append(at)
        at += len(plots)
    made = Environment(
        loader=PackageLoader("motorcade.ml.judging", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"figure": _figure, "number": _number}
    return made.get_template("page.html.j2").render(
        evaluations=[one.evaluation for one in verdicts],
        dataset=dataset,
        part=part,
        notes=notes,
        plots=whole,
        models=list(zip([v.evaluation for v in verdicts], drawn, firsts, strict=True)),
        plotly=get_plotlyjs(),
        # "</" would end the script that it stands in.
        figures=msgspec.json.encode(figures).decode().replace("</", "<\\/"),
    )


def _figure(figure: Figure, digits: int = 3) -> str:
    if figure.value is None:
        return "–"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.{digits}f}"
    return f"{figure.value:.{digits}f} ({figure.low:.{digits}f}–{figure.high:.{digits}f})"


def _number(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)
