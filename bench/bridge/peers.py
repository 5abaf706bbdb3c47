"""The bridges that take part: how each is made ready, started, and where it writes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from motorcade.fleet.topics import RAW
from motorcade.stack import plan, processes
from motorcade.stack.errors import StackError
from motorcade.stack.state import StackState, StateFolder

_HERE = Path(__file__).parent
#: Peers in other languages are built here, never in the checkout.
_CACHE = Path.home() / ".cache" / "motorcade" / "bench"
_TELEGRAF = "github.com/influxdata/telegraf"
_TELEGRAF_VERSION = "v1.37.2"
#: Of Telegraf's hundreds of plug-ins the ones that a bridge needs.
_PLUGINS = "custom,inputs.mqtt_consumer,outputs.kafka,parsers.value,serializers.template"
_BUILD_S = 900

FILTER = "fleet/v1/+/+/telemetry"


@dataclass(frozen=True)
class Place:
    """What a bridge connects: a broker, Kafka and a topic, with a folder for its files."""

    state: StackState
    folder: StateFolder
    topic: str
    work: Path

    @property
    def broker(self) -> str:
        return self.state.brokers[0]


@dataclass(frozen=True)
class Peer:
    """A bridge.

    Attributes:
        topic: where it writes.
        clients: its MQTT sessions' client ids.
        command: makes it ready and returns its command and variables; StackError says why it
            cannot run.
    """

    name: str
    title: str
    topic: str
    clients: tuple[str, ...]
    command: Callable[[Place], tuple[list[str], dict[str, str]]]


def _ours(place: Place) -> tuple[list[str], dict[str, str]]:
    program = processes.program("bridge", {}, place.work)
    return list(program.argv), plan.environment(place.state, place.folder)


def _paho(place: Place) -> tuple[list[str], dict[str, str]]:
    program = str(_HERE / "paho_bridge.py")
    return [sys.executable, program, place.broker, place.state.kafka, place.topic, FILTER], {}


def _telegraf(best: bool) -> Callable[[Place], tuple[list[str], dict[str, str]]]:
    def command(place: Place) -> tuple[list[str], dict[str, str]]:
        program = _telegraf_program()
        tuned = _BEST if best else _DEFAULT
        text = (_HERE / "telegraf.conf").read_text()
        for name, value in {
            "BROKER": place.broker,
            "KAFKA": place.state.kafka,
            "TOPIC": place.topic,
            "CLIENT": place.topic,
            "FILTER": FILTER,
            **tuned,
        }.items():
            text = text.replace(f"@{name}@", value)
        config = place.work / f"{place.topic}.conf"
        config.write_text(text)
        return [str(program), "--config", str(config), "--quiet"], {}

    return command


_BEST = {
    "AGENT": 'flush_interval = "100ms"\nmetric_batch_size = 1000\nmetric_buffer_limit = 100000',
    "SESSION": "persistent_session = true\nmax_undelivered_messages = 5000",
    "PRODUCER": "required_acks = -1\nidempotent_writes = true\ncompression_codec = 4",
}
_DEFAULT = {"AGENT": "", "SESSION": "", "PRODUCER": ""}


def _telegraf_program() -> Path:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise StackError("Go is not installed")
    folder = _CACHE / "telegraf"
    program = folder / "telegraf"
    if program.exists():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "go.mod").write_text("module motorcade/bench/telegraf\n\ngo 1.25\n")
    package = f"{_TELEGRAF}/cmd/telegraf"
    # Names the command as what is needed, so that its requirements are the module's.
    (folder / "tools.go").write_text(f'//go:build tools\n\npackage tools\n\nimport _ "{package}"\n')
    _build([go, "get", f"{_TELEGRAF}@{_TELEGRAF_VERSION}"], folder)
    _build([go, "mod", "tidy", "-e"], folder)
    _build([go, "build", "-tags", _PLUGINS, "-o", str(program), package], folder)
    return program


def _build(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"GOFLAGS": "-mod=mod"},
            capture_output=True,
            text=True,
            timeout=_BUILD_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(f"`go {command[1]}` took more than {_BUILD_S} s") from error
    if done.returncode:
        last = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise StackError(f"`go {command[1]}` failed: {last}")


PEERS = (
    Peer("ours", "Motorcade's bridge", RAW, ("bridge-0", "bridge-1"), _ours),
    Peer("paho", "paho + librdkafka, manual ack", "bench.paho", ("bench.paho",), _paho),
    Peer(
        "telegraf",
        "Telegraf, persistent session",
        "bench.telegraf",
        ("bench.telegraf",),
        _telegraf(best=True),
    ),
    Peer(
        "telegraf-default",
        "Telegraf, default settings",
        "bench.telegraf-default",
        ("bench.telegraf-default",),
        _telegraf(best=False),
    ),
)
