"""TCP ports on the loopback address: free ones, and who holds one that is not."""

import random
import socket

import psutil

from motorcade.stack.errors import PortInUseError

LOOPBACK = "127.0.0.1"

#: Ports are drawn below 32768, where Linux begins to hand out the ports of outgoing connections:
#: a load test's thousands of connections must not take a port between its choice and its bind.
_LOWEST, _HIGHEST = 15_000, 32_000


def is_free(port: int) -> bool:
    """Whether a server could bind the loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_ports(count: int, taken: frozenset[int] = frozenset()) -> list[int]:
    """Distinct free ports outside `taken`."""
    draw = random.SystemRandom()
    ports: list[int] = []
    for _ in range(10_000):
        if len(ports) == count:
            return ports
        port = draw.randrange(_LOWEST, _HIGHEST)
        if port not in taken and port not in ports and is_free(port):
            ports.append(port)
    raise PortInUseError(
        f"fewer than {count} ports are free between {_LOWEST} and {_HIGHEST} on {LOOPBACK}.",
        "Stop other servers, or give fixed ports.",
    )


def holder(port: int) -> str | None:
    """Name and id of the process that listens on a port, where the system tells."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
                and connection.pid
            ):
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return None
    return None


def require_free(port: int, option: str) -> int:
    """Returns the port, or raises PortInUseError naming it, its holder and the option to change."""
    if not is_free(port):
        who = holder(port)
        raise PortInUseError(
            f"port {port} on {LOOPBACK} is in use{f' by {who}' if who else ''}.",
            f"Stop that process, or give another {option}, or leave it out for a free port.",
        )
    return port
