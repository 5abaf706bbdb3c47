"""What `motorcade` can do: bring one machine up and down, show what runs, run the demo."""

import asyncio
import inspect
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from motorcade.fleet.errors import MotorcadeError
from motorcade.simulator.descriptors import workers_for
from motorcade.stack import (
    archives,
    bench_cli,
    bringup,
    checks,
    compare_cli,
    contract_cli,
    dataset_cli,
    dlq_cli,
    drift_cli,
    evaluate_cli,
    generate_cli,
    models_cli,
    notebook_cli,
    processes,
    replay_cli,
    retrain_cli,
    scenarios_cli,
    show,
    sizing_cli,
    train_cli,
    twin_cli,
)
from motorcade.stack.demo.command import demo
from motorcade.stack.joining import join
from motorcade.stack.load.command import load
from motorcade.stack.options import StackOptions
from motorcade.stack.plan import broker_of, needed_archives
from motorcade.stack.settings import StackSettings
from motorcade.stack.shared_options import (
    Broker,
    BrokerCa,
    BrokerCert,
    BrokerCredentials,
    BrokerKey,
    BrokerLogin,
    BrokerMutualTls,
    BrokerNodes,
    BrokerTls,
    BrokerUrl,
    KafkaCa,
    KafkaCert,
    KafkaCredentials,
    KafkaKey,
    State,
    folder_of,
)
from motorcade.stack.state import StateFolder

