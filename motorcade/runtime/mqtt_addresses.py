"""Names of brokers, looked up once for thousands of connections."""

import asyncio
import random
import socket
import time
from weakref import WeakKeyDictionary

#: As long as a Kubernetes service's records live by default.
_LIFE_S = 30.0

_Found = tuple[float, "asyncio.Task[list[str]]"]
_known: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Found]] = WeakKeyDictionary()


async def addresses(host: str) -> list[str]:
    """The addresses of a host, in another order for each client, which spreads them.

    Raises:
        OSError: the name is not known.
    """
    if host.replace(".", "").isdigit() or ":" in host:
        return [host]
    loop = asyncio.get_running_loop()
    known = _known.setdefault(loop, {})
    until, lookup = known.get(host, (0.0, None))
    now = time.monotonic()
    if lookup is None or now > until or (lookup.done() and lookup.exception() is not None):
        lookup = loop.create_task(_look_up(host))
        known[host] = (now + _LIFE_S, lookup)
    # Who gives up while waiting must not take the answer from the others.
    found = await asyncio.shield(lookup)
    return random.sample(found, len(found))


async def _look_up(host: str) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
