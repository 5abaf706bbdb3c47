"""`motorcade evaluate`: judge models on vehicles that taught none of them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import TimeRemainingColumn
from rich.table import Table

from motorcade.fleet.errors import SettingsError
from motorcade.fleet.settings import ProcessSettings
from motorcade.stack.bars import phase_bars
from motorcade.stack.joining import join
from motorcade.stack.shared_options import State, require_writable
from motorcade.stack.train_cli import span_ms

if TYPE_CHECKING:
    from motorcade.ml.judging.bootstrap import Figure
    from motorcade.ml.judging.evaluation import Evaluation
    from motorcade.ml.judging.run import Judged
    from motorcade.ml.models.base import Model


def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL[:VERSION]]...",
            help="The newest version when none is named; every stored model when left out.",
        ),
    ] = None,
    dataset: Annotated[str, typer.Option(help="Name of a recorded data set.")] = "",
    part: Annotated[
        str, typer.Option(help="Vehicles that judge: test, calibrate, validate, train or all.")
    ] = "test",
    horizon: Annotated[
        str, typer.Option(help="Failures are to be foretold this early; else the first model's.")
    ] = "",
    within: Annotated[
        str,
        typer.Option(
            help="An alert so long before a failure announces it; else two horizons. A vehicle is "
            "healthy where no failure is as near."
        ),
    ] = "",
    budget: Annotated[
        float, typer.Option(min=0, help="False alerts per healthy vehicle-day that are borne.")
    ] = 0.01,
    seed: Annotated[
        int | None, typer.Option(help="Of the split; else that of the first model's training.")
    ] = None,
    reader: Annotated[str, typer.Option(help="columnar or tensorflow-io.")] = "columnar",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures here.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with plots here (HTML).")
    ] = None,
    state: State = None,
) -> None:
    """Judge models on recorded vehicles that taught none of them.

    Every message of these vehicles is read from Kafka and scored as the scorers do; alerts are
    raised as the stream raises them. It tells how failing messages are parted from healthy ones
    (PR-AUC, ROC-AUC), which failures were announced and how early, false alerts per healthy
    vehicle-day with their upper 95 % Poisson bound, and how well probabilities are calibrated; with
    bootstrap intervals over vehicles, and by kind of failure.

    **Examples**

    - `motorcade evaluate --dataset week-1 --report report.html` judges every stored model

    - `motorcade evaluate forecaster boosted --dataset week-1`

    - `motorcade evaluate pca:3 --dataset week-2 --part all --json pca.json`

    **Next:** `motorcade models promote NAME:VERSION`.
    """
    from motorcade.ml.errors import ModelRefusedError
    from motorcade.ml.judging.evaluation import Terms
    from motorcade.ml.judging.run import judge, load
    from motorcade.ml.reading.records import DatasetStore
    from motorcade.ml.scoring.roster import find
    from motorcade.ml.store import ModelStore

    if not dataset:
        raise SettingsError(
            "Name the data set to judge on: --dataset NAME.",
            "motorcade dataset list shows what there is.",
        )
    for option, file in (("--json", json_file), ("--report", report)):
        require_writable(option, file)
    join(state)
    settings = ProcessSettings()
    store = ModelStore.of(settings)
    record = DatasetStore.of(settings).read(dataset)
    wanted = models or store.names()
    if not wanted:
        raise SettingsError("No model is stored.", "Train one: motorcade train boosted.")
    loaded: list[Model] = []
    for one in wanted:
        try:
            loaded.append(load(settings, store, find(settings, one)[0]))
        except ModelRefusedError as error:
            if models or (one == wanted[-1] and not loaded):
                raise
            typer.echo(f"Left out: {error}", err=True)
    first = loaded[0].manifest
    horizon_ms = span_ms(horizon, "--horizon") if horizon else first.horizon_ms
    if not horizon_ms:
        raise SettingsError(f"{first.name} was trained without a horizon.", "Name it: --horizon.")
    terms = Terms.of(
        horizon_ms,
        budget=budget,
        within_ms=span_ms(within, "--within") if within else None,
    )
    with phase_bars(TimeRemainingColumn()) as tell:
        judged = judge(
            settings,
            record,
            loaded,
            terms,
            tell,
            part=part,
            seed=first.origin.seed if seed is None else seed,
            reader=reader,
        )
    _show(judged, [one.evaluation for one in judged.verdicts])
    _write(judged, dataset, part, json_file, report)
    best = judged.verdicts[0].evaluation.name if len(judged.verdicts) == 1 else "NAME:VERSION"
    look = "" if report is None else f"look at {report} · "
    typer.echo(f"Next: {look}motorcade models promote {best}")


def _write(
    judged: "Judged", dataset: str, part: str, json_file: Path | None, report: Path | None
) -> None:
    import msgspec

    from motorcade.ml.judging.report import write

    if json_file is not None:
        document = {
            "dataset": dataset,
            "part": part,
            "notes": judged.notes,
            "models": [msgspec.to_builtins(one.evaluation) for one in judged.verdicts],
        }
        json_file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if report is not None:
        write(report, judged.verdicts, dataset=dataset, part=part, notes=judged.notes)


def _show(judged: "Judged", found: "Sequence[Evaluation]") -> None:
    one = found[0]
    typer.echo(
        f"{one.vehicles:,} vehicles, {one.messages:,} messages, {one.failures} failures; horizon "
        f"{one.horizon_minutes:g} min, announced within {one.within_minutes:g} min."
    )
    table = Table("", *(each.name for each in found), box=None)
    for word, text in _ROWS.items():
        table.add_row(word, *(text(each) for each in found))
    for kind in one.kinds:
        rows = [next((k for k in each.kinds if k.kind == kind.kind), None) for each in found]
        table.add_row(
            f"  {kind.kind}",
            *(
                "–"
                if row is None
                else f"{row.announced} of {row.failures}"
                + ("" if row.lead_median is None else f", {row.lead_median:.0f} min")
                for row in rows
            ),
        )
    Console(soft_wrap=True).print(table)
    for note in judged.notes:
        typer.echo(f"Note: {note}")


def _figure(figure: "Figure", digits: int = 3) -> str:
    if figure.value is None:
        return "–"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.{digits}f}"
    return f"{figure.value:.{digits}f} ({figure.low:.{digits}f}–{figure.high:.{digits}f})"


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


_ROWS: "dict[str, Callable[[Evaluation], str]]" = {
    "scored messages": lambda one: f"{one.scored / one.messages:.1%}",
    "PR-AUC": lambda one: _figure(one.pr_auc),
    "ROC-AUC": lambda one: _figure(one.roc_auc),
    "false alerts": lambda one: f"{one.false_alerts} in {one.healthy_days:,.1f} vehicle-days",
    "  a day, upper 95 %": lambda one: _or_dash(one.false_upper, ".4f"),
    "calibration error": lambda one: _or_dash(one.calibration_error, ".4f"),
    "remaining life, RMSE": lambda one: (
        "–" if one.life_rmse is None else f"{one.life_rmse:.1f} min"
    ),
    "announced": lambda one: f"{one.announced} of {one.failures}",
    "  recall": lambda one: _figure(one.recall),
    "  lead, median min": lambda one: _figure(one.lead_median, 0),
    "  lead, q05 min": lambda one: _or_dash(one.lead.get("q05"), ".0f"),
}
