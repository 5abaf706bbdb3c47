"""`motorcade dlq`: look at what was refused, understand it, and send it again."""

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from motorcade.fleet.clock import utc
from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.settings import ProcessSettings

if TYPE_CHECKING:
    from motorcade.streaming.dlq import Letter

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="""Messages that were refused, and why.

    Nothing a car sends is lost: what breaks a rule lies in the Kafka topic telemetry.dlq with its
    payload untouched, the rule and the reason.""",
)

Rule = Annotated[
    str | None, typer.Option("--rule", help="Only what this rule refused, such as out-of-range.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
Place = Annotated[str, typer.Argument(help="PARTITION/OFFSET, as `dlq list` shows it.")]


@app.command("list")
def list_(
    rule: Rule = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest first.")] = 20,
    by_rule: Annotated[bool, typer.Option("--counts", help="Only count by rule.")] = False,
    as_json: AsJson = False,
) -> None:
    """The newest refused messages, or how many each rule refused.

    Example: motorcade dlq list --rule clock --limit 5
    """
    from motorcade.streaming import dlq

    settings = ProcessSettings()
    if by_rule:
        counts = asyncio.run(dlq.counts(settings))
        _print_counts(counts, as_json=as_json)
        return
    letters = asyncio.run(dlq.newest(settings, limit, rule))
    if as_json:
        typer.echo(json.dumps([letter.document() for letter in letters], ensure_ascii=False))
        return
    if not letters:
        typer.echo("Nothing was refused.")
        return
    table = Table("place", "refused (UTC)", "vehicle", "rule", "reason", box=None, pad_edge=False)
    for letter in letters:
        table.add_row(
            str(letter.place), utc(letter.refused), letter.vehicle_id, letter.rule, letter.reason
        )
    Console().print(table)


@app.command()
def show(place: Place, as_json: AsJson = False) -> None:
    """One refused message in full: what was wrong, what to do, the payload as it was sent.

    Example: motorcade dlq show 3/120
    """
    from motorcade.streaming import dlq

    (letter,) = asyncio.run(dlq.fetch(ProcessSettings(), [dlq.Place.parse(place)]))
    if as_json:
        typer.echo(json.dumps(letter.document(), ensure_ascii=False))
        return
    document = letter.document() | {"refused": utc(letter.refused)}
    payload = document.pop("payload")
    width = max(map(len, document))
    for name, value in document.items():
        if value:
            typer.echo(f"{name.replace('_', ' '):{width}}  {value}")
    typer.echo(f"{'payload':{width}}  {len(letter.payload)} bytes\n{payload}")


@app.command()
def replay(
    places: Annotated[
        list[str] | None, typer.Argument(help="PARTITION/OFFSET of each, as `dlq list` shows it.")
    ] = None,
    rule: Rule = None,
    everything: Annotated[bool, typer.Option("--all", help="All that lies there.")] = False,
) -> None:
    """Send refused messages again, untouched, after the catalogue or the software was corrected.

    They are judged anew; what still breaks a rule comes back here. What passes arrives late and
    once.

    Example: motorcade dlq replay --rule unknown-field
    """
    if sum((bool(places), rule is not None, everything)) != 1:
        raise MotorcadeError(
            "Say which messages to send again.", "Give their places, or --rule, or --all."
        )
    sent = asyncio.run(_replay(ProcessSettings(), places, rule))
    noun = "message was" if sent == 1 else "messages were"
    typer.echo(f"{sent} {noun} sent again to telemetry.raw.")


async def _replay(settings: ProcessSettings, places: list[str] | None, rule: str | None) -> int:
    from motorcade.streaming import dlq

    letters: list[Letter]
    if places:
        letters = await dlq.fetch(settings, map(dlq.Place.parse, places))
    else:
        letters = await dlq.of_rule(settings, rule)
    return await dlq.replay(settings, letters)


def _print_counts(counts: dict[str, int], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(counts))
    elif not counts:
        typer.echo("Nothing was refused.")
    else:
        table = Table("rule", "messages", box=None, pad_edge=False)
        for rule, count in counts.items():
            table.add_row(rule, str(count))
        Console().print(table)
