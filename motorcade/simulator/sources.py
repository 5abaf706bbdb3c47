"""Where cars' connections come from: one source address has so many ports to one endpoint."""

import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path

from motorcade.fleet.errors import SettingsError

#: Connections that one source address carries to one endpoint: Linux has 28,232 ephemeral ports
#: (ip_local_port_range 32768-60999), some of which linger or belong to others.
PER_ADDRESS = 25_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def connections_of_an_address() -> int:
    """Connections that one source address carries to one endpoint on this machine."""
    try:
        low, high = _RANGE.read_text().split()
    except (OSError, ValueError):
        return PER_ADDRESS
    return min(PER_ADDRESS, int(high) - int(low) + 1)


def source_addresses(
    cars: int, endpoints: Sequence[str], given: Sequence[str] = ()
) -> tuple[str | None, ...]:
    """The addresses that the cars of each endpoint take turns at; None is the system's choice.

    Raises:
        SettingsError: an endpoint that is not on loopback would get more connections than the
            addresses have ports.
    """
    fullest = -(-cars // len(endpoints))
    per_address = connections_of_an_address()
    needed = max(1, -(-fullest // per_address))
    if given:
        if needed > len(given):
            raise _too_few(fullest, len(given), needed, per_address)
        return tuple(given)
    if needed == 1:
        return (None,)
    if not all(_is_loopback(endpoint) for endpoint in endpoints):
        raise _too_few(fullest, 1, needed, per_address)
    # All of 127.0.0.0/8 is this machine on Linux.
    return tuple(f"127.0.0.{n}" for n in range(2, 2 + needed))


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
