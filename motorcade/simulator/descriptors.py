"""File descriptors: every connected car needs one, so a fleet is divided over workers."""

import fcntl
import os
import resource
from pathlib import Path

from motorcade.fleet.errors import SettingsError

#: Beside the cars: Locust, the loop, logs, the ledger.
_OTHERS = 256


#: Cars of one worker: as few workers as will do, for each takes 100 MB and a second of CPU to start
#: and all share the same cores; and still room for a ramp of some hundred connects a second each.
CARS_PER_WORKER = 12_500


def workers_for(cars: int) -> int:
    """How many workers a fleet is divided over, unless somebody knows better."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    room = CARS_PER_WORKER if hard == resource.RLIM_INFINITY else max(1, hard - _OTHERS)
    return max(1, -(-cars // min(CARS_PER_WORKER, room)))


def make_room(cars: int) -> None:
    """Raise this process's limit to the hard one, and have the kernel make its table now.

    The table doubles whenever it is full, and in a process with threads whoever opens a socket then
    waits until every CPU has been seen idle or in another process (Linux, `expand_fdtable`): under
    a ramp that takes all CPUs a worker stood still for seconds. Called before there are threads.

    Raises:
        SettingsError: the hard limit is too low for this many cars; the message says what helps.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and cars + _OTHERS > hard:
        raise SettingsError(
            f"{cars} cars in one worker need {cars + _OTHERS} file descriptors, "
            f"the hard limit is {hard}.",
            f"Divide the fleet over more workers, at most {hard - _OTHERS} cars each, "
            "or raise the limit (ulimit -Hn).",
        )
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with Path(os.devnull).open("rb") as any_file:
        os.close(fcntl.fcntl(any_file, fcntl.F_DUPFD_CLOEXEC, cars + _OTHERS - 1))
