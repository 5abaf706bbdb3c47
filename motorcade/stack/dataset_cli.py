"""`motorcade dataset`: give recorded telemetry a name, and see that it is still what it was."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from motorcade.fleet.clock import utc
from motorcade.fleet.settings import ProcessSettings
from motorcade.stack.train_cli import moment_ms

if TYPE_CHECKING:
    from motorcade.ml.reading.records import DatasetRecord

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Data sets to learn from: names for recorded offset ranges of Kafka topics.

    Nothing is copied: a data set is read from Kafka whenever it is used, and is the same rows in
    the same order for as long as Kafka keeps them.""",
)

Name = Annotated[str, typer.Argument(help="The data set's name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


@app.command()
def record(
    name: Name,
    since: Annotated[
        str, typer.Option(help="First record: ingested this long ago (90s, 10m, 2h, 1d), or ISO.")
    ] = "",
    until: Annotated[
        str, typer.Option(help="Ingest time before which the last record came, likewise.")
    ] = "",
    test_vehicles: Annotated[
        str,
        typer.Option(
            metavar="REGEX",
            help="Vehicles whose whole id matches judge models and never teach one; "
            "a fifth of them, by a hash, when left out.",
        ),
    ] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a data set of that name.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Record what the topic `telemetry` holds now, or took in between two moments.

    It reads everything once, and writes down the offset ranges, the schemas, the vehicles and a
    checksum of all rows; also which trouble codes had been reported.

    **Examples**

    - `motorcade dataset record june` records everything that Kafka holds

    - `motorcade dataset record today --since 1d`

    - `motorcade dataset record turbofans --test-vehicles 'CMAPSSTEST.*'`

    **Next:** `motorcade train autoencoder --dataset NAME`.
    """
    from motorcade.ml.reading.recording import record_dataset

    now_ms = time.time_ns() // 1_000_000
    with _bar("recording") as told:
        found = record_dataset(
            ProcessSettings(),
            name,
            since_ms=moment_ms(since, now_ms, "--since"),
            until_ms=moment_ms(until, now_ms, "--until"),
            test_vehicles=test_vehicles,
            replace=replace,
            told=told,
        )
    if as_json:
        _print_json(_document(found))
        return
    typer.echo(
        f"{found.name}: {found.records:,} records of {found.vehicles:,} vehicles, "
        f"{utc(found.event_from)} to {utc(found.event_to)} UTC of event time, "
        f"{found.codes} trouble codes."
    )
    typer.echo(f"Next: motorcade train autoencoder --dataset {found.name}")


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """The recorded data sets, the oldest first."""
    from motorcade.ml.reading.records import DatasetStore

    found = DatasetStore.of(ProcessSettings()).list()
    if as_json:
        _print_json([_document(one) for one in found])
        return
    if not found:
        typer.echo("No data set is recorded. Record one: motorcade dataset record NAME")
        return
    table = Table(
        "name", "recorded (UTC)", "records", "vehicles", "codes", "event time (UTC)", box=None
    )
    for one in found:
        table.add_row(
            one.name,
            utc(one.created),
            f"{one.records:,}",
            f"{one.vehicles:,}",
            str(one.codes),
            f"{utc(one.event_from)} – {utc(one.event_to)}",
        )
    Console().print(table)


@app.command()
def show(
    name: Name,
    seed: Annotated[int, typer.Option(help="Of the split that is shown.")] = 0,
    as_json: AsJson = False,
) -> None:
    """What a data set is: its ranges, its catalogue and schemas, and how its vehicles are split."""
    from motorcade.ml.labels.split import SHARES, by_vehicle
    from motorcade.ml.reading.records import DatasetStore

    found = DatasetStore.of(ProcessSettings()).read(name)
    vins = [vin.encode() for vin in found.vins]
    split = by_vehicle(vins, seed, test_vehicles=found.test_vehicles)
    parts = {
        part: {"vehicles": len(split.vehicles(part)), "sha256": split.digest(part)}
        for part in SHARES
    }
    if as_json:
        _print_json(_document(found) | {"split": {"seed": seed, "parts": parts}})
        return
    by = f"vehicles that match {found.test_vehicles!r}" if found.test_vehicles else "by a hash"
    lines = {
        "name": found.name,
        "recorded": f"{utc(found.created)} UTC",
        "records": f"{found.records:,} of {found.vehicles:,} vehicles",
        "event time": f"{utc(found.event_from)} to {utc(found.event_to)} UTC",
        "trouble codes": str(found.codes),
        "catalogue": f"{found.catalogue} (sha256 {found.catalogue_sha256[:12]}…)",
        "schemas": ", ".join(map(str, found.schema_ids)),
        "rows": f"sha256 {found.rows_sha256}",
        "Kafka": f"cluster {found.cluster}",
        "test vehicles": by,
        f"split, seed {seed}": ", ".join(
            f"{part} {one['vehicles']} (sha256 {str(one['sha256'])[:8]}…)"
            for part, one in parts.items()
        ),
    }
    width = max(map(len, lines))
    for word, text in lines.items():
        typer.echo(f"{word:{width}}  {text}")
    table = Table("topic", "partition", "from offset", "before offset", "offsets", box=None)
    for one in (*found.telemetry, *found.dtc):
        table.add_row(
            one.topic, str(one.partition), str(one.start), str(one.end), f"{one.records:,}"
        )
    Console().print(table)


@app.command()
def verify(
    name: Name,
    reader: Annotated[
        str, typer.Option(help="columnar, or tensorflow-io for TensorFlow's own Kafka client.")
    ] = "columnar",
) -> None:
    """Read a data set again, to the last row, and compare it with what was recorded.

    Exits 1 when Kafka no longer holds a range, or the rows are others.
    """
    from motorcade.ml.reading.recording import verify_dataset
    from motorcade.ml.reading.records import DatasetStore

    settings = ProcessSettings()
    kept = DatasetStore.of(settings).read(name)
    with _bar("verifying") as told:
        found = verify_dataset(settings, kept, reader, told)
    typer.echo(
        f"{name} is what was recorded: {found.records:,} records of {len(found.vehicles):,} "
        f"vehicles, the same rows in the same order, read by {reader}."
    )


@contextmanager
def _bar(word: str) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn(word), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(word, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _document(one: "DatasetRecord") -> dict[str, Any]:
    import msgspec

    document: dict[str, Any] = msgspec.to_builtins(one)
    return document | {"vehicles": one.vehicles, "offsets": one.offsets}


def _print_json(document: Any) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
