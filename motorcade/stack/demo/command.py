"""The command `motorcade demo`."""

import asyncio
import signal
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from motorcade.simulator.audit.render import render
from motorcade.simulator.audit.verdict import Outcome
from motorcade.stack import bringup, show
from motorcade.stack.demo.options import DemoOptions
from motorcade.stack.demo.run import Demo, Finished
from motorcade.stack.options import StackOptions
from motorcade.stack.plan import needed_archives
from motorcade.stack.settings import StackSettings
from motorcade.stack.shared_options import (
    Broker,
    BrokerCredentials,
    BrokerNodes,
    BrokerUrl,
    State,
    folder_of,
)
from motorcade.stack.state import StateFolder

#: Exit codes by outcome; 1 is an error before any verdict.
EXIT_CODES = {Outcome.PASS: 0, Outcome.FAIL: 2, Outcome.INVALID: 3}

_DEFAULT = DemoOptions()


def demo(
    cars: Annotated[int, typer.Option(help="Cars; one Locust user is one car.")] = _DEFAULT.cars,
    faulty: Annotated[
        int, typer.Option(help="Cars in which wear begins once a model is live.")
    ] = _DEFAULT.faulty,
    drives: Annotated[
        Path | None, typer.Option(help="Folder of recorded drives; cars replay what is in it.")
    ] = None,
    interval: Annotated[
        float, typer.Option(help="Seconds between two messages of a car.")
    ] = _DEFAULT.interval_s,
    speedup: Annotated[
        float, typer.Option(help="Event time runs this much faster than the wall clock.")
    ] = _DEFAULT.speedup,
    healthy: Annotated[
        float, typer.Option(help="Seconds to drive without wear before training.")
    ] = _DEFAULT.healthy_s,
    wear_minutes: Annotated[
        float, typer.Option(help="Simulated minutes from the onset of wear to the failure.")
    ] = _DEFAULT.wear_minutes,
    ramp: Annotated[float, typer.Option(help="Cars that connect in a second.")] = (
        _DEFAULT.ramp_per_s
    ),
    epochs: Annotated[int, typer.Option(help="Most epochs of training.")] = _DEFAULT.epochs,
    seed: Annotated[int, typer.Option(help="Seed of the fleet.")] = _DEFAULT.seed,
    broker: Broker = "auto",
    broker_nodes: BrokerNodes = 1,
    broker_url: BrokerUrl = None,
    broker_credentials: BrokerCredentials = None,
    web_port: Annotated[
        int | None, typer.Option(help="Port of the Locust UI; 8089 or a free one if not given.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--json", help="Write the verdict with every figure here.")
    ] = None,
    leave: Annotated[
        bool, typer.Option("--exit", help="Stop after the verdict; the exit code tells it.")
    ] = False,
    state: State = None,
) -> None:
    """A thousand cars drive, a model learns from their stream, an engine starts to fail, and its
    driver is told. Everything is real: broker, Kafka, TensorFlow.

    It starts a stack of its own, ramps the fleet with Locust, trains an autoencoder straight from
    Kafka, swaps it into the running scorer, lets wear begin in a few cars, and ends in a verdict:
    PASS, FAIL or INVALID (the generator itself lagged), decided by reading the topics.

    **Examples**

    - `motorcade demo` and look at the Locust UI while it runs

    - `motorcade demo --exit --json verdict.json` in a script: exit code 0 for PASS, 2 for FAIL,
    3 for INVALID

    - `motorcade demo --drives DIR` replays recorded drives in the first cars

    **Next, while it runs:** `motorcade status`, `motorcade twin show VIN`, `motorcade dlq list`.
    """
    options = DemoOptions(
        cars=cars,
        faulty=faulty,
        interval_s=interval,
        speedup=speedup,
        healthy_s=healthy,
        wear_minutes=wear_minutes,
        ramp_per_s=ramp,
        drives=drives,
        seed=seed,
        epochs=epochs,
        web_port=web_port,
        report=report,
        exit=leave,
    )
    folder = folder_of(state)
    stack = StackOptions(
        state=folder.path,
        broker=broker,
        broker_nodes=broker_nodes,
        broker_url=broker_url,
        broker_credentials=broker_credentials,
        speedup=speedup,
        rate_per_s=options.rate_per_s,
        cars=cars,
        load_workers=options.workers,
        tied=True,
    )
    raise typer.Exit(_run(options, stack, folder))


def _run(options: DemoOptions, stack: StackOptions, folder: StateFolder) -> int:
    # A closed terminal or a SIGTERM ends it as Ctrl-C does: everything stopped, nothing left.
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.default_int_handler)
    console = Console()
    show.fetch(console, needed_archives(stack), StackSettings())
    demonstration = Demo(options, stack, console)
    ran = folder.load() is not None
    try:
        finished = asyncio.run(demonstration.run())
        console.print()
        console.print(render(finished.verdict))
        if not options.exit:
            _stay(finished, options, console)
        return EXIT_CODES[finished.verdict.outcome]
    except KeyboardInterrupt:
        return 130
    finally:
        if not ran:  # the stack of someone else goes on
            with console.status("Stopping: our processes drain, then the servers …"):
                bringup.stop(folder)
            console.print("Stopped; nothing is left running.")


def _stay(finished: Finished, options: DemoOptions, console: Console) -> None:
    """Let the cars drive on until Ctrl-C."""
    asyncio.run(finished.simulation.ramp(options.cars, options.ramp_per_s))
    alerts = finished.verdict.faults.announcements
    vin = alerts[0].vin if alerts else "VIN"
    console.print("\nThe cars drive on. Next things to try, in another terminal:")
    for what, how in (
        ("the Locust UI: stop or re-ramp the fleet", finished.simulation.web_url),
        ("everything known about a car that failed", f"motorcade twin show {vin}"),
        ("what runs, and how much it uses", "motorcade status"),
        ("messages that were refused, and why", "motorcade dlq list"),
        ("a process's log", "motorcade logs bridge -f"),
    ):
        console.print(f"  {what:45} {how}", highlight=False)
    console.print("Ctrl-C stops everything.")
    while True:
        time.sleep(1)
