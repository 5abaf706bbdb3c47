"""Starting and stopping real servers for tests; the fixtures that share them are in conftest."""

import asyncio
import os
import signal
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from motorcade.stack import archives, program
from motorcade.stack import kafka as kafka_server
from motorcade.stack import registry as registry_server
from motorcade.stack.brokers import rmqtt
from motorcade.stack.brokers.artemis import Artemis
from motorcade.stack.brokers.base import Broker, QueueBound
from motorcade.stack.brokers.mosquitto import Mosquitto, find
from motorcade.stack.brokers.rmqtt import Rmqtt
from motorcade.stack.brokers.security import Security
from motorcade.stack.ports import free_ports
from motorcade.stack.settings import StackSettings

_START_S = 90
_BOUND = QueueBound(rate_per_s=1000, outage_s=300)


def run_async(work: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine to its end on a thread of its own: fixtures may be set up inside a loop."""
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread below
            failure.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


@dataclass
class Running:
    """A program started by a test session, and where it logs."""

    program: program.Program
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return (self.folder / f"{self.program.name}.log").read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL."""
        self.process.terminate()
        try:
            self.process.wait(self.program.stop_s)
        except subprocess.TimeoutExpired:
            self.kill()


def launch(one: program.Program, folder: Path) -> Running:
    """Starts a program as the stack does: tied to this process's life, with all descriptors."""
    spec = program.write_spec(one, folder)
    with (folder / f"{one.name}.log").open("ab") as log:
        process = subprocess.Popen(
            program.command(spec), stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
    return Running(one, folder, process)


def wait_ready(
    ready: Callable[[], Awaitable[bool]], running: Running, timeout_s: float = _START_S
) -> None:
    """Polls until a server is ready; fails with the end of its log if it ends or takes too long."""
    deadline = time.monotonic() + timeout_s

    async def poll() -> None:
        while not await ready():
            if running.process.poll() is not None:
                pytest.fail(f"{running.program.name} ended:\n{running.log[-3000:]}")
            if time.monotonic() > deadline:
                pytest.fail(f"{running.program.name} is not ready:\n{running.log[-3000:]}")
            await asyncio.sleep(0.1)

    run_async(poll())


@dataclass
class KafkaServer:
    """A running Kafka; `restart` after `running.kill()` brings it back on its port and data."""

    server: kafka_server.Kafka
    folder: Path
    running: Running

    @property
    def bootstrap(self) -> str:
        return self.server.bootstrap

    def restart(self) -> None:
        self.running = launch(self.server.program(), self.folder)
        wait_ready(lambda: kafka_server.ready(self.bootstrap), self.running)


def start_kafka(settings: StackSettings, folder: Path) -> KafkaServer:
    """Starts a Kafka of one's own; the caller stops it."""
    jars = archives.ensure([archives.KAFKA], settings)[archives.KAFKA.name]
    port, controller_port = free_ports(2)
    server = kafka_server.Kafka(jars, folder, port, controller_port)
    run_async(server.prepare())
    running = launch(server.program(), folder)
    wait_ready(lambda: kafka_server.ready(server.bootstrap), running)
    return KafkaServer(server, folder, running)


@dataclass
class RegistryServer:
    """A running schema registry; `restart` after `running.kill()` brings it back."""

    server: registry_server.Registry
    folder: Path
    running: Running

    @property
    def url(self) -> str:
        return self.server.url

    def restart(self) -> None:
        self.running = launch(self.server.program(), self.folder)
        wait_ready(lambda: registry_server.ready(self.url), self.running)


def start_registry(settings: StackSettings, folder: Path) -> RegistryServer:
    """Starts a schema registry of one's own; the caller stops it."""
    home = archives.ensure([archives.REGISTRY], settings)[archives.REGISTRY.name]
    server = registry_server.Registry(home, folder, *free_ports(2))
    running = launch(server.program(), folder)
    wait_ready(lambda: registry_server.ready(server.url), running)
    return RegistryServer(server, folder, running)


def start_artemis(
    settings: StackSettings, folder: Path, nodes: int = 1, security: Security | None = None
) -> "BrokerServer":
    """Starts an Artemis, or a cluster, of one's own; the caller stops it."""
    home = archives.ensure([archives.ARTEMIS], settings)[archives.ARTEMIS.name]
    ports = free_ports(2 * nodes)
    broker = Artemis(
        home, folder, tuple(ports[:nodes]), tuple((one,) for one in ports[nodes:]), security
    )
    running = [launch(one, folder) for one in broker.programs()]
    wait_ready(broker.ready, running[0])
    return BrokerServer(broker, folder, running)


def start_rmqtt(settings: StackSettings, folder: Path, nodes: int = 1) -> "BrokerServer":
    """Starts an RMQTT, or a cluster, of one's own; the caller stops it."""
    ports = free_ports(4 * nodes)
    node_ports = tuple(tuple(ports[nodes + 3 * n : nodes + 3 * n + 3]) for n in range(nodes))
    broker = Rmqtt(rmqtt.find(settings.rmqtt), folder, tuple(ports[:nodes]), node_ports, _BOUND)
    running = [launch(one, folder) for one in broker.programs()]
    wait_ready(broker.ready, running[0])
    return BrokerServer(broker, folder, running)


@dataclass
class BrokerServer:
    """A running broker of one or more nodes."""

    broker: Broker
    folder: Path
    nodes: list[Running]

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Every node's "host:port"."""
        return tuple(str(endpoint) for endpoint in self.broker.endpoints)

    @property
    def host(self) -> str:
        return self.broker.endpoints[0].host

    @property
    def port(self) -> int:
        return self.broker.endpoints[0].port

    def restart(self, node: int = 0) -> None:
        """Brings a killed node back."""
        self.nodes[node] = launch(self.broker.programs()[node], self.folder)
        wait_ready(self.broker.ready, self.nodes[node])

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


def start_mosquitto(
    folder: Path,
    nodes: int = 1,
    bound: QueueBound = _BOUND,
    security: Security | None = None,
) -> BrokerServer:
    """Starts a mosquitto farm of one's own; the caller stops it."""
    if find() is None:
        pytest.skip("mosquitto is not installed")
    broker = Mosquitto(folder, tuple(free_ports(nodes)), bound, security)
    running = [launch(one, folder) for one in broker.programs()]
    wait_ready(broker.ready, running[0])
    return BrokerServer(broker, folder, running)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def pause(running: Running) -> None:
    """SIGSTOP: alive but silent, as a machine that hangs."""
    os.kill(running.pid, signal.SIGSTOP)


def resume(running: Running) -> None:
    """SIGCONT."""
    os.kill(running.pid, signal.SIGCONT)
