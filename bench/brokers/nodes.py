"""Starts a broker of some nodes for a benchmark, kills them, and reads what they cost."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from motorcade.stack import archives, program
from motorcade.stack.brokers import rmqtt
from motorcade.stack.brokers.artemis import Artemis
from motorcade.stack.brokers.base import Broker, QueueBound
from motorcade.stack.brokers.mosquitto import Mosquitto, find
from motorcade.stack.brokers.rmqtt import Rmqtt
from motorcade.stack.errors import StackError
from motorcade.stack.ports import free_ports
from motorcade.stack.settings import StackSettings

BROKERS = ("mosquitto", "artemis", "rmqtt")
_READY_S = 90.0


@dataclass
class Nodes:
    """A broker that runs."""

    broker: Broker
    folder: Path
    processes: list[subprocess.Popen[bytes]]

    def kill(self, node: int) -> None:
        """SIGKILL, and wait until it is gone."""
        self.processes[node].kill()
        self.processes[node].wait(30)

    def start_again(self, node: int) -> None:
        """Start a node that was killed, with the data it has."""
        self.processes[node] = _launch(self.broker.programs()[node], self.folder)

    def until_ready(self) -> float:
        """Wait until a message crosses everywhere; seconds it took."""
        began = time.monotonic()
        while not asyncio.run(self.broker.ready()):
            if any(one.poll() is not None for one in self.processes):
                raise StackError(f"a node of {self.broker.name} ended.", self._last_words())
            if time.monotonic() > began + _READY_S:
                raise StackError(f"{self.broker.name} is not ready after {_READY_S:g} s.")
            time.sleep(0.1)
        return time.monotonic() - began

    def cpu_s(self) -> float:
        """CPU seconds of the nodes that run."""
        return sum(sum(psutil.Process(one.pid).cpu_times()[:2]) for one in self._alive())

    def rss_bytes(self) -> int:
        """Resident memory of the nodes that run."""
        return sum(psutil.Process(one.pid).memory_info().rss for one in self._alive())

    def _last_words(self) -> str:
        """The end of what the nodes that ended wrote; their folder goes with the run."""
        programs = zip(self.broker.programs(), self.processes, strict=True)
        logs = [self.folder / f"{one.name}.log" for one, run in programs if run.poll() is not None]
        return "\n".join(log.read_text(errors="replace")[-1000:].strip() for log in logs)

    def _alive(self) -> list[subprocess.Popen[bytes]]:
        return [one for one in self.processes if one.poll() is None]


def missing(name: str) -> str | None:
    """Why a broker cannot run here; None if it can."""
    if name == "mosquitto" and find() is None:
        return "mosquitto is not installed"
    if name == "rmqtt" and rmqtt.find(StackSettings().rmqtt) is None:
        return "there is no rmqttd (PATH, ~/.cargo/bin, MOTORCADE_RMQTT)"
    return None


@contextmanager
def running(name: str, count: int, folder: Path) -> Iterator[tuple[Nodes, float]]:
    """A broker and the seconds until it was ready; stopped at the end.

    Args:
        name: one of BROKERS.
        count: nodes: a farm of mosquittos, a cluster of the others.
        folder: for configuration, data and logs.
    """
    broker = _broker(name, count, folder)
    began = time.monotonic()
    nodes = Nodes(broker, folder, [_launch(one, folder) for one in broker.programs()])
    try:
        nodes.until_ready()
        yield nodes, time.monotonic() - began
    finally:
        for process in nodes.processes:
            process.terminate()
        for process in nodes.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)


def _broker(name: str, count: int, folder: Path) -> Broker:
    settings = StackSettings()
    further = {"mosquitto": 0, "artemis": 1, "rmqtt": len(rmqtt.NODE_PORTS)}[name]
    ports = free_ports(count * (1 + further))
    own, rest = tuple(ports[:count]), ports[count:]
    node_ports = tuple(tuple(rest[n * further : (n + 1) * further]) for n in range(count))
    bound = QueueBound(rate_per_s=1000, outage_s=60)
    if name == "mosquitto":
        return Mosquitto(folder, own, bound)
    if name == "rmqtt":
        return Rmqtt(rmqtt.find(settings.rmqtt), folder, own, node_ports, bound)
    home = archives.ensure([archives.ARTEMIS], settings)[archives.ARTEMIS.name]
    return Artemis(home, folder, own, node_ports)


def _launch(one: program.Program, folder: Path) -> subprocess.Popen[bytes]:
    spec = program.write_spec(one, folder)
    with (folder / f"{one.name}.log").open("ab") as log:
        return subprocess.Popen(
            program.command(spec), stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
