"""The evaluation's page: one HTML file that needs nothing else, the comparison first."""

from collections.abc import Sequence
from pathlib import Path

from motorcade.ml.judging.bootstrap import Figure
from motorcade.ml.judging.evaluation import Verdict
from motorcade.ml.judging.figures import comparison_plots, model_plots
from motorcade.runtime.pages.page import environment, keep


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
        PageError: the file cannot be written.
    """
    keep(render(verdicts, dataset=dataset, part=part, notes=notes), path)


def render(verdicts: Sequence[Verdict], *, dataset: str, part: str, notes: Sequence[str]) -> str:
    """The page as HTML; arguments as `write`."""
    templates = environment("motorcade.ml.judging", figure=_figure, number=_number)
    evaluations = [one.evaluation for one in verdicts]
    return templates.get_template("page.html.j2").render(
        evaluations=evaluations,
        dataset=dataset,
        part=part,
        notes=notes,
        plots=comparison_plots(verdicts),
        models=list(zip(evaluations, map(model_plots, verdicts), strict=True)),
    )


def _figure(figure: Figure, digits: int = 3) -> str:
    if figure.value is None:
        return "–"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.{digits}f}"
    return f"{figure.value:.{digits}f} ({figure.low:.{digits}f}–{figure.high:.{digits}f})"


def _number(value: float | None, form: str = ".3f") -> str:
    return "–" if value is None else format(value, form)
