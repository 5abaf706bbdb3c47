"""The bridge beside its peers: CPU per message, and what five SIGKILLs lose, double or reorder.

motorcade bench bridge [--peers ours,paho,…] [--rate N] [--seconds S] [--messages N] [--kills N]
                    [--json FILE]

One broker, one Kafka, QoS 1, JSON of a fleet's telemetry. Live: messages come at a steady rate.
Draining: the bridge finds them queued. Killed: while messages come, the bridge dies and starts
again; afterwards every message is looked for in Kafka by its car and number.
"""

import argparse
import asyncio
import json
import os
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import psutil

from bench import arguments
from bench.bridge.peers import FILTER, PEERS, Peer, Place
from bench.pipeline.fleet import Fleet, publish
from bench.pipeline.running import Stack, cpu_s, stack
from motorcade.fleet.topics import PARTITIONS, Topic
from motorcade.runtime.kafka import TopicPartition, consumer, partitions_of, read_all, started
from motorcade.runtime.mqtt import MqttSession
from motorcade.stack import topics
from motorcade.stack.errors import StackError

_SETTLE_S = 60


class _Identity(msgspec.Struct):
    vin: str
    seq: int


@dataclass
class Row:
    """What a bridge did; CPU in microseconds per message, None where it was not measured."""

    name: str
    live_us: float | None = None
    drain_us: float | None = None
    sent: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    problem: str = ""


class Bench:
    """One bridge between the stack's broker and Kafka."""

    def __init__(self, running: Stack, peer: Peer, fleet: Fleet) -> None:
        self._running = running
        self._peer = peer
        self._fleet = fleet
        self._work = running.folder.path / "bridges"
        self._work.mkdir(exist_ok=True)
        place = Place(running.state, running.folder, peer.topic, self._work)
        self._argv, self._env = peer.command(place)
        self._popen: subprocess.Popen[bytes]
        self._ends: dict[TopicPartition, int] = {}

    def start(self) -> None:
        with (self._work / f"{self._peer.name}.log").open("ab") as log:
            self._popen = subprocess.Popen(
                self._argv, env=os.environ | self._env, stdout=log, stderr=log, cwd=self._work
            )

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait(30)

    async def mark(self) -> None:
        """Where its topic ends now."""
        settings = self._running.settings
        async with started(consumer(settings), settings) as client:
            wanted = [
                TopicPartition(self._peer.topic, n)
                for n in await partitions_of(client, self._peer.topic)
            ]
            self._ends = await client.end_offsets(wanted)

    async def arrived(self, count: int) -> int:
        """Wait until so many records came, or nothing comes any more; how many there are."""
        settings = self._running.settings
        last, since = 0, time.monotonic()
        async with started(consumer(settings), settings) as client:
            while True:
                ends = await client.end_offsets(list(self._ends))
                found: int = sum(ends.values()) - sum(self._ends.values())
                if found != last:
                    last, since = found, time.monotonic()
                if found >= count or time.monotonic() - since > _SETTLE_S / 4:
                    return found
                await asyncio.sleep(0.1)

    async def subscribed(self, sessions: list[MqttSession]) -> None:
        """Wait until a message crosses it."""
        await self.mark()
        for _ in range(_SETTLE_S * 4):
            await publish(sessions, self._fleet, 100, 0.01)
            await asyncio.sleep(0.25)
            if self._popen.poll() is not None:
                log = (self._work / f"{self._peer.name}.log").read_text(errors="replace")
                raise StackError(f"it ended: {' '.join(log.strip().splitlines()[-1:])}")
            if await self.arrived_now():
                return
        raise StackError(f"no message crossed it in {_SETTLE_S} s")

    async def arrived_now(self) -> int:
        settings = self._running.settings
        async with started(consumer(settings), settings) as client:
            ends = await client.end_offsets(list(self._ends))
        arrived: int = sum(ends.values()) - sum(self._ends.values())
        return arrived

    async def live(self, sessions: list[MqttSession], rate: float, seconds: float) -> float:
        await publish(sessions, self._fleet, rate, min(2.0, seconds))
        await asyncio.sleep(1)
        await self.mark()
        before = cpu_s(self._popen.pid)
        count = await publish(sessions, self._fleet, rate, seconds)
        await self.arrived(count)
        return (cpu_s(self._popen.pid) - before) / count * 1e6

    async def drain(self, sessions: list[MqttSession], count: int) -> float:
        """CPU from a tenth of the queue on; the process was stopped while it filled."""
        self.kill()
        await self.mark()
        await publish(sessions, self._fleet, 5000, count / 5000)
        self.start()
        used, begun = 0.0, 0
        while begun < count / 10:
            begun = await self.arrived_now()
            used = cpu_s(self._popen.pid)
        found = await self.arrived(count)
        return (cpu_s(self._popen.pid) - used) / max(found - begun, 1) * 1e6

    async def killed(
        self, sessions: list[MqttSession], row: Row, rate: float, seconds: float, kills: int
    ) -> None:
        await self.mark()
        sent_before = self._fleet.sent()
        publishing = asyncio.create_task(publish(sessions, self._fleet, rate, seconds))
        for _ in range(kills):
            await asyncio.sleep(seconds / (kills + 1))
            self.kill()
            self.start()
        row.sent = await publishing
        await self.arrived(1 << 60)
        await self._account(row, sent_before)

    async def _account(self, row: Row, before: dict[str, int]) -> None:
        decode = msgspec.json.Decoder(_Identity).decode
        counts: Counter[tuple[str, int]] = Counter()
        newest: dict[str, int] = {}
        async for batch in read_all(self._running.settings, [self._peer.topic], starts=self._ends):
            for record in batch:
                one = decode(record.value or b"")
                if not counts[one.vin, one.seq]:
                    row.reordered += one.seq < newest.get(one.vin, 0)
                    newest[one.vin] = max(one.seq, newest.get(one.vin, 0))
                counts[one.vin, one.seq] += 1
        expected = {
            (vin, seq)
            for vin, last in self._fleet.sent().items()
            for seq in range(before.get(vin, 0) + 1, last + 1)
        }
        row.lost = len(expected - counts.keys())
        row.duplicated = sum(n - 1 for n in counts.values())

    async def forget(self) -> None:
        """End its sessions, so that the broker queues nothing for it any more."""
        self.kill()
        for client_id in self._peer.clients:
            session = MqttSession(client_id, self._running.state.brokers[0], clean_start=True)
            await session.connect(30)
            await session.disconnect()


