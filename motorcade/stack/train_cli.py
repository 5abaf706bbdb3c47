"""`motorcade train`: learn a model from recorded telemetry and make it live."""

import json
import re
import sys
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from motorcade.fleet.errors import SettingsError
from motorcade.fleet.settings import ProcessSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from motorcade.ml.train import Progress, Trained

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Learn a model from recorded telemetry, straight from Kafka, and make it live.",
)

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@app.callback()
def group() -> None:
    """Learn a model from recorded telemetry, straight from Kafka, and make it live."""


@app.command()
def autoencoder(
    since: Annotated[
        str, typer.Option(help="First record: ingested this long ago (90s, 10m, 2h, 1d), or ISO.")
    ] = "",
    until: Annotated[
        str, typer.Option(help="Ingest time before which the last record came, likewise.")
    ] = "",
    horizon: Annotated[
        str,
        typer.Option(help="Event time before a trouble code in which a car is not healthy."),
    ] = "1d",
    epochs: Annotated[int, typer.Option(min=1, help="Most epochs; it stops early.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the split, the weights and the shuffling.")] = 0,
    minimum_records: Annotated[
        int, typer.Option(min=1, help="Refuse to train on fewer usable records.")
    ] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
    progress_json: Annotated[
        bool, typer.Option("--progress-json", help="Print progress as one JSON object a line.")
    ] = False,
) -> None:
    """Train the autoencoder on what healthy cars sent; the running scorer takes it over at once.

    It reads the recorded offset ranges of `telemetry` from Kafka, chooses its threshold on cars
    that never trained it, stores model and manifest, and announces it on `models`.

    **Examples**

    - `motorcade train autoencoder` on everything that Kafka holds

    - `motorcade train autoencoder --since 10m` on the last ten minutes

    **Next:** `motorcade logs score` shows the model going live.
    """
    from motorcade.ml.train import Request, train

    now_ms = time.time_ns() // 1_000_000
    request = Request(
        since_ms=moment_ms(since, now_ms, "--since"),
        until_ms=moment_ms(until, now_ms, "--until"),
        horizon_ms=round(_duration_s(horizon, "--horizon") * 1000),
        epochs=epochs,
        seed=seed,
        minimum_records=minimum_records,
    )
    settings = ProcessSettings()
    if progress_json:
        trained = train(settings, request, _print_line)
    else:
        with _bars() as show:
            trained = train(settings, request, show)
    _report(trained, settings.data_dir, as_json=as_json or progress_json)


def moment_ms(text: str, now_ms: int, option: str) -> int | None:
    """Milliseconds since 1970 of "10m" (ago) or of an ISO time; None for an empty text.

    Raises:
        SettingsError: the text is neither.
    """
    if not text:
        return None
    if _AGO.fullmatch(text):
        return now_ms - round(_duration_s(text, option) * 1000)
    try:
        return round(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except ValueError:
        raise SettingsError(
            f"{option}={text!r} is neither a duration such as 10m nor a time such as "
            "2026-01-31T12:00."
        ) from None


def _duration_s(text: str, option: str) -> float:
    match = _AGO.fullmatch(text)
    if match is None:
        raise SettingsError(f"{option}={text!r} is not a duration such as 90s, 10m, 2h or 1d.")
    return float(match[1]) * _SECONDS[match[2]]


def _print_line(progress: "Progress") -> None:
    sys.stdout.write(json.dumps(progress._asdict()) + "\n")
    sys.stdout.flush()


@contextmanager
def _bars() -> "Iterator[Callable[[Progress], None]]":
    columns = (
        TextColumn("{task.description:10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", style="dim"),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(progress: "Progress") -> None:
            if progress.phase not in tasks:
                tasks[progress.phase] = bars.add_task(progress.phase, total=None, detail="")
            bars.update(
                tasks[progress.phase],
                completed=progress.done,
                total=progress.total,
                detail=progress.detail,
            )

        yield show


def _report(trained: "Trained", data_dir: Path, *, as_json: bool) -> None:
    manifest, announcement = trained
    folder = data_dir / "models" / announcement.path
    if as_json:
        import msgspec

        document = msgspec.to_builtins(manifest) | {"folder": str(folder)}
        sys.stdout.write(json.dumps({"trained": document}) + "\n")
        return
    metrics, vehicles = manifest.metrics, manifest.origin.vehicles
    console = Console(stderr=True, soft_wrap=True)
    console.print(
        f"[bold]{manifest.name} {manifest.version}[/] is announced: threshold "
        f"{manifest.threshold:.2f} (median of healthy messages {metrics['held_back_median']:.2f}), "
        f"chosen on {vehicles['hold']} cars that never trained it; {vehicles['train']} did."
    )
    console.print(f"Stored in {folder}.")
    console.print("Next: motorcade logs score · motorcade status")
