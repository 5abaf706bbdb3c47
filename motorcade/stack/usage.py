"""What each program of a stack uses: CPU over all its lives, memory at its highest."""

from dataclasses import dataclass, field

import psutil

from motorcade.simulator.audit.verdict import ProcessUsage
from motorcade.stack.keeper import Keeper


@dataclass
class UsageMeter:
    """Samples programs; a program that was restarted counts with all its processes.

    Args:
        keeper: knows the programs.
    """

    keeper: Keeper
    _cpu: dict[tuple[str, int], float] = field(default_factory=dict)
    _rss: dict[str, float] = field(default_factory=dict)

    def sample(self) -> None:
        """Look at every program once; call it every second or so."""
        for status in self.keeper.statuses():
            if status.pid is None:
                continue
            rss = 0.0
            try:
                root = psutil.Process(status.pid)
                for process in (root, *root.children(recursive=True)):
                    times = process.cpu_times()
                    self._cpu[status.name, process.pid] = times.user + times.system
                    rss += process.memory_info().rss / 2**20
            except psutil.Error:
                continue  # it ended meanwhile
            self._rss[status.name] = max(self._rss.get(status.name, 0.0), rss)

    def report(self) -> list[ProcessUsage]:
        """Usage so far, most CPU first."""
        crashes = [crash.name for crash in self.keeper.restarts()]
        found = [
            ProcessUsage(
                name,
                sum(cpu for (owner, _), cpu in self._cpu.items() if owner == name),
                rss,
                crashes.count(name),
            )
            for name, rss in self._rss.items()
        ]
        return sorted(found, key=lambda usage: -usage.cpu_seconds)