async def measure(running: Stack, peer: Peer, fleet: Fleet, options: argparse.Namespace) -> Row:
    row = Row(peer.title)
    try:
        bench = Bench(running, peer, fleet)
    except StackError as error:
        row.problem = error.what
        return row
    sessions = await running.publishers()
    bench.start()
    try:
        await bench.subscribed(sessions)
        row.live_us = await bench.live(sessions, options.rate, options.seconds)
        row.drain_us = await bench.drain(sessions, options.messages)
        if options.kills:
            seconds = max(options.seconds, 2.0 * options.kills)
            await bench.killed(sessions, row, options.rate / 2, seconds, options.kills)
    except (StackError, psutil.Error) as error:
        row.problem = getattr(error, "what", str(error))
    finally:
        await bench.forget()
        for session in sessions:
            await session.disconnect()
    return row


async def compare(running: Stack, peers: list[Peer], options: argparse.Namespace) -> list[Row]:
    others = [Topic(peer.topic, PARTITIONS) for peer in peers if peer.topic.startswith("bench")]
    await topics.create(running.state.kafka, others)
    fleet = Fleet(options.cars)
    rows = []
    for peer in peers:
        rows.append(await measure(running, peer, fleet, options))
        print(_line(rows[-1]), flush=True)
    return rows


def _line(row: Row) -> str:
    if row.problem:
        return f"{row.name:34}{row.problem}"
    cells = [
        f"{us:>10.1f}" if us is not None else f"{'–':>10}" for us in (row.live_us, row.drain_us)
    ]
    return f"{row.name:34}{''.join(cells)}{row.lost:>10}{row.duplicated:>12}{row.reordered:>11}"


def main() -> None:
    names = [peer.name for peer in PEERS]
    parser = arguments.parser("bridge", __doc__)
    parser.add_argument("--peers", default=",".join(names), help="of " + ", ".join(names))
    parser.add_argument("--cars", type=int, default=5000, help="that the messages are of")
    parser.add_argument("--rate", type=float, default=3000, help="live, msg/s; half while killed")
    parser.add_argument("--seconds", type=float, default=6, help="of each live rate")
    parser.add_argument("--messages", type=int, default=30_000, help="queued, to drain")
    parser.add_argument("--kills", type=int, default=5, help="SIGKILLs of each bridge")
    parser.add_argument("--json", type=Path, help="write every figure to this file, too")
    options = parser.parse_args()
    wanted = options.peers.split(",")
    unknown = set(wanted) - set(names)
    if unknown:
        parser.error(f"no bridge is called {', '.join(sorted(unknown))}")
    print(
        f"{'':34}{'CPU-µs per message':^20}{'lost':>10}{'duplicated':>12}{'reordered':>11}\n"
        f"{'':34}{'live':>10}{'draining':>10}{f'by {options.kills} kills':>33}"
    )
    with (
        tempfile.TemporaryDirectory(prefix="motorcade-bench-") as folder,
        stack(Path(folder) / "state", {}) as running,
    ):
        peers = [peer for peer in PEERS if peer.name in wanted]
        rows = asyncio.run(compare(running, peers, options))
    if options.json:
        document = {"filter": FILTER, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
