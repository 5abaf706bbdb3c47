"""`motorcade twin`: look at one car, or make the twin anew from Kafka."""

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import structlog
import typer
from rich.console import Console

from motorcade.fleet.catalogue import load_catalogue

if TYPE_CHECKING:
    from motorcade.streaming.twin import Settings

app = typer.Typer(
    help="The twin: the latest of everything about each car (signals, health, alerts, commands).",
    no_args_is_help=True,
)

Database = Annotated[
    str,
    typer.Option(
        help="SQLAlchemy URL of the twin's database; twin.db in the data folder when left out.",
        show_default=False,
    ),
]


@app.command()
def show(
    vin: Annotated[str, typer.Argument(help="The car's 17-character id.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    database: Database = "",
) -> None:
    """Show one car: its signals, health score, connection, open alerts, DTCs, last command.

    Example: motorcade twin show MC9AAT5E7T0000001 --json
    """
    from motorcade.streaming import twin_query

    settings = _settings(database)
    catalogue = load_catalogue(settings.signals)
    store = settings.open(create=False)
    try:
        found = twin_query.show(store, vin, catalogue)
    finally:
        store.close()
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        Console().print(twin_query.render(found, catalogue))


@app.command()
def rebuild(database: Database = "") -> None:
    """Make the twin anew from what Kafka holds, its tables too; its process may keep running."""
    from motorcade.streaming import twin

    settings = _settings(database)
    store = settings.open(check=False)
    try:
        records = asyncio.run(twin.rebuild(settings, store, structlog.get_logger("twin")))
        cars = len(store.vins())
    finally:
        store.close()
    typer.echo(f"The twin of {cars} cars is rebuilt from {records} records.")


def _settings(database: str) -> "Settings":
    # SQLAlchemy and the Kafka client load only for this command, not for every --help.
    from motorcade.streaming import twin

    return twin.Settings(twin_url=database) if database else twin.Settings()
