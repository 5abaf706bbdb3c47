"""What a message costs in each process of the pipeline, beside the budget of 10,000 msg/s.

motorcade bench pipeline [--cars N] [--messages N] [--rates 1000,3000,10000] [--json FILE]

Live: messages of the whole fleet are published at a steady rate, every process running, until each
has worked on all of them; the twin has when its last write is done. Draining: each process alone
works off what the others have left for it. CPU time is the processes' own, so a busy machine
changes it little; the first tenth of a drain, with imports and warming up, is left out.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import arguments
from bench.pipeline.fleet import Fleet, publish
from bench.pipeline.running import OURS, Process, Stack, cpu_s, rss_mib, stack
from bench.score import manifest, weights
from motorcade.fleet import topics
from motorcade.ml.announce import announce
from motorcade.ml.store import ModelStore
from motorcade.runtime.kafka import producer, started

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
#: Records of a partition in one batch, as a bridge writes them at 10,000 msg/s.
FILL_BATCH = 80
_MEMORY = "RSS MiB"


async def until(name: str, reached: Callable[[], bool], timeout_s: float = 180) -> None:
    deadline = time.monotonic() + timeout_s
    while not await asyncio.to_thread(reached):
        if time.monotonic() > deadline:
            raise SystemExit(f"{name} has not finished after {timeout_s:.0f} s")
        await asyncio.sleep(0.1)


async def live(running: Stack, fleet: Fleet, rate: float, seconds: float) -> dict[str, float]:
    """CPU-µs per message of every process while messages come at a rate."""
    sessions = await running.publishers()
    names = running.processes

    async def worked(name: str, count: int) -> None:
        await until(name, lambda: names[name].done() - before[name] >= count)

    before = {name: process.done() for name, process in names.items()}
    warm = await publish(sessions, fleet, rate, min(3.0, seconds))  # caches, graphs, connections
    for name in names:
        await worked(name, warm)
    await asyncio.sleep(2)
    pids = running.servers() | {name: process.pid for name, process in names.items()}
    used = {name: cpu_s(pid) for name, pid in pids.items()}
    before = {name: process.done() for name, process in names.items()}
    count = await publish(sessions, fleet, rate, seconds)
    # The twin's last write comes seconds after the others are done: what those idle is not counted.
    for name in names:
        if name != "twin":
            await worked(name, count)
    ended = {name: cpu_s(pid) for name, pid in pids.items()}
    await worked("twin", count)
    ended["twin"] = cpu_s(pids["twin"])
    used = {name: (ended[name] - used[name]) / count * 1e6 for name in pids}
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
        table[_MEMORY] = {name: rss_mib(process.pid) for name, process in ours.items()}
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
    ours = running.processes
    drained: dict[str, float] = {}
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


def rows_of(table: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """One row a process: µs per message for each way of loading, MiB, and the goal where there is
    one; then what our processes take together, and all.
    """
    names = [*BUDGET, *sorted({n for column in table.values() for n in column} - set(BUDGET))]
    rows = {name: {way: c[name] for way, c in table.items() if name in c} for name in names}
    for name, goal in BUDGET.items():
        rows[name]["goal"] = goal
    for title, parts in (("+".join(OURS), OURS), ("all", tuple(BUDGET))):
        whole = [way for way, column in table.items() if column.keys() >= set(parts)]
        rows[title] = {way: sum(table[way][name] for name in parts) for way in whole}
        rows[title]["goal"] = sum(BUDGET[name] for name in parts)
    return rows


def show(table: dict[str, dict[str, float]]) -> None:
    """One row a process, one column a way of loading, the goal at the end."""
    rows = rows_of(table)
    width = max(map(len, rows)) + 2
    ways = [*table, "goal"]
    print(f"{'CPU-µs per message':{width}}" + "".join(f"{way:>16}" for way in ways))
    for name, row in rows.items():
        cells = "".join(f"{row[way]:>16.1f}" if way in row else f"{'–':>16}" for way in ways)
        print(f"{name:{width}}{cells}")


def main() -> None:
    parser = arguments.parser("pipeline", __doc__)
    parser.add_argument("--cars", type=int, default=100_000, help="that the messages are of")
    parser.add_argument("--messages", type=int, default=300_000, help="to drain; 0 for none")
    parser.add_argument("--rates", default="1000,3000,10000", help="live, msg/s; empty for none")
    parser.add_argument("--seconds", type=float, default=20, help="of each live rate")
    parser.add_argument("--only", default="", help="processes to drain")
    parser.add_argument("--wrap", default="", help="NAME=COMMAND: run a process under a profiler")
    parser.add_argument("--json", type=Path, help="write every figure to this file, too")
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
        options.json.write_text(json.dumps(rows_of(table), indent=1))


if __name__ == "__main__":
    main()
