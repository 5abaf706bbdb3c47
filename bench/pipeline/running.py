"""Real servers in a folder of their own, our processes one by one, and what they use."""

import asyncio
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from motorcade.fleet.settings import ProcessSettings
from motorcade.runtime.mqtt import MqttSession
from motorcade.stack import bringup, plan, processes
from motorcade.stack.options import StackOptions
from motorcade.stack.ports import free_ports
from motorcade.stack.settings import StackSettings
from motorcade.stack.state import StackState, StateFolder

OURS = ("bridge", "refine", "twin", "score", "alerts")
#: Counts what a process has done, one for each message; the twin's rises once it is written.
DONE = {
    "bridge": "motorcade_bridge_messages_total",
    "refine": "motorcade_refine_refined_total",
    "twin": 'motorcade_twin_records_total{topic="telemetry"}',
    "score": "motorcade_predictions_total",
    "alerts": "motorcade_consumed_total",
}
_SESSIONS = 8


@dataclass
class Process:
    """One of our processes, started as the stack does."""

    name: str
    environment: dict[str, str]
    folder: Path
    wrapper: tuple[str, ...] = ()
    port: int = field(default_factory=lambda: free_ports(1)[0])
    popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.popen = subprocess.Popen(
                [*self.wrapper, *processes.program(self.name, {}, self.folder).argv],
                env=os.environ | self.environment | {"MOTORCADE_HTTP_PORT": str(self.port)},
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
            )

    async def ready(self) -> None:
        while await processes.waiting_for(self.port):
            assert self.popen is not None
            if self.popen.poll() is not None:
                log = (self.folder / f"{self.name}.log").read_text()[-2000:]
                raise SystemExit(f"{self.name} ended:\n{log}")
            await asyncio.sleep(0.2)

    def stop(self) -> None:
        if self.popen is not None and self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            self.popen.wait(60)
        self.popen = None

    @property
    def pid(self) -> int:
        assert self.popen is not None
        return self.popen.pid

    def done(self) -> float:
        """Messages it has worked on."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return sum(
            float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(DONE[self.name])
        )


def cpu_s(pid: int) -> float:
    """CPU time of a process and its children so far."""
    root = psutil.Process(pid)
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def rss_mib(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / 2**20


class Stack:
    """Real servers in a folder of their own, and our processes one by one."""

    def __init__(self, state: StackState, folder: StateFolder, wrap: dict[str, tuple[str, ...]]):
        self.state = state
        self.folder = folder
        environment = plan.environment(state, folder)
        self.settings = ProcessSettings(
            kafka=state.kafka, registry_url=state.registry_url, data_dir=plan.process_data(folder)
        )
        self.processes = {
            name: Process(name, environment, folder.path / "ours", wrap.get(name, ()))
            for name in OURS
        }

    def servers(self) -> dict[str, int]:
        """Process ids of the servers."""
        found = self.folder.keeper.statuses()
        return {s.name.partition("-")[0]: s.pid for s in found if s.pid is not None}

    async def publishers(self) -> list[MqttSession]:
        sessions = [
            MqttSession(
                f"bench-{n}", self.state.brokers[n % len(self.state.brokers)], clean_start=True
            )
            for n in range(_SESSIONS)
        ]
        for session in sessions:
            await session.connect(30)
        return sessions


@contextmanager
def stack(folder: Path, wrap: dict[str, tuple[str, ...]]) -> Iterator[Stack]:
    options = StackOptions(state=folder, processes=(), rate_per_s=20_000, outage_s=60, tied=True)
    state = asyncio.run(bringup.start(options, StackSettings()))
    running = Stack(state, StateFolder(folder), wrap)
    try:
        yield running
    finally:
        for process in running.processes.values():
            process.stop()
        bringup.stop(StateFolder(folder))
