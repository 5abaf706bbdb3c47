"""One client program, watched from outside: CPU and memory at each word it says."""

import json
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from motorcade.stack.errors import StackError

#: A process that has connected clears up for a moment before it is idle.
_SETTLE_S = 1.0


@dataclass(frozen=True)
class Load:
    """What every client program is told to do."""

    endpoint: str
    clients: int
    interval_s: float
    seconds: float
    payload_bytes: int
    qos: int

    def arguments(self, most: int) -> list[str]:
        return [
            self.endpoint,
            str(min(self.clients, most)),
            str(self.interval_s),
            str(self.seconds),
            str(self.payload_bytes),
            str(self.qos),
        ]


@dataclass(frozen=True)
class Figures:
    """What a program cost. CPU is user and system time of the process, in microseconds."""

    clients: int
    connect_cpu_us: float
    connects_per_s: float
    connection_bytes: float
    idle_cpu_share: float
    sent: int
    acknowledged: int
    message_cpu_us: float
    #: Of that, what the kernel spends for the process.
    message_system_us: float
    #: CPU of its parts while it published, of a program that says so.
    parts_us: dict[str, float] = field(default_factory=dict)


class _Program:
    """A running client program."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("wb"),
            text=True,
        )
        self._watched = psutil.Process(self._process.pid)

    def hear(self, word: str) -> list[str]:
        """The rest of the next line that begins with a word."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            first, *rest = line.split() or [""]
            if first == word:
                return rest
        self._process.wait(10)
        last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        raise StackError(f"it ended before it said {word!r}: {' '.join(last)}")

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def cpu_s(self) -> float:
        times = self._watched.cpu_times()
        return float(times.user + times.system)

    def system_s(self) -> float:
        return float(self._watched.cpu_times().system)

    def rss_bytes(self) -> int:
        return int(self._watched.memory_info().rss)

    def end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)


def measure(
    command: list[str], load: Load, most: int, log: Path, *, profiled: bool = False
) -> Figures:
    """Run a client program from start to end.

    Args:
        most: clients that it is given at most.
        profiled: it says `parts JSON` before `published`.

    Raises:
        StackError: it ended early, or connected or acknowledged less than it was told.
    """
    clients = min(load.clients, most)
    program = _Program([*command, *load.arguments(most)], log)
    try:
        program.hear("started")
        cpu, rss = program.cpu_s(), program.rss_bytes()
        program.go_on()
        (seconds,) = program.hear("connected")
        connect_cpu = program.cpu_s() - cpu
        time.sleep(_SETTLE_S)
        connection_bytes = (program.rss_bytes() - rss) / clients
        cpu = program.cpu_s()
        time.sleep(_SETTLE_S)
        idle = (program.cpu_s() - cpu) / _SETTLE_S
        cpu, system = program.cpu_s(), program.system_s()
        program.go_on()
        parts = json.loads(program.hear("parts")[0]) if profiled else {}
        sent, acknowledged = map(int, program.hear("published"))
        message_cpu, message_system = program.cpu_s() - cpu, program.system_s() - system
        if acknowledged < sent or sent == 0:
            raise StackError(f"{acknowledged} of {sent} messages were acknowledged")
        return Figures(
            clients=clients,
            connect_cpu_us=1e6 * connect_cpu / clients,
            connects_per_s=clients / float(seconds),
            connection_bytes=connection_bytes,
            idle_cpu_share=idle,
            sent=sent,
            acknowledged=acknowledged,
            message_cpu_us=1e6 * message_cpu / sent,
            message_system_us=1e6 * message_system / sent,
            parts_us=parts,
        )
    finally:
        program.end()
