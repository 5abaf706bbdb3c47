"""Where cars' connections come from: one source address has so many ports to one endpoint."""

import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path

from motorcade.fleet.errors import SettingsError

#: Ephemeral ports of Linux unless it is told otherwise: ip_local_port_range 32768-60999.
_PORTS = 28_232
#: Connections that one source address carries to one endpoint: some ports linger or belong to
#: others.
_CARRIED = 25_000
#: Linux's connect() looks at every other port first, from a random one on, and only when all of
#: those are taken at the others: `connect` then takes 1.2 ms instead of 10 µs (6.18), and a core
#: is full with 800 a second. Up to nine tenths of that half the tenth port looked at is free.
_QUICK = 0.9 / 2
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def connections_of_an_address() -> int:
    """Connections that one source address carries to one endpoint on this machine."""
    return min(_CARRIED, _ports())


def source_addresses(
    cars: int, endpoints: Sequence[str], given: Sequence[str] = ()
) -> tuple[str | None, ...]:
    """The addresses that the cars of each endpoint take turns at; None is the system's choice.

    On loopback they are as many as let every connect find a port at once.

    Raises:
        SettingsError: an endpoint that is not on loopback would get more connections than the
            addresses have ports.
    """
    fullest = -(-cars // len(endpoints))
    carried = connections_of_an_address()
    needed = max(1, -(-fullest // carried))
    if given:
        if needed > len(given):
            raise _too_few(fullest, len(given), needed, carried)
        return tuple(given)
    if all(_is_loopback(endpoint) for endpoint in endpoints):
        quick = max(1, -(-fullest // max(1, int(_ports() * _QUICK))))
        # All of 127.0.0.0/8 is this machine on Linux.
        return (None,) if quick == 1 else tuple(f"127.0.0.{n}" for n in range(2, 2 + quick))
    if needed > 1:
        raise _too_few(fullest, 1, needed, carried)
    return (None,)


def _ports() -> int:
    """Ephemeral ports of this machine."""
    try:
        low, high = _RANGE.read_text().split()
        return int(high) - int(low) + 1
    except (OSError, ValueError):
        return _PORTS


def _too_few(connections: int, addresses: int, needed: int, each: int) -> SettingsError:
    return SettingsError(
        f"{connections} connections to one endpoint need {needed} source addresses "
        f"({each} each), there are {addresses}.",
        "Name more in MOTORCADE_SOURCE_ADDRESSES, or spread the cars over more endpoints.",
    )


def _is_loopback(endpoint: str) -> bool:
    host = endpoint.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        return ipaddress.ip_address(socket.gethostbyname(host)).is_loopback
    except OSError:
        return False
