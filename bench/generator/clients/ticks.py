"""Publishing in ticks: every client once an interval, spread evenly, all that is due at once."""

import asyncio
from collections.abc import Callable

TICK_S = 0.05


async def publish_in_ticks(
    clients: int, interval_s: float, seconds: float, publish: Callable[[int], None]
) -> int:
    """Call `publish(client)` when it is due; returns how many calls were made."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    sent = 0
    while (elapsed := loop.time() - began) < seconds:
        due = int(elapsed * clients / interval_s)
        for number in range(sent, due):
            publish(number % clients)
        sent = due
        await asyncio.sleep(TICK_S)
    return sent


async def settle(done: Callable[[], bool], timeout_s: float = 30) -> None:
    """Wait until everything is acknowledged, at most as long as given."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not done() and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.02)
