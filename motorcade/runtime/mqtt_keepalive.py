"""Keepalive of all MQTT connections of a loop, by one shared timer.

A timer of its own for each of 10,000 connections costs memory, and timers that started together
would ping together: here each connection looks again after a random part of its interval.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol
from weakref import WeakKeyDictionary

#: How exact a look is, seconds. Brokers wait for half a keepalive more (MQTT 5, 3.1.2.10).
_STEP_S = 0.25
#: A look that comes this much late says that this process stood still, not that the brokers did.
_STALLED_S = 2.0
#: Parts of the keepalive after which a client that has sent nothing pings, at least and at most.
_QUIET = (0.6, 0.9)
#: Keepalives after which one that sends but hears nothing (QoS 0) asks whether anybody is there.
_UNHEARD = 2.0

_wheels: "WeakKeyDictionary[asyncio.AbstractEventLoop, KeepaliveWheel]" = WeakKeyDictionary()


class Watched(Protocol):
    """A connection as the wheel sees it."""

    def look(self, now: float) -> float | None:
        """Ping or give up if it is time; returns when to look again, None when it is over."""


class KeepaliveWheel:
    """Looks at each connection when it asked for it, to a quarter of a second.

    A connection that ended is met once more, at its next look.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._slots: dict[int, list[Watched]] = {}
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, watched: Watched, at: float) -> None:
        """Look at a connection at a time of the clock."""
        if self._timer is None:
            self._next = int(self._clock() / _STEP_S) + 1
            self._timer = self._loop.call_later(_STEP_S, self._tick)
        slot = max(int(at / _STEP_S) + 1, self._next)
        self._slots.setdefault(slot, []).append(watched)

    def _tick(self) -> None:
        now = self._clock()
        self._timer = self._loop.call_later(_STEP_S, self._tick)
        last = int(now / _STEP_S)
        if (last - self._next) * _STEP_S > _STALLED_S:
            # Answers may wait unread in the sockets: read them before anybody is judged.
            overdue = [w for n in range(self._next, last + 1) for w in self._slots.pop(n, ())]
            self._slots.setdefault(last + 1, []).extend(overdue)
            self._next = last + 1
            return
        for number in range(self._next, last + 1):
            self._next = number + 1
            for watched in self._slots.pop(number, ()):
                if (at := watched.look(now)) is not None:
                    self.add(watched, at)
        if not self._slots:
            self._timer.cancel()
            self._timer = None


def wheel() -> KeepaliveWheel:
    """The running loop's."""
    loop = asyncio.get_running_loop()
    found = _wheels.get(loop)
    if found is None:
        found = _wheels[loop] = KeepaliveWheel(loop)
    return found


def step(
    now: float, last_in: float, last_out: float, pinged: float, keepalive_s: float, chance: float
) -> tuple[str, float]:
    """What a connection does now, and when it looks again (monotonic seconds).

    Args:
        last_in: when something was last read.
        last_out: when something was last written.
        pinged: when PINGREQ was last written; 0 for never.
        chance: a random number from 0 to 1, so that a fleet spreads its pings.

    Returns:
        "wait", "ping", or "lost": a ping had no answer for a whole keepalive.
    """
    if pinged > last_in:
        if now - pinged >= keepalive_s:
            return "lost", now
        return "wait", pinged + keepalive_s
    shortest, longest = _QUIET
    quiet_s = (shortest + (longest - shortest) * chance) * keepalive_s
    if now - last_out >= shortest * keepalive_s or now - last_in >= _UNHEARD * keepalive_s:
        return "ping", now + quiet_s
    return "wait", min(last_out + quiet_s, last_in + _UNHEARD * keepalive_s)
