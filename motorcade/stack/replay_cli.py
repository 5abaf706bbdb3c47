"""`motorcade replay`: public benchmarks through the project's own pipeline."""

import json
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from motorcade.fleet.catalogue import shipped_catalogue
from motorcade.stack import bringup, show
from motorcade.stack.options import StackOptions
from motorcade.stack.plan import needed_archives
from motorcade.stack.processes import MODULES
from motorcade.stack.replay.options import MODELS, ReplayOptions
from motorcade.stack.settings import StackSettings
from motorcade.stack.shared_options import Broker, State, folder_of, require_writable
from motorcade.stack.state import StateFolder

if TYPE_CHECKING:
    from motorcade.stack.replay.result import Result

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Public benchmarks through the project's own pipeline: sent, learnt from Kafka, judged.",
)


@app.callback()
def group() -> None:
    """Public benchmarks through the project's own pipeline: sent, learnt from Kafka, judged."""


@app.command()
def cmapss(
    folder: Annotated[
        Path, typer.Option(help="Folder of NASA's files: train_FD001.txt, test_…, RUL_… (or .gz).")
    ],
    subset: Annotated[str, typer.Option(help="FD001, FD002, FD003 or FD004.")] = "FD001",
    models: Annotated[
        str, typer.Option(help="Models that may become the champion, with commas.")
    ] = ",".join(MODELS),
    folds: Annotated[
        int, typer.Option(help="Groups of training engines, each judged by models of the others.")
    ] = 5,
    engines: Annotated[
        int | None, typer.Option(help="Only the first so many engines of each part, for a trial.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the groups and of the models.")] = 0,
    document: Annotated[
        Path | None, typer.Option("--json", help="Write every figure here.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write a page with plots here.")
    ] = None,
    broker: Broker = "auto",
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave a stack that was started for it running.")
    ] = False,
    state: State = None,
) -> None:
    """Remaining life of NASA's turbofans, told from the stream.

    Every engine is a vehicle, every flight cycle a message: MQTT, bridge, Kafka, refine, audited
    to the last one. Engines that ran to failure end in a trouble code. Models learn from the
    topic; training engines that a model never saw choose the champion, and only then the official
    test engines judge it: RMSE up to 125 cycles and the PHM08 score.

    It starts the stack it needs, or uses one that runs with these signals. Where the stack goes on
    afterwards, its scorers serve the champion.

    **Examples**

    - `motorcade replay cmapss --folder CMAPSSData --json fd001.json --report fd001.html`

    - `motorcade replay cmapss --folder CMAPSSData --engines 20 --models life-ridge,life-trees`

    **Next:** with `--keep`, `motorcade models list`, and `motorcade dataset list` for `motorcade
    train` on the same data set.
    """
    require_writable("--json", document)
    require_writable("--report", report)
    chosen = tuple(name.strip() for name in models.split(",") if name.strip())
    options = ReplayOptions(folder, subset, chosen, folds, engines, seed, document, report, keep)
    stack = StackOptions(
        state=folder_of(state).path,
        broker=broker,
        signals=shipped_catalogue("cmapss"),
        rate_per_s=5000,
        processes=tuple(MODULES) if keep else ("bridge", "refine"),
        tied=not keep,
    )
    raise typer.Exit(_run(options, stack))


def _run(options: ReplayOptions, stack: StackOptions) -> int:
    # A closed terminal or a SIGTERM ends it as Ctrl-C does: everything stopped, nothing left.
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.default_int_handler)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    console = Console()
    folder = StateFolder(stack.state)
    ran = folder.load() is not None
    started = kept = False
    try:
        # It takes seconds, in which Ctrl-C may come.
        from motorcade.stack.replay import page
        from motorcade.stack.replay.run import CmapssReplay

        replay = CmapssReplay(options, stack, console)
        if not ran:
            show.fetch(console, needed_archives(stack), StackSettings())
        started = not ran
        result = replay.run()
        console.print()
        console.print(_table(result))
        _say(result, console)
        if options.document is not None:
            text = json.dumps(result.document(), indent=1)
            options.document.write_text(text + "\n", encoding="utf-8")
        if options.report is not None:
            page.write(result, options.report)
        kept = options.keep
        _next_steps(options, ran, console)
        return 0
    except KeyboardInterrupt:
        console.print("Interrupted: nothing was judged.")
        return 130
    finally:
        if started and not kept:  # the stack of someone else goes on
            with console.status("Stopping: our processes drain, then the servers …"):
                bringup.stop(folder)
            console.print("Stopped; nothing is left running.")


def _table(result: "Result") -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("model", "validation RMSE", "test RMSE", "PHM08", "cross-validated in"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for one in result.models:
        validation = f"{one.validation_rmse:.2f}" if one.version is not None else ""
        table.add_row(
            one.name + (" (baseline)" if one.baseline else ""),
            validation,
            f"{one.rmse:.2f}",
            f"{one.phm08:,.0f}",
            f"{one.seconds:.0f} s" if one.version is not None else "",
            style="bold" if one is result.champion else "",
        )
    return table


def _say(result: "Result", console: Console) -> None:
    champion, document = result.champion, result.document()
    console.print(
        f"\nC-MAPSS {result.subset}: [bold]{champion.name}[/], chosen by training engines that it "
        f"had not seen, has RMSE [bold]{champion.rmse:.2f}[/] cycles and PHM08 score "
        f"{champion.phm08:.0f} on {len(result.vehicles)} test engines. "
        f"{document['configurations_tried']} configurations tried now, "
        f"{document['configurations_explored']} explored before; none saw a test engine.",
        highlight=False,
    )


def _next_steps(options: ReplayOptions, ran: bool, console: Console) -> None:
    lines = []
    if options.report is not None:
        lines.append(("told and true, engine by engine", str(options.report)))
    if options.document is not None:
        lines.append(("every figure", str(options.document)))
    else:
        lines.append(("keep every figure", "--json FILE, --report FILE.html"))
    if options.keep or ran:
        lines.append(
            ("who is live, and who was", "motorcade models list, motorcade models rollback")
        )
        lines.append(("what they learnt from", "motorcade dataset list"))
    console.print("\nNext:")
    for what, how in lines:
        console.print(f"  {what:40} {how}", highlight=False)
