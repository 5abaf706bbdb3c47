"""What each program of a stack uses: CPU over all its lives in a run, memory at its highest."""

import time
from dataclasses import dataclass, field

import psutil

from motorcade.simulator.audit.verdict import ProcessUsage
from motorcade.stack.keeper import LOGGED, Keeper


@dataclass
class UsageMeter:
    """Samples programs; a program that was restarted counts with all its processes.

    Args:
        keeper: knows the programs.
    """

    keeper: Keeper
    #: When the meter was made, seconds since 1970.
    began: float = field(default_factory=time.time)
    #: Resident memory of each program when it was last looked at, MiB.
    rss: dict[str, float] = field(default_factory=dict)
    _cpu: dict[tuple[str, int], float] = field(default_factory=dict)
    _before: dict[tuple[str, int], float] = field(default_factory=dict)
    _highest: dict[str, float] = field(default_factory=dict)

    def sample(self) -> None:
        """Look at every program once; call it every second or so."""
        self.rss = {}
        for status in self.keeper.statuses():
            if status.pid is None:
                continue
            rss = 0.0
            try:
                root = psutil.Process(status.pid)
                for process in (root, *root.children(recursive=True)):
                    times = process.cpu_times()
                    life = (status.name, process.pid)
                    self._cpu[life] = times.user + times.system
                    # What a server had used before the run began is not the run's.
                    self._before.setdefault(life, self._cpu[life] if self._is_old(process) else 0.0)
                    rss += process.memory_info().rss / 2**20
            except psutil.Error:
                continue  # it ended meanwhile
            self.rss[status.name] = rss
            self._highest[status.name] = max(self._highest.get(status.name, 0.0), rss)

    def cpu_seconds(self) -> dict[str, float]:
        """CPU that each program has used since the meter was made."""
        used: dict[str, float] = {}
        for (name, pid), seconds in self._cpu.items():
            used[name] = used.get(name, 0.0) + seconds - self._before[name, pid]
        return used

    def report(self) -> list[ProcessUsage]:
        """Usage so far, most CPU first."""
        since = time.strftime(LOGGED, time.localtime(self.began))
        crashes = [crash.name for crash in self.keeper.restarts() if crash.when >= since]
        used = self.cpu_seconds()
        found = [
            ProcessUsage(name, used[name], rss, crashes.count(name))
            for name, rss in self._highest.items()
        ]
        return sorted(found, key=lambda usage: -usage.cpu_seconds)

    def _is_old(self, process: psutil.Process) -> bool:
        return process.create_time() < self.began
