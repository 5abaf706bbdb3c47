"""What happens to parts of the stack during a run: killed, stopped, frozen, and back again."""

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from motorcade.fleet.errors import SettingsError
from motorcade.simulator.scenarios.events import Kill, Pause, StackEvent, Stop
from motorcade.stack.errors import StackError
from motorcade.stack.keeper import Keeper

#: Told when something begins or ends, and what.
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Disturber:
    """Does stack events to the programs of a stack.

    Args:
        keeper: runs them.
        brokers: names of the broker's programs, in the order of its nodes.
        tell: shows what happens.
    """

    keeper: Keeper
    brokers: tuple[str, ...]
    tell: Tell

    def programs(self, event: StackEvent) -> tuple[str, ...]:
        """The programs that an event hits.

        Raises:
            SettingsError: there is no such program in this stack.
        """
        if event.what == "broker":
            found = self.brokers
        elif event.what == "broker-node":
            found = self.brokers[event.node - 1 : event.node]
        else:
            known = {status.name for status in self.keeper.statuses()}
            found = (event.what,) if event.what in known else ()
        if not found:
            node = f" {event.node} (it has {len(self.brokers)})" if "broker" in event.what else ""
            raise SettingsError(
                f"the stack has no {event.what}{node}, which the scenario wants to "
                f"{getattr(event, 'kind', 'hurt')}.",
                "Take another scenario, or a stack that has one.",
            )
        return found

    def asked_restarts(self, events: Iterable[object]) -> Counter[str]:
        """How often each program starts again by itself because events kill it.

        What an event keeps down is stopped on request, and counts as no crash.
        """
        kills = [one for one in events if isinstance(one, Kill) and not one.seconds]
        return Counter(name for kill in kills for name in self.programs(kill))

    async def perform(self, event: Kill | Stop | Pause) -> None:
        """Do it; returns when the programs are started again, which is not yet ready.

        Cancelled in between, it starts them again at once.

        Raises:
            StackError: a program was not running.
        """
        names = self.programs(event)
        back: Callable[[str], None] | None
        if isinstance(event, Pause):
            await self._each(names, lambda name: self.keeper.signal(name, signal.SIGSTOP))
            back = self._continue
        elif isinstance(event, Stop):
            await self._each(names, self.keeper.stop)
            back = self.keeper.start_again
        else:
            stay = event.seconds > 0
            await self._each(names, lambda name: self.keeper.kill(name, stay_down=stay))
            back = self.keeper.start_again if stay else None
        if back is None:
            self.tell(f"{', '.join(names)}: killed, starts again at once")
            return
        self.tell(f"{', '.join(names)}: {_PAST[event.kind]} for {event.seconds:g} s")
        try:
            await asyncio.sleep(event.seconds)
        finally:
            await self._each(names, back)
        self.tell(f"{', '.join(names)}: {'goes on' if event.kind == 'pause' else 'starts again'}")

    async def _each(self, names: tuple[str, ...], action: Callable[[str], None]) -> None:
        await asyncio.gather(*(asyncio.to_thread(action, name) for name in names))

    def _continue(self, name: str) -> None:
        with contextlib.suppress(StackError):  # it was killed while it stood still
            self.keeper.signal(name, signal.SIGCONT)


_PAST = {"kill": "killed", "stop": "stopped", "pause": "frozen"}
