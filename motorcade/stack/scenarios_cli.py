"""`motorcade scenarios`: the load scenarios that come along, and what one of them says."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from motorcade.simulator.scenarios.load import load_scenario, names, text_of
from motorcade.simulator.scenarios.model import Scenario
from motorcade.simulator.scenarios.reference import scenarios_page

app = typer.Typer(
    no_args_is_help=False,
    rich_markup_mode="markdown",
    help="""The load scenarios that come along.

    **Examples**

    - `motorcade scenarios` lists them

    - `motorcade scenarios show tunnel > mine.yaml` begins one of your own

    **Next:** `motorcade load steady`, `motorcade load mine.yaml --set fleet.cars=200`.""",
)


@app.callback(invoke_without_command=True)
def scenarios(context: typer.Context) -> None:
    if context.invoked_subcommand is not None:
        return
    table = Table(box=None, pad_edge=False)
    for title, justify in (("scenario", "left"), ("cars", "right"), ("msg/s", "right")):
        table.add_column(title, justify="right" if justify == "right" else "left", no_wrap=True)
    table.add_column("takes", justify="right", no_wrap=True)
    table.add_column("what it shows")
    for name in names():
        one = load_scenario(name)
        rate = "rising" if one.limit else f"{one.most_per_s:,.0f}"
        table.add_row(name, f"{one.fleet.cars:,}", rate, _takes(one), one.description)
    Console().print(table)


@app.command()
def show(
    scenario: Annotated[str, typer.Argument(help="Its name, or the path of a YAML file.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Replace a value: --set fleet.cars=200. Shows it as JSON."),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--json", help="Print it as JSON, with every default filled in.")
    ] = False,
) -> None:
    """Print a scenario, and check it.

    **Examples**

    - `motorcade scenarios show steady` with its comments

    - `motorcade scenarios show steady --json` with every key there is

    - `motorcade scenarios show mine.yaml --set fleet.cars=200` says whether that can be
    """
    checked = load_scenario(scenario, changes or ())
    if whole or changes:
        sys.stdout.write(json.dumps(checked.model_dump(mode="json"), indent=1) + "\n")
    else:
        sys.stdout.write(text_of(scenario)[0])


@app.command()
def page(
    output: Annotated[
        Path | None, typer.Option(help="Write the page here instead of printing it.")
    ] = None,
) -> None:
    """Everything that a scenario may say, as a Markdown page.

    **Example:** `motorcade scenarios page --output docs/scenarios.md`
    """
    text = scenarios_page()
    if output is None:
        sys.stdout.write(text)
    else:
        output.write_text(text, encoding="utf-8")


def _takes(one: Scenario) -> str:
    if one.limit is not None:
        return "open"
    minutes = (one.total_s + one.ramp_cars / one.ramp.per_s) / 60
    return f"{minutes:.1f} min"
