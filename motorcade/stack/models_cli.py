"""`motorcade models`: which models there are and which are live; promote, challenge, go back."""

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from motorcade.fleet.clock import utc
from motorcade.fleet.errors import SettingsError
from motorcade.fleet.settings import ProcessSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from motorcade.fleet.messages import ModelAnnouncement
    from motorcade.ml.scoring.comparison import Side

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Which models there are, and which score the stream.

    The champion's scores decide; a challenger scores the same messages and is only compared.
    Running scorers take a change over by themselves: no restart, no message lost.""",
)

Model = Annotated[
    str, typer.Argument(metavar="NAME[:VERSION]", help="The newest version when none is named.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every stored version, and which of them are live."""
    from motorcade.ml.scoring.roster import listed

    found = asyncio.run(listed(ProcessSettings()))
    if as_json:
        _print_json(
            [
                {
                    "name": one.manifest.name,
                    "version": one.manifest.version,
                    "slot": one.slot.value if one.slot else None,
                    "architecture": one.manifest.architecture,
                    "created": one.manifest.created,
                    "threshold": one.manifest.threshold,
                    "dataset": one.manifest.origin.dataset,
                    "manifest_sha256": one.announcement.manifest_sha256,
                }
                for one in found
            ]
        )
        return
    if not found:
        typer.echo("No model is stored. Train one: motorcade train autoencoder")
        return
    table = Table("model", "live as", "trained (UTC)", "data set", "window", "threshold", box=None)
    for one in found:
        manifest = one.manifest
        table.add_row(
            f"{manifest.name}:{manifest.version}",
            one.slot.value if one.slot else "",
            utc(manifest.created),
            manifest.origin.dataset,
            _window(manifest.window.rows, manifest.window.every_ms),
            f"{manifest.threshold:.3g}",
        )
    Console().print(table)


@app.command()
def show(model: Model, as_json: AsJson = False) -> None:
    """What a stored version is: its features, window, figures, and what it was trained on."""
    import msgspec

    from motorcade.ml.scoring.roster import find

    manifest, announcement = find(ProcessSettings(), model)
    if as_json:
        _print_json(msgspec.to_builtins(manifest))
        return
    learnt = [name for name, known in zip(manifest.features, manifest.learnt, strict=True) if known]
    hours = manifest.horizon_ms / 3_600_000
    lines = {
        "model": f"{manifest.name}:{manifest.version} ({manifest.architecture})",
        "trained": f"{utc(manifest.created)} UTC on {manifest.origin.dataset or 'no data set'}",
        "window": _window(manifest.window.rows, manifest.window.every_ms),
        "needs": f"{manifest.least_filled} samples, {manifest.minimum_coverage:.0%} of the signals",
        "threshold": f"{manifest.threshold:.4g}",
        "foretells": f"{', '.join(manifest.kinds)} within {hours:g} h" if manifest.kinds else "–",
        "features": ", ".join(learnt),
        "manifest": f"sha256 {announcement.manifest_sha256}",
    } | {name: f"{value:.5g}" for name, value in sorted(manifest.metrics.items())}
    width = max(map(len, lines))
    for word, text in lines.items():
        typer.echo(f"{word:{width}}  {text}")


@app.command()
def promote(model: Model) -> None:
    """Make a stored version the champion, whatever it was compared with.

    It is loaded and probed here first, as the scorers do, so a broken one is refused at once.

    **Examples:** `motorcade models promote autoencoder:3`, `motorcade models promote pca`

    **Next:** `motorcade logs score` shows it going live; `motorcade models rollback` undoes it.
    """
    from motorcade.ml.scoring.roster import promote as make_champion

    announced = asyncio.run(make_champion(ProcessSettings(), model))
    before = announced.replaces
    instead = f" instead of {before.name}:{before.version}" if before else ""
    typer.echo(f"{_named(announced)} is the champion{instead}.")
    _mark(announced)
    typer.echo("Next: motorcade logs score · motorcade models rollback undoes it")


