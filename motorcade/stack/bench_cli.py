"""`motorcade bench`: comparisons and limits, each a program in the checkout's bench folder.

A program is a module `bench/NAME.py` or a package `bench/NAME/` with a `__main__.py`; its options
are its own (`motorcade bench NAME --help`).
"""

import os
import subprocess
import sys
from pathlib import Path

import typer

from motorcade.stack.errors import StackError

#: An installed package does not carry them: they compare with peers that a checkout can build.
_FOLDER = Path(__file__).parents[2] / "bench"

app = typer.Typer(
    no_args_is_help=True, help="Comparisons with peers and limits, each printing a table or ratio."
)


def _command(name: str, summary: str) -> None:
    def command(context: typer.Context) -> None:
        if not _FOLDER.is_dir():
            raise StackError(
                f"there is no {_FOLDER}: this installation has no benchmarks.",
                "Run the command in a checkout.",
            )
        argv = [sys.executable, "-m", f"bench.{name.replace('-', '_')}", *context.args]
        path = os.pathsep.join(filter(None, (str(_FOLDER.parent), os.environ.get("PYTHONPATH"))))
        environment = os.environ | {"PYTHONPATH": path}
        raise typer.Exit(subprocess.run(argv, env=environment, check=False).returncode)

    command.__doc__ = summary
    app.command(
        name,
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(command)


_command("audit", "The audit of a run: records a second, memory.")
_command("bridge", "The bridge beside Telegraf and paho + librdkafka: CPU, and loss when killed.")
_command("brokers", "Conformance, cost and loss of every broker: farm, Artemis, RMQTT.")
_command("demo-models", "The public demo's two models against ours, on the demo's own car.")
_command(
    "generator", "Load generators side by side: our cars, a bare protocol, other MQTT clients."
)
_command("growth", "Cost as work grows: CPU against messages/s, memory against cars, how linear.")
_command("pipeline", "CPU per message of each process of the pipeline, beside its budget.")
_command("ramp", "The ramp alone: connects a second, with nothing behind the brokers.")
_command("read", "Reading a training set from Kafka: columns against record by record.")
_command(
    "recorded-faults", "Faults put into recordings of a real car: found, missed, false alerts."
)
_command("score", "Scoring: one batched call against one prediction a message.")
_command("stored", "Bytes that Kafka stores for one message, by topic, in a stack that runs.")
