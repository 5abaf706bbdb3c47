"""File descriptors: every connected car needs one."""

import resource

from motorcade.fleet.errors import SettingsError

#: Beside the cars: Locust, the loop, logs, the ledger.
_OTHERS = 256


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
