"""What the machine must offer before anything starts; each failure names its remedy."""

import ipaddress
import resource
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from motorcade.simulator.sources import connections_of_an_address
from motorcade.stack.errors import PreflightError

#: Kafka 0.5 GB, registry 0.25, broker up to 0.8, scorer with TensorFlow 0.6, five processes of
#: 0.1 each, and the load workers: measured together with a thousand cars.
_MEMORY_GB = 2.5
_STATE_DISK_GB = 2.0
#: A car in its worker, everything included (the goal that bench/ holds it to), and its session in
#: the broker: the most that was measured of any local one.
_CAR_KB, _SESSION_KB = 40, 41
#: A message in all topics on Kafka's disk: raw, refined, prediction, with their indexes.
_MESSAGE_KB = 0.6
#: Descriptors of a server beyond its cars: log segments, listeners, neighbours.
_OWN_DESCRIPTORS = 1_000

_GB = 1e9


@dataclass(frozen=True)
class Check:
    """One requirement: what was found, and what to do if that is not enough."""

    name: str
    ok: bool
    found: str
    remedy: str


def descriptors_needed(cars: int, broker_nodes: int, load_workers: int) -> int:
    """Open files that the process with the most connections holds."""
    fullest = max(-(-cars // max(1, broker_nodes)), -(-cars // max(1, load_workers)))
    return fullest + _OWN_DESCRIPTORS


def check(
    state: Path,
    *,
    cars: int = 0,
    broker_nodes: int = 1,
    load_workers: int = 1,
    messages: float = 0,
    servers: bool = True,
    spread: str = "--broker-nodes and --workers",
) -> list[Check]:
    """Looks at this machine.

    Args:
        state: the state folder that is going to be written.
        cars: how many will connect.
        broker_nodes, load_workers: processes that the cars spread over.
        messages: how many the cars will send; they stay on Kafka's disk.
        servers: whether broker, Kafka and our processes run here, and not only the cars.
        spread: the caller's options for broker nodes and load workers.
    """
    memory_needed = cars * (_CAR_KB + (_SESSION_KB if servers else 0)) * 1e3 / _GB
    disk_needed = 0.1
    if servers:
        memory_needed += _MEMORY_GB
        disk_needed = _STATE_DISK_GB + messages * _MESSAGE_KB * 1e3 / _GB
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    # Without servers of ours only a worker's own connections count.
    needed = descriptors_needed(cars, broker_nodes if servers else cars, load_workers)
    memory = psutil.virtual_memory().available / _GB
    disk = shutil.disk_usage(_existing(state)).free / _GB
    version = sys.version_info
    carried = f" for {cars:,} cars" if cars else ""
    return [
        Check(
            "Python",
            (3, 11) <= version[:2] <= (3, 12),
            f"{version.major}.{version.minor}",
            "Run it with Python 3.11 or 3.12: TensorFlow I/O has no build for others.",
        ),
        Check(
            "memory",
            memory >= memory_needed,
            f"{memory:.1f} GB available, {memory_needed:.1f} needed{carried}",
            "Stop other programs, take a machine with more memory, or fewer cars.",
        ),
        Check(
            "disk",
            disk >= disk_needed,
            f"{disk:.1f} GB free for {state}, {disk_needed:.1f} needed",
            "Free some, or name a folder elsewhere with --state.",
        ),
        Check(
            "file descriptors",
            hard == resource.RLIM_INFINITY or hard >= needed,
            f"at most {hard} a process, {needed} needed{carried}",
            f"Raise the hard limit (ulimit -Hn {needed}), take fewer cars, or spread them over "
            f"more {spread}.",
        ),
    ]


def check_ports(cars: int, hosts: Sequence[str], source_addresses: int) -> Check:
    """Whether the cars find a source port each: one address has so many to one destination.

    Args:
        cars: how many will connect.
        hosts: of the broker's endpoints, over which the cars spread evenly.
        source_addresses: local addresses that connections come from; 0 is the system's choice.
    """
    ports = connections_of_an_address()
    # On loopback the workers take as many source addresses as they need (127.0.0.x).
    far = [host for host in hosts if not _is_loopback(host)]
    a_host = -(-cars // max(1, len(hosts))) if far else 0
    needed = -(-a_host // ports)
    return Check(
        "source ports",
        needed <= max(1, source_addresses),
        f"{ports:,} a source address and endpoint, {a_host:,} needed",
        f"Give {needed} addresses of this machine with MOTORCADE_SOURCE_ADDRESSES=A,B,…, take "
        "more endpoints, or widen net.ipv4.ip_local_port_range.",
    )


def require(checks: list[Check]) -> None:
    """Raises PreflightError naming everything that failed, with its remedy."""
    failed = [one for one in checks if not one.ok]
    if failed:
        raise PreflightError(
            " ".join(f"{one.name}: {one.found}. {one.remedy}" for one in failed),
        )


def raise_descriptor_limit() -> None:
    """Raises this process's soft limit of open files to its hard limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
