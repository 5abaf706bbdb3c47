"""`motorcade drift`: whether the stream is still what the model was trained on."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from motorcade.fleet.settings import ProcessSettings
from motorcade.stack.joining import join
from motorcade.stack.shared_options import State, require_writable

if TYPE_CHECKING:
    from motorcade.ml.drift.check import Drift

#: Exit status of a look that found drift.
DRIFTED = 2

_STYLES = {"drift": "bold red", "unknown": "dim"}


def drift(
    minutes: Annotated[
        float, typer.Option(min=0.1, help="How much of the stream is recent, by wall clock.")
    ] = 1440.0,
    model: Annotated[
        str,
        typer.Option(metavar="NAME[:VERSION]", help="A stored model; the champion when left out."),
    ] = "",
    alpha: Annotated[
        float,
        typer.Option(min=1e-9, max=0.5, help="Chance of a false alarm in one look at all signals."),
    ] = 0.01,
    material: Annotated[
        float, typer.Option(min=0, help="PSI up to which a shift is of no consequence.")
    ] = 0.1,
    document: Annotated[
        Path | None, typer.Option("--json", help="Write every figure here.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write a page with plots here.")
    ] = None,
    state: State = None,
) -> None:
    """Whether what cars send now, and how it scores, is still what the model was trained on.

    Every signal's recent values are counted in bins of the training range, absent ones in a bin of
    their own; the population stability index (PSI) says how far the shares have moved. Its limit
    follows from how many messages and vehicles there are, so a small sample does not alarm. Look
    at a whole day: a night differs from a day without any drift.

    Exits 0 when nothing has drifted, and 2 when something has.

    **Examples**

    - `motorcade drift` looks at the last day, or at all since training

    - `motorcade drift --minutes 60 --report drift.html`

    **Next:** `motorcade retrain autoencoder`, or `motorcade retrain autoencoder --on-drift`.
    """
    from motorcade.ml.drift.check import Limits, check

    require_writable("--json", document)
    require_writable("--report", report)
    join(state)
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("reading", total=None)
        found = check(
            ProcessSettings(),
            minutes,
            lambda done, total: bars.update(task, completed=done, total=total),
            model=model,
            limits=Limits(alpha, material),
        )
    if document is not None:
        import msgspec

        text = msgspec.json.format(msgspec.json.encode(found), indent=1)
        document.write_bytes(text + b"\n")
    if report is not None:
        from motorcade.ml.drift import page

        page.write(found, report)
    _print(found)
    for word, path in (("Page with plots:", report), ("Every figure:", document)):
        if path is not None:
            typer.echo(f"{word} {path}")
    if found.drifted:
        typer.echo(f"Next: motorcade retrain {found.model} · motorcade drift --report drift.html")
        sys.exit(DRIFTED)


def _print(found: "Drift") -> None:
    from motorcade.ml.drift.check import shares

    table = Table(box=None, pad_edge=False)
    for name in ("signal", "PSI", "chance explains", "limit", "absent then", "absent now"):
        table.add_column(name, justify="left" if name == "signal" else "right")
    table.add_column("verdict")
    for one in found.signals:
        table.add_row(
            one.name,
            *(f"{number:.3f}" for number in (one.psi, one.chance, one.limit)),
            *(f"{shares(side)[-1]:.1%}" for side in (one.reference, one.recent)),
            one.verdict,
            style=_STYLES.get(one.verdict),
        )
    Console().print(table)
    names = ", ".join(one.name for one in found.drifted)
    typer.echo(
        f"\n{f'Drift: {names}' if names else 'No drift'}; {found.messages:,} messages of "
        f"{found.vehicles:,} vehicles against what trained {found.model}:{found.version}."
    )
