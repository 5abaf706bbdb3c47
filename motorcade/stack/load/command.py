"""The command `motorcade load`."""

import asyncio
import logging
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from motorcade.simulator.audit.render import render
from motorcade.simulator.audit.verdict import Outcome
from motorcade.simulator.scenarios.load import load_scenario
from motorcade.simulator.scenarios.model import Scenario
from motorcade.stack import bringup, show
from motorcade.stack.load import target
from motorcade.stack.load.options import LoadOptions
from motorcade.stack.load.recording import keep as keep_record
from motorcade.stack.load.runner import Finished, LoadRun
from motorcade.stack.plan import needed_archives
from motorcade.stack.settings import StackSettings
from motorcade.stack.shared_options import State, folder_of, require_writable
from motorcade.stack.state import StateFolder

#: Exit codes by outcome; 1 is an error before any verdict.
EXIT_CODES = {Outcome.PASS: 0, Outcome.FAIL: 2, Outcome.INVALID: 3}


def load(
    scenario: Annotated[
        str, typer.Argument(help="Name of a scenario that comes along, or a YAML file.")
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Replace a value: --set fleet.cars=200; may be repeated."),
    ] = None,
    document: Annotated[
        Path | None, typer.Option("--json", help="Write the run's document with every figure here.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write the HTML report here.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave a stack that was started for the run running.")
    ] = False,
    ui: Annotated[
        bool, typer.Option("--ui", help="Wait until Start is pressed in the Locust UI.")
    ] = False,
    web_port: Annotated[
        int | None, typer.Option(help="Port of the Locust UI; 8089 or a free one if not given.")
    ] = None,
    state: State = None,
) -> None:
    """Load a broker and what is behind it with a fleet, by a scenario, and end in a verdict.

    It starts what the scenario needs, or uses the stack that is up, or somebody else's broker;
    ramps the fleet, plays stages and events, drains, and reads the topics. Exit code 0 is PASS,
    2 FAIL, 3 INVALID (the load generator itself failed), 1 an error before any verdict.

    **Examples**

    - `motorcade load steady --report report.html`

    - `motorcade load reconnect-storm --set fleet.cars=5000 --json run.json`

    - `motorcade load evaluation --set target.stack=external --set
    target.broker_url=mqtt://broker.example:1883 --set target.kafka=none`

    **Next:** `motorcade scenarios` lists what there is; `motorcade compare A.json B.json`.
    """
    require_writable("--json", document)
    require_writable("--report", report)
    options = LoadOptions(document, report, keep, ui, web_port, shlex.join(sys.argv))
    folder = folder_of(state)
    wanted = target.decided(load_scenario(scenario, changes or ()), folder)
    raise typer.Exit(_run(wanted, options, folder))


def _run(scenario: Scenario, options: LoadOptions, folder: StateFolder) -> int:
    # A closed terminal or a SIGTERM ends it as Ctrl-C does: everything stopped, nothing left.
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.default_int_handler)
    # A Kafka that is stopped on purpose shows on the screen; its client need not say so too.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    console = Console()
    stack = target.stack_options(scenario, folder)
    if stack is not None:
        show.fetch(console, needed_archives(stack), StackSettings())
    ran = folder.load() is not None
    kept = False
    try:
        finished = asyncio.run(LoadRun(scenario, options, folder, console).run())
        console.print()
        console.print(render(finished.verdict))
        keep_record(finished, scenario, options)
        kept = options.keep
        _next_steps(finished, options, console)
        return EXIT_CODES[finished.verdict.outcome]
    except KeyboardInterrupt:
        console.print("Interrupted: there is no verdict.")
        return 130
    finally:
        if stack is not None and not ran and not kept:  # the stack of someone else goes on
            with console.status("Stopping: our processes drain, then the servers …"):
                bringup.stop(folder)
            console.print("Stopped; nothing is left running.")


def _next_steps(finished: Finished, options: LoadOptions, console: Console) -> None:
    lines = []
    if options.report is not None:
        lines.append(("see the report", str(options.report)))
    if options.keep:
        lines.append(("the stack still runs", "motorcade status, motorcade down"))
    if finished.verdict.accounts.quarantined_records:
        lines.append(("what was refused, and why", "motorcade dlq list, while the stack runs"))
    if options.document is not None:
        lines.append(("every figure of the run", str(options.document)))
    else:
        lines.append(("keep every figure, and compare runs", "--json FILE, motorcade compare"))
    if lines:
        console.print("\nNext:")
    for what, how in lines:
        console.print(f"  {what:40} {how}", highlight=False)
