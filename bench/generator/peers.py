"""The clients that take part, and how each program is made ready to run."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from motorcade.stack.errors import StackError

_HERE = Path(__file__).parent
#: Other languages' clients are installed and built here, never in the checkout.
CACHE = Path.home() / ".cache" / "motorcade" / "bench"
_BUILD_S = 600


@dataclass(frozen=True)
class Peer:
    """A client program.

    Attributes:
        prepare: makes it ready and returns its command; StackError says why it cannot run.
        most: clients that it is given at most.
    """

    name: str
    title: str
    prepare: Callable[[], list[str]]
    most: int = 1 << 30


def client(name: str) -> list[str]:
    """The command of a program of ours, by its module's name."""
    return [sys.executable, "-m", f"bench.generator.clients.{name}"]


def _python(name: str) -> Callable[[], list[str]]:
    return lambda: client(name)


def _mqttjs() -> list[str]:
    node, npm = _found("node", "Node.js"), _found("npm", "npm")
    folder = _copied("mqttjs")
    if not (folder / "node_modules" / "mqtt").exists():
        _build([npm, "install", "--no-audit", "--no-fund", "--no-package-lock"], folder)
    return [node, str(folder / "client.mjs")]


def _paho_go() -> list[str]:
    go = _found("go", "Go", "/usr/local/go/bin")
    folder = _copied("paho_go")
    _build([go, "build", "-o", "client", "."], folder)
    return [str(folder / "client")]


def _found(program: str, what: str, *folders: str) -> str:
    found = shutil.which(program) or shutil.which(program, path=":".join(folders) or None)
    if found is None:
        raise StackError(f"{what} is not installed")
    return found


def _copied(name: str) -> Path:
    return Path(shutil.copytree(_HERE / name, CACHE / name, dirs_exist_ok=True))


def _build(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_BUILD_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(f"{Path(command[0]).name} took more than {_BUILD_S} s") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise StackError(f"{Path(command[0]).name} failed: {' '.join(last)}")


PEERS = (
    Peer("floor", "bare asyncio protocol (floor)", _python("floor")),
    Peer("session", "Motorcade's MQTT session", _python("session")),
    Peer("cars", "Motorcade's cars", _python("cars")),
    Peer("gmqtt", "gmqtt's own client", _python("gmqtt_client")),
    Peer("mqttjs", "mqtt.js", _mqttjs),
    Peer("paho_go", "paho Go (MQTT 3.1.1)", _paho_go),
    Peer("contrib", "Locust contrib MqttUser", _python("contrib"), most=200),
)
