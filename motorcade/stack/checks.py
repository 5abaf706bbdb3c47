"""What the machine must offer before anything starts; each failure names its remedy."""

import resource
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from motorcade.stack.errors import PreflightError

#: Kafka 0.5 GB, registry 0.25, broker up to 0.8, scorer with TensorFlow 0.6, five processes of
#: 0.1 each, and the load workers: measured together with a thousand cars.
_MEMORY_GB = 2.5
_STATE_DISK_GB = 2.0
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
    state: Path, *, cars: int = 0, broker_nodes: int = 1, load_workers: int = 1
) -> list[Check]:
    """Looks at this machine.

    Args:
        state: the state folder that is going to be written.
        cars: how many will connect.
        broker_nodes, load_workers: processes that the cars spread over.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    needed = descriptors_needed(cars, broker_nodes, load_workers)
    memory = psutil.virtual_memory().available / _GB
    disk = shutil.disk_usage(_existing(state)).free / _GB
    version = sys.version_info
    return [
        Check(
            "Python",
            (3, 11) <= version[:2] <= (3, 12),
            f"{version.major}.{version.minor}",
            "Run it with Python 3.11 or 3.12: TensorFlow I/O has no build for others.",
        ),
        Check(
            "memory",
            memory >= _MEMORY_GB,
            f"{memory:.1f} GB available, {_MEMORY_GB} needed",
            "Stop other programs, or take a machine with more memory.",
        ),
        Check(
            "disk",
            disk >= _STATE_DISK_GB,
            f"{disk:.1f} GB free for {state}, {_STATE_DISK_GB} needed",
            "Free some, or name a folder elsewhere with --state.",
        ),
        Check(
            "file descriptors",
            hard == resource.RLIM_INFINITY or hard >= needed,
            f"at most {hard} a process, {needed} needed",
            f"Raise the hard limit (ulimit -Hn {needed}), or spread the cars: "
            "--broker-nodes, --workers, fewer --cars.",
        ),
    ]


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


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