app = typer.Typer(
    name="motorcade",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Connected cars on real parts: MQTT broker, Kafka, schema registry and machine learning
    on one machine.

    **Begin here:** `motorcade demo` shows everything in a few minutes; `motorcade up` starts the
    same parts and leaves them running; `motorcade down` stops them and leaves nothing behind.""",
)
app.command("demo")(demo)
app.command("load")(load)
app.command("compare")(compare_cli.compare_runs)
app.command("topics")(contract_cli.topics)
app.command("contract")(contract_cli.contract)
app.command("generate")(generate_cli.generate_set)
app.command("size")(sizing_cli.size)
app.command("drift")(drift_cli.drift)
app.command("retrain")(retrain_cli.retrain)
app.command("evaluate")(evaluate_cli.evaluate)
app.command("notebook")(notebook_cli.notebook)

console = Console(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def _print_json(document: Any) -> None:
    sys.stdout.write(json.dumps(document, indent=1, default=str) + "\n")


@app.command()
def up(
    broker: Broker = "auto",
    broker_nodes: BrokerNodes = 1,
    broker_url: BrokerUrl = None,
    broker_credentials: BrokerCredentials = None,
    broker_ca: BrokerCa = None,
    broker_cert: BrokerCert = None,
    broker_key: BrokerKey = None,
    broker_clustered: Annotated[
        bool, typer.Option("--broker-clustered", help="The external addresses are one cluster.")
    ] = False,
    broker_tls: BrokerTls = False,
    broker_mutual_tls: BrokerMutualTls = False,
    broker_login: BrokerLogin = False,
    kafka: Annotated[
        str | None, typer.Option(help="Bootstrap servers of your own Kafka; else one is started.")
    ] = None,
    kafka_credentials: KafkaCredentials = None,
    kafka_ca: KafkaCa = None,
    kafka_cert: KafkaCert = None,
    kafka_key: KafkaKey = None,
    signals: Annotated[
        Path | None, typer.Option(help="Signal catalogue of another fleet (YAML).")
    ] = None,
    speedup: Annotated[float, typer.Option(help="Event time runs this much faster.")] = 1.0,
    cars: Annotated[int, typer.Option(help="Cars that will connect; sizes limits.")] = 1000,
    rate: Annotated[
        float, typer.Option(help="Messages/s the fleet will publish; sizes broker queues.")
    ] = 1000.0,
    outage: Annotated[
        float, typer.Option(help="Seconds of outage that broker queues must bridge.")
    ] = 300.0,
    kafka_port: Annotated[int | None, typer.Option(help="Fixed port of Kafka.")] = None,
    registry_port: Annotated[int | None, typer.Option(help="Fixed port of the registry.")] = None,
    broker_port: Annotated[int | None, typer.Option(help="Fixed port of the broker.")] = None,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Start Kafka, the schema registry, an MQTT broker and our processes, and leave them running.

    It returns when a message crosses every part. Everything listens on 127.0.0.1 only.

    **Examples**

    - `motorcade up` on free ports, with mosquitto if it is installed, else Artemis

    - `motorcade up --broker mosquitto --broker-nodes 3` for a farm of three brokers

    - `motorcade up --broker artemis --broker-nodes 3` for a cluster of three

    - `motorcade up --broker external --broker-url mqtt://10.0.0.5:1883` with your own broker

    - `motorcade up --kafka kafka.example:9093 --kafka-credentials kafka.yaml --kafka-ca ca.pem`
    with your own Kafka, which asks for a login and speaks TLS

    **Next:** `motorcade status`, `motorcade logs bridge`, `motorcade down`.
    """
    folder = folder_of(state)
    options = StackOptions(
        state=folder.path,
        broker=broker,
        broker_nodes=broker_nodes,
        broker_url=broker_url,
        broker_credentials=broker_credentials,
        broker_ca=broker_ca,
        broker_cert=broker_cert,
        broker_key=broker_key,
        broker_clustered=broker_clustered,
        broker_tls=broker_tls,
        broker_mutual_tls=broker_mutual_tls,
        broker_login=broker_login,
        kafka=kafka,
        kafka_credentials=kafka_credentials,
        kafka_ca=kafka_ca,
        kafka_cert=kafka_cert,
        kafka_key=kafka_key,
        signals=signals,
        speedup=speedup,
        rate_per_s=rate,
        outage_s=outage,
        kafka_port=kafka_port,
        registry_port=registry_port,
        broker_port=broker_port,
        cars=cars,
        load_workers=workers_for(cars),
    )
    running = start_stack(options, console)
    if as_json:
        _print_json(running.model_dump())
    else:
        show.addresses(console, running)
        console.print("Next: motorcade status · motorcade logs bridge · motorcade down")


def start_stack(options: StackOptions, on: Console) -> Any:
    """Starts a stack with live progress on a console; returns its state."""
    settings = StackSettings()
    folder = StateFolder(options.state)
    if folder.stale:
        on.print(f"The stack in {folder.path} had died; it is cleaned up first.", style="yellow")
    show.fetch(on, needed_archives(options), settings)
    with show.Parts(on) as parts:
        return asyncio.run(bringup.start(options, settings, parts.update))


@app.command()
def down(
    keep_data: Annotated[
        bool, typer.Option("--keep-data", help="Keep Kafka's log, schemas, sessions and the twin.")
    ] = False,
    state: State = None,
) -> None:
    """Stop everything and leave nothing behind: no process and no state folder.

    Our processes end first and drain what they hold; then the servers. With `--keep-data` the next
    `motorcade up` goes on with the same topics, schemas and MQTT sessions.
    """
    folder = folder_of(state)
    if not folder.path.exists():
        console.print(f"Nothing runs in {folder.path}.")
        return
    began = time.monotonic()
    with console.status("Stopping: our processes drain, then the servers …"):
        bringup.stop(folder, keep_data=keep_data)
    kept = f" Data is kept in {folder.data}." if keep_data else ""
    console.print(f"Stopped in {time.monotonic() - began:.1f} s; nothing is left running.{kept}")


@app.command()
def status(state: State = None, as_json: Json = False) -> None:
    """What runs, whether it is ready, how much memory it holds, and what crashed.

    Exits 1 when something is not running or not ready, so a script can ask.

    **Next:** `motorcade logs NAME` tells why a part is not ready.
    """
    folder = folder_of(state)
    if folder.stale:
        raise MotorcadeError(
            f"The stack in {folder.path} has died: its supervisor is gone.",
            "Clean up with `motorcade down`, or start again with `motorcade up`.",
        )
    running = folder.require()
    report = asyncio.run(show.report(folder, running))
    drops = asyncio.run(broker_of(running, folder).drops())
    if as_json:
        _print_json({**running.model_dump(), **report.as_dict(), "broker_drops": drops})
    else:
        show.status(Console(), running, report, drops)
    if not report.healthy:
        raise typer.Exit(1)


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="A name that `motorcade status` lists.")],
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    state: State = None,
) -> None:
    """The end of a part's log; also of the last start that failed.

    **Examples:** `motorcade logs bridge`, `motorcade logs kafka -n 200`, `motorcade logs score -f`
    """
    keeper = folder_of(state).keeper
    path = keeper.log_path(name)
    if not path.exists():
        known = sorted(one.stem for one in path.parent.glob("*.log"))
        raise MotorcadeError(
            f"There is no log of {name} in {path.parent}.",
            f"There are: {', '.join(known)}." if known else "Start a stack with `motorcade up`.",
        )
    sys.stdout.write(keeper.last_words(name, lines) + "\n")
    if follow:
        show.follow(path)