@app.command()
def challenge(
    model: Annotated[str, typer.Argument(metavar="NAME[:VERSION]", help="Its challenger.")] = "",
    none: Annotated[bool, typer.Option("--none", help="Let no model challenge it.")] = False,
) -> None:
    """Let a stored version score the same stream beside the champion.

    Its score and threshold stand in every prediction; alerts never depend on it.

    **Examples:** `motorcade models challenge pca`, `motorcade models challenge --none`

    **Next:** `motorcade models compare`, then `motorcade models promote`.
    """
    from motorcade.fleet.messages import ModelSlot
    from motorcade.ml.announce import empty
    from motorcade.ml.scoring.roster import challenge as let_challenge

    if none == bool(model):
        raise SettingsError("Name the challenger, or say --none; not both.")
    if none:
        asyncio.run(empty(ProcessSettings(), ModelSlot.CHALLENGER))
        typer.echo("There is no challenger any more.")
        return
    announced = asyncio.run(let_challenge(ProcessSettings(), model))
    typer.echo(f"{_named(announced)} scores beside the champion.")
    typer.echo("Next: motorcade models compare")


@app.command()
def rollback() -> None:
    """Make what was champion before the champion again. Once more goes back one more.

    Scorers have it within a second; models lie in the store as they were, checksums and all.
    """
    from motorcade.ml.scoring.roster import go_back

    was, now = asyncio.run(go_back(ProcessSettings()))
    typer.echo(f"{_named(now)} is the champion again, instead of {_named(was)}.")
    _mark(now)
    typer.echo("Next: motorcade logs score · motorcade models list")


@app.command()
def compare(
    messages: Annotated[
        int, typer.Option(min=1, help="How many of the latest predictions to look at.")
    ] = 100_000,
    as_json: AsJson = False,
) -> None:
    """Champion beside challenger on the latest messages that both scored.

    It says how they differ, not which is right: `motorcade evaluate` judges them by failures.
    """
    import msgspec

    from motorcade.ml.scoring.comparison import compare_live

    champion, challenger, found = asyncio.run(compare_live(ProcessSettings(), messages))
    if as_json:
        names = {"champion": _named(champion), "challenger": _named(challenger)}
        _print_json({"models": names, "comparison": msgspec.to_builtins(found)})
        return
    typer.echo(
        f"{found.messages:,} messages of {found.vehicles:,} vehicles that both scored; "
        f"{found.not_scored:,} others."
    )
    table = Table("", _named(champion), _named(challenger), box=None)
    for word, text in _ROWS.items():
        table.add_row(word, text(found.champion), text(found.challenger))
    Console().print(table)
    typer.echo(
        f"They agree on {found.agreement:.2%} of the messages (kappa {found.kappa:.2f}); "
        f"rank correlation of the scores {found.rank_correlation:.2f}."
    )
    for word, vins in (
        ("champion", found.only_champion),
        ("challenger", found.only_challenger),
    ):
        if vins:
            typer.echo(f"Anomalous to the {word} alone: {', '.join(vins)}")
    typer.echo("Next: motorcade evaluate · motorcade models promote NAME")


_ROWS: "dict[str, Callable[[Side], str]]" = {
    "anomalous messages": lambda side: f"{side.anomalous:.3%}",
    "vehicles with one": lambda side: f"{side.vehicles:,}",
    "threshold": lambda side: f"{side.threshold:.3g}",
    "score, median": lambda side: f"{side.median:.3g}",
    "score, p99": lambda side: f"{side.p99:.3g}",
}


def _mark(announced: "ModelAnnouncement") -> None:
    """MLflow's alias follows; where it cannot, that is said."""
    from motorcade.ml.training.tracking import mark_champion

    if problem := mark_champion(ProcessSettings(), announced.name, announced.version):
        typer.echo(f"Warning: {problem}", err=True)


def _named(announced: "ModelAnnouncement") -> str:
    return f"{announced.name}:{announced.version}"


def _window(rows: int, every_ms: int) -> str:
    if rows == 1 and not every_ms:
        return "the message alone"
    return f"{rows} × {every_ms / 1000:g} s" if every_ms else f"{rows} messages"


def _print_json(document: Any) -> None:
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
