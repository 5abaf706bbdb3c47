"""How the stack looks on a terminal: progress of downloads and starts, addresses, status."""

import asyncio
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from motorcade.stack import archives, kafka, processes, registry
from motorcade.stack.archives import Archive
from motorcade.stack.bringup import PartUpdate
from motorcade.stack.keeper import Crash, Status
from motorcade.stack.plan import broker_of
from motorcade.stack.screen import LiveFrame
from motorcade.stack.settings import StackSettings
from motorcade.stack.state import StackState, StateFolder


def fetch(console: Console, needed: Iterable[Archive], settings: StackSettings) -> None:
    """Downloads missing archives with a progress bar each; silent when nothing is missing."""
    absent = archives.missing(needed, settings)
    if not absent:
        return
    console.print(f"Fetching server archives into {settings.cache_folder} (once):")
    columns = (TextColumn("{task.description:28}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=console) as progress:
        bars = {one.name: progress.add_task(one.name, total=one.size) for one in absent}
        archives.ensure(absent, settings, lambda name, count: progress.advance(bars[name], count))


class Parts(LiveFrame):
    """Live lines, one a part: waiting, starting, ready in N s.

    Where the output is no terminal, a line when a part has started or failed.
    """

    def __init__(self, console: Console) -> None:
        self._parts: dict[str, tuple[PartUpdate, float]] = {}
        super().__init__(console, self._render)

    def update(self, part: PartUpdate) -> None:
        """Takes a part's news."""
        self._parts[part.name] = (part, time.monotonic())
        if part.phase in {"ready", "failed"}:
            line = Table.grid(padding=(0, 2))
            line.add_row(*_part_row(part, 0))
            self.line(line)

    def _render(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for part, since in self._parts.values():
            table.add_row(*_part_row(part, since))
        return table


def _part_row(part: PartUpdate, since: float) -> tuple[Any, ...]:
    if part.phase == "waiting":
        return Text("·", "dim"), Text(part.name, "dim"), Text("waiting", "dim"), ""
    if part.phase == "starting":
        seconds = time.monotonic() - since
        return Spinner("dots"), part.name, f"starting, {seconds:.0f} s", Text(part.detail, "dim")
    if part.phase == "failed":
        return Text("✗", "red"), part.name, Text("failed", "red"), Text(part.detail, "dim")
    ready = f"ready in {part.seconds:.1f} s"
    return Text("✓", "green"), part.name, ready, Text(part.detail, "dim")


def addresses(console: Console, state: StackState) -> None:
    """Where everything is."""
    table = Table.grid(padding=(0, 2))
    table.add_row("Kafka", state.kafka)
    table.add_row("Schema registry", state.registry_url)
    table.add_row(f"MQTT ({state.broker})", ", ".join(state.brokers))
    console.print(table)


@dataclass(frozen=True)
class Part:
    """One line of `motorcade status`."""

    name: str
    state: str
    ready: bool
    waits_for: str
    pid: int | None
    uptime_s: int
    memory_mb: int
    address: str
    crashes: int


@dataclass(frozen=True)
class Report:
    """What `motorcade status` found."""

    parts: tuple[Part, ...]
    crashes: tuple[Crash, ...]

    @property
    def healthy(self) -> bool:
        """Whether everything runs and is ready."""
        return all(part.ready for part in self.parts)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"healthy": self.healthy, **asdict(self)}


async def report(folder: StateFolder, state: StackState) -> Report:
    """Asks supervisord and every part how it is."""
    ends = folder.keeper.restarts()
    known = folder.keeper.statuses()
    waits = await asyncio.gather(*(_waits_for(one, folder, state) for one in known))
    return Report(
        tuple(
            Part(
                name=one.name,
                state=one.state,
                ready=one.state == "running" and not waiting,
                waits_for=waiting,
                pid=one.pid,
                uptime_s=one.uptime_s,
                memory_mb=_memory_mb(one.pid),
                address=_address(one.name, state),
                crashes=sum(end.name == one.name for end in ends),
            )
            for one, waiting in zip(known, waits, strict=True)
        ),
        tuple(ends),
    )


def status(console: Console, state: StackState, found: Report, drops: int | None) -> None:
    """Prints a report for a person."""
    table = Table(box=None, pad_edge=False)
    for heading in ("part", "state", "up", "memory", "crashes", "address"):
        table.add_column(heading, justify="right" if heading in {"up", "memory"} else "left")
    for part in found.parts:
        said = "ready" if part.ready else f"{part.state}, waits for {part.waits_for or 'a start'}"
        table.add_row(
            part.name,
            Text(said, "green" if part.ready else "red"),
            f"{part.uptime_s} s",
            f"{part.memory_mb} MB",
            str(part.crashes or ""),
            part.address,
        )
    console.print(table)
    dropped = "the broker has not said within a minute" if drops is None else str(drops)
    console.print(f"\nSince {state.started}; messages dropped by the broker: {dropped}.")
    console.print(state.durability)
    for crash in found.crashes:
        console.print(f"{crash.when}  {crash.name} ended: {crash.how}", style="yellow")


def follow(path: Path) -> None:
    """Writes what is appended to a file until Ctrl-C; goes on when the log is rotated."""
    try:
        while True:
            with path.open(errors="replace") as log:
                log.seek(0, 2)
                here = path.stat().st_ino
                while path.exists() and path.stat().st_ino == here:
                    sys.stdout.write(log.read())
                    sys.stdout.flush()
                    time.sleep(0.3)
            if not path.exists():
                return
    except (KeyboardInterrupt, FileNotFoundError):
        return


async def _waits_for(one: Status, folder: StateFolder, state: StackState) -> str:
    """What a part still waits for; empty when it is ready."""
    if one.state != "running":
        return one.state
    if one.name in state.http:
        return ", ".join(await processes.waiting_for(state.http[one.name]))
    if one.name == "kafka":
        return "" if await kafka.ready(state.kafka) else "an acknowledged record"
    if one.name == "registry":
        return "" if await registry.ready(state.registry_url) else "an answer"
    return "" if await broker_of(state, folder).ready() else "a message across"


def _address(name: str, state: StackState) -> str:
    if name in state.http:
        return f"http://127.0.0.1:{state.http[name]}/metrics"
    if name == "kafka":
        return state.kafka
    if name == "registry":
        return state.registry_url
    kind, _, node = name.rpartition("-")
    return state.brokers[int(node) - 1] if kind == state.broker else ""


def _memory_mb(pid: int | None) -> int:
    try:
        return round(psutil.Process(pid).memory_info().rss / 1e6) if pid else 0
    except psutil.Error:
        return 0