@app.command()
def fetch(
    broker: Annotated[str, typer.Option(help="Broker that is going to be used.")] = "auto",
) -> None:
    """Download and verify the server archives that are missing, and nothing else.

    They are kept in `$MOTORCADE_CACHE` (default `~/.cache/motorcade`) for every later run.
    `MOTORCADE_MAVEN_URL` names another Maven repository.
    """
    settings = StackSettings()
    options = StackOptions(state=settings.state_folder, broker=broker)
    show.fetch(console, needed_archives(options), settings)
    archives.ensure(needed_archives(options), settings)
    console.print(f"Server archives are in {settings.cache_folder}.")


@app.command()
def doctor(
    cars: Annotated[int, typer.Option(help="Cars that will connect.")] = 1000, state: State = None
) -> None:
    """Check what the machine must offer: Python, memory, disk, open files.

    Exits 1 when something is missing, and says what to do.
    """
    found = checks.check(folder_of(state).path, cars=cars)
    for one in found:
        mark = "[green]ok[/]" if one.ok else "[red]missing[/]"
        console.print(f"{one.name:17} {mark}  {one.found}")
    checks.require(found)


Variables = Annotated[
    bool, typer.Option("--variables", help="List the variables it reads, and their defaults.")
]

_SUMMARIES = {
    "bridge": "MQTT to Kafka: acknowledges a car's message only after Kafka has it.",
    "refine": "telemetry.raw to telemetry: validates, or quarantines with the reason.",
    "score": "telemetry to predictions, with the model that is live.",
    "alerts": "predictions to alerts, with hysteresis and state that survives a kill.",
    "dispatch": "alerts to commands: tells the driver over MQTT and keeps the answer.",
}


def _run_process(name: str, variables: bool) -> None:
    if variables:
        for variable, default in processes.describe(name):
            sys.stdout.write(f"{variable}={default}\n")
    else:
        processes.run(name)


def _process_command(name: str) -> None:
    def command(variables: Variables = False) -> None:
        _run_process(name, variables)

    command.__doc__ = f"""{_SUMMARIES[name]}

    Runs until SIGTERM, configured by MOTORCADE_* variables (`--variables` lists them);
    `motorcade up` starts it for you."""
    app.command(name, rich_help_panel="Our processes, one by one")(command)


for _name in _SUMMARIES:
    _process_command(_name)


def twin(context: typer.Context, variables: Variables = False, state: State = None) -> None:
    """The latest of everything about each car, in SQL.

    `motorcade twin show VIN` asks it about one car. Without a command this is the process that
    keeps it, configured by MOTORCADE_* variables; `motorcade up` starts it for you.
    """
    if context.invoked_subcommand is None:
        _run_process("twin", variables)
    else:
        join(state)


def joined(state: State = None) -> None:
    join(state)


app.add_typer(
    twin_cli.app,
    name="twin",
    callback=twin,
    help=inspect.cleandoc(twin.__doc__ or ""),
    invoke_without_command=True,
    no_args_is_help=False,
)
app.add_typer(dlq_cli.app, name="dlq", callback=joined, help=dlq_cli.app.info.help)
app.add_typer(dataset_cli.app, name="dataset", callback=joined, help=dataset_cli.app.info.help)
app.add_typer(train_cli.app, name="train", callback=joined, help=train_cli.app.info.help)
app.add_typer(models_cli.app, name="models", callback=joined, help=models_cli.app.info.help)
app.add_typer(replay_cli.app, name="replay")
app.add_typer(bench_cli.app, name="bench")
app.add_typer(scenarios_cli.app, name="scenarios")
