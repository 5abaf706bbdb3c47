"""File descriptors: every connected car needs one, so a fleet is divided over workers."""

import resource

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


def raise_limit(cars: int) -> None:
    """Raise this process's soft limit to the hard one.

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
