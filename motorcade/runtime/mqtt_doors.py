"""How many lost connections a process makes anew at one time.

When a broker drops everybody, thousands of cars of one process come back within their first
second of back-off. All at once they would overflow the broker's queue of accepted sockets, wait
for seconds on TCP's own retries, time out, and have it all done again.
"""

import asyncio
from weakref import WeakKeyDictionary

#: Enough for 600 a second over a network where TCP and CONNECT take 100 ms together.
_AT_ONCE = 64

_doors: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, asyncio.Semaphore]] = (
    WeakKeyDictionary()
)


def door(endpoint: str) -> asyncio.Semaphore:
    """The door to an endpoint, for the running loop; who waits is let in in order."""
    doors = _doors.setdefault(asyncio.get_running_loop(), {})
    if (found := doors.get(endpoint)) is None:
        found = doors[endpoint] = asyncio.Semaphore(_AT_ONCE)
    return found
