"""Connections that an event cuts, a few at a time, so that what is due meanwhile is not late."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from motorcade.simulator.car_session import CarSession
from motorcade.simulator.fleet_events import Drop, Offline

_log = logging.getLogger(__name__)

#: Cars that are hit in one go. Twelve thousand in a row kept each of eight workers from its
#: messages for 3.6 s; a few at a time, the first were back before the last were cut.
_SLICE = 512


class Hits:
    """Events under way.

    Args:
        sessions: by row, None where no car runs; grows as the fleet does.
        amiss: told what did not happen as it should.
    """

    def __init__(self, sessions: Sequence[CarSession | None], amiss: deque[str]) -> None:
        self._sessions = sessions
        self._amiss = amiss
        self._under_way: set[asyncio.Task[None]] = set()

    def begin(self, event: Drop | Offline, rows: Sequence[int]) -> None:
        """Hit the cars of these rows, in their order, those that run by then."""
        task = asyncio.get_running_loop().create_task(self._hit(event, rows))
        self._under_way.add(task)
        task.add_done_callback(self._done)

    async def _hit(self, event: Drop | Offline, rows: Sequence[int]) -> None:
        for number, row in enumerate(rows, 1):
            session = self._sessions[row]
            if session is None:
                continue
            if isinstance(event, Drop):
                session.cut()
            else:
                session.lose_signal(event.seconds)
            if number % _SLICE == 0:
                await asyncio.sleep(0)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("an event did not hit all of its cars", exc_info=error)
            self._amiss.append(f"an event did not hit all of its cars: {error!r}")
