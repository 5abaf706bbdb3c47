"""What a message costs in each process of the pipeline, beside the budget of 10,000 msg/s.

python bench/pipeline.py [--cars N] [--messages N] [--rates 1000,3000,10000] [--json FILE]

Live: messages of the whole fleet are published at a steady rate, every process running. Draining:
each process alone works off what the others have left for it. CPU time is the processes' own, so a
busy machine changes it little; the first tenth of a drain, with imports and warming up, is left
out.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from score import manifest, weights

from motorcade.fleet import mqtt_topics, topics
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryColumns, TelemetryJson
from motorcade.fleet.vin import generate_vin
from motorcade.ml.announce import announce
from motorcade.ml.store import ModelStore
from motorcade.runtime.kafka import producer, started
from motorcade.runtime.mqtt import MqttOffline, MqttSession, MqttWindowFull
from motorcade.stack import bringup, plan, processes
from motorcade.stack.options import StackOptions
from motorcade.stack.ports import free_ports
from motorcade.stack.settings import StackSettings
from motorcade.stack.state import StackState, StateFolder

#: CPU-microseconds per message that each process may take of two cores at 10,000 msg/s: 200 in all.
BUDGET = {
    "mosquitto": 40.0,
    "bridge": 20.0,
    "kafka": 30.0,
    "refine": 12.0,
    "twin": 10.0,
    "score": 10.0,
    "alerts": 1.0,
}
DRAIN_BUDGET = BUDGET | {"bridge": 15.0}
OURS = ("bridge", "refine", "twin", "score", "alerts")
#: Counts what a process has done, one for each message.
DONE = {
    "bridge": "motorcade_bridge_messages_total",
    "refine": "motorcade_refine_refined_total",
    "twin": 'motorcade_twin_records_total{topic="telemetry"}',
    "score": "motorcade_predictions_total",
    "alerts": "motorcade_consumed_total",
}
SESSIONS = 8
TICK_S = 0.02
#: Records of a partition in one batch, as a bridge writes them at 10,000 msg/s.
FILL_BATCH = 80


class Fleet:
    """Telemetry of a fleet whose cars take turns, in an order that changes every round."""

    def __init__(self, cars: int, seed: int = 1) -> None:
        self._rng = np.random.default_rng(seed)
        self._vins = np.array([generate_vin(seed, car) for car in range(cars)], dtype="S17")
        self._topics = [
            mqtt_topics.topic(vin.decode(), mqtt_topics.TELEMETRY) for vin in self._vins.tolist()
        ]
        self._partitions = [topics.partition_of(vin) for vin in self._vins.tolist()]
        self._codec = TelemetryJson(load_catalogue())
        low, high = self._codec.catalogue.low, self._codec.catalogue.high
        self._middle, self._spread = (low + high) / 2, (high - low) / 50
        self._boot = time.time_ns() // 1_000_000
        self._seq = np.zeros(cars, dtype=np.int64)
        self._queue: np.ndarray[tuple[int], np.dtype[np.int64]] = np.empty(0, dtype=np.int64)

    def sent(self) -> dict[str, int]:
        """Number of each car's last message."""
        return {
            vin.decode(): seq
            for vin, seq in zip(self._vins.tolist(), self._seq.tolist(), strict=True)
        }

    def messages(self, count: int) -> list[tuple[str, bytes, int, bytes]]:
        """(MQTT topic, vehicle id, partition, payload) of the next messages."""
        found = []
        while count:
            if not len(self._queue):
                self._queue = self._rng.permutation(len(self._vins))
            cars = self._queue[: min(count, 20_000)]  # each car once: its numbers rise by one
            self._queue = self._queue[len(cars) :]
            count -= len(cars)
            np.add.at(self._seq, cars, 1)
            now = np.full(len(cars), time.time_ns() // 1_000_000)
            values = self._middle + self._spread * self._rng.normal(
                size=(len(cars), len(self._middle))
            )
            payloads = self._codec.encode(
                TelemetryColumns(
                    self._vins[cars],
                    values,
                    np.full(len(cars), self._boot),
                    self._seq[cars],
                    now,
                    now,
                )
            )
            for car, payload in zip(cars.tolist(), payloads, strict=True):
                vin = self._vins[car]
                found.append((self._topics[car], bytes(vin), self._partitions[car], payload))
        return found


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
            for n in range(SESSIONS)
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


async def publish(sessions: list[MqttSession], fleet: Fleet, rate: float, seconds: float) -> int:
    """Publish at a steady rate, a car always by the same session, as it would by itself."""
    messages = fleet.messages(round(rate * seconds))
    began, sent = time.monotonic(), 0
    while sent < len(messages):
        due = min(len(messages), round((time.monotonic() - began) * rate))
        for topic, vin, _, payload in messages[sent:due]:
            session = sessions[vin[-1] % len(sessions)]
            while True:
                try:
                    session.publish(topic, payload)
                    break
                except (MqttWindowFull, MqttOffline):
                    await asyncio.sleep(0.002)
        sent = max(sent, due)
        await asyncio.sleep(TICK_S)
    while any(session.in_flight for session in sessions):
        await asyncio.sleep(TICK_S)
    return len(messages)


async def until(name: str, reached: Callable[[], bool], timeout_s: float = 180) -> None:
    deadline = time.monotonic() + timeout_s
    while not await asyncio.to_thread(reached):
        if time.monotonic() > deadline:
            raise SystemExit(f"{name} has not finished after {timeout_s:.0f} s")
        await asyncio.sleep(0.1)


async def live(running: Stack, fleet: Fleet, rate: float, seconds: float) -> dict[str, float]:
    """CPU-µs per message of every process while messages come at a rate."""
    sessions = await running.publishers()
    await publish(sessions, fleet, rate, min(3.0, seconds))  # warm: caches, graphs, connections
    names = running.processes
    before = {name: process.done() for name, process in names.items()}
    await asyncio.sleep(2)
    pids = running.servers() | {name: process.pid for name, process in names.items()}
    used = {name: cpu_s(pid) for name, pid in pids.items()}
    before = {name: process.done() for name, process in names.items()}
    count = await publish(sessions, fleet, rate, seconds)
    for name, process in names.items():
        await until(name, lambda p=process, n=name: p.done() - before[n] >= count)
    used = {name: (cpu_s(pid) - used[name]) / count * 1e6 for name, pid in pids.items()}
    for session in sessions:
        await session.disconnect()
    return used


async def drain(process: Process, count: int, servers: dict[str, int]) -> dict[str, float]:
    """CPU-µs per message of a process that finds everything waiting, and of the servers."""
    process.start()
    await process.ready()
    await until(process.name, lambda: process.done() > count / 10)
    pids = servers | {process.name: process.pid}
    used, begun = {name: cpu_s(pid) for name, pid in pids.items()}, process.done()
    await until(process.name, lambda: process.done() >= count)
    worked = process.done() - begun
    if not worked:
        raise SystemExit(f"{process.name} was too fast to be measured: ask for more --messages")
    return {name: (cpu_s(pid) - used[name]) / worked * 1e6 for name, pid in pids.items()}


async def fill(running: Stack, fleet: Fleet, count: int) -> None:
    """Write raw records as the bridge does."""
    async with started(producer(running.settings), running.settings) as client:
        while count:
            messages = fleet.messages(min(count, 50_000))
            count -= len(messages)
            lanes: dict[int, list[tuple[bytes, bytes]]] = {}
            for _, vin, partition, payload in messages:
                lanes.setdefault(partition, []).append((vin, payload))
            longest = max(map(len, lanes.values()))
            for first in range(0, longest, FILL_BATCH):
                sends = []
                for partition, records in lanes.items():
                    batch = client.create_batch()
                    for key, value in records[first : first + FILL_BATCH]:
                        batch.append(timestamp=None, key=key, value=value)
                    sends.append(await client.send_batch(batch, topics.RAW, partition=partition))
                await asyncio.gather(*sends)


async def install_model(running: Stack) -> None:
    """Make an untrained model live whose scores alarm nobody."""
    now = time.time_ns() // 1_000_000
    store = ModelStore.of(running.settings)
    await announce(running.settings, store.write(manifest("autoencoder", 1e300), weights(), now))


async def measure(running: Stack, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """CPU-µs per message by process, for each way of loading; and memory."""
    fleet = Fleet(options.cars)
    await install_model(running)
    table: dict[str, dict[str, float]] = {}
    if options.rates:
        ours = running.processes
        for process in ours.values():
            process.start()
        for process in ours.values():
            await process.ready()
        for rate in options.rates:
            table[f"live {rate:,.0f}/s"] = await live(running, fleet, rate, options.seconds)
        table["RSS MiB"] = {name: rss_mib(process.pid) for name, process in ours.items()}
        for process in ours.values():
            process.stop()
    if options.messages:
        table["draining"] = await drain_each(
            running, fleet, options.messages, options.only or list(OURS)
        )
    return table


async def drain_each(
    running: Stack, fleet: Fleet, count: int, names: list[str]
) -> dict[str, float]:
    """CPU-µs per message of each process alone, and of Kafka meanwhile."""
    ours, drained = running.processes, {}
    if "bridge" in names:
        # Its sessions must be there before the messages, so that the broker queues them.
        ours["bridge"].start()
        await ours["bridge"].ready()
        ours["bridge"].stop()
        sessions = await running.publishers()
        await publish(sessions, fleet, 10_000, count / 10_000)
    else:
        await fill(running, fleet, count)
    for name in names:
        cost = await drain(ours[name], count, {"kafka": running.servers()["kafka"]})
        ours[name].stop()
        drained |= {name: cost[name], f"kafka for {name}": cost["kafka"]}
    return drained


def show(table: dict[str, dict[str, float]]) -> None:
    """One row a process, one column a way of loading, the budget at the end."""
    names = [*BUDGET, *sorted({n for column in table.values() for n in column} - set(BUDGET))]
    width = max(len(name) for name in names)
    print(f"{'CPU-µs per message':{width + 4}}" + "".join(f"{c:>18}" for c in table) + "    budget")
    for name in names:
        cells = "".join(
            f"{column[name]:>18.1f}" if name in column else f"{'–':>18}"
            for column in table.values()
        )
        print(f"{name:{width + 4}}{cells}{BUDGET.get(name, float('nan')):>10.1f}")
    total = "".join(
        f"{sum(v for n, v in column.items() if n in BUDGET):>18.1f}" for column in table.values()
    )
    print(f"{'sum':{width + 4}}{total}{sum(BUDGET.values()):>10.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cars", type=int, default=100_000)
    parser.add_argument("--messages", type=int, default=300_000, help="to drain; 0 for none")
    parser.add_argument("--rates", default="1000,3000,10000", help="live, msg/s; empty for none")
    parser.add_argument("--seconds", type=float, default=10, help="of each live rate")
    parser.add_argument("--only", default="", help="processes to drain")
    parser.add_argument("--wrap", default="", help="NAME=COMMAND: run a process under a profiler")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.rates = [float(rate) for rate in options.rates.split(",") if rate]
    options.only = [name for name in options.only.split(",") if name]
    name, _, command = options.wrap.partition("=")
    with (
        tempfile.TemporaryDirectory(prefix="motorcade-bench-") as folder,
        stack(Path(folder) / "state", {name: tuple(command.split())}) as running,
    ):
        table = asyncio.run(measure(running, options))
    show(table)
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
