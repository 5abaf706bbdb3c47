"""Locust's user: a handle to one car, which drives on the worker's own event loop.

Locust runs each user in a greenlet of its own. A hundred thousand greenlets that only sleep would
take a good part of the memory that a car may take, so here the user itself stands in Locust's
group of running users, in the place of its greenlet.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

from locust import User, argument_parser, runners

from motorcade.simulator.worker_control import WorkerControl


class Car(User):
    """A user is a handle: while N users run, the cars 0 … N-1 of the fleet drive."""

    control: WorkerControl
    name = "car"

    #: Called when the user has stopped: its groups of users let it go.
    _links: tuple[Callable[["Car"], object], ...] = ()

    def drive(self) -> None:
        """What Locust lists as the user's work; the car does it."""

    tasks: ClassVar[list[Any]] = [drive]

    def start(self, group: Any) -> "Car":
        """The next car of this worker starts."""
        self._greenlet = self
        group.add(self)
        self.control.car_wanted()
        return self

    def stop(self, force: bool = False) -> bool:
        """The last car of this worker stops; it is never too busy to."""
        del force
        links, self._links = self._links, ()
        if links:
            self.control.car_unwanted()
        for link in links:
            link(self)
        return True

    # -- what Locust asks of a user's greenlet ----------------------------------------------------

    @property
    def args(self) -> tuple["Car"]:
        """Locust finds the user in its greenlet's arguments."""
        return (self,)

    def rawlink(self, link: Callable[["Car"], object]) -> None:
        """A group wants to know when the user has stopped."""
        self._links = (*self._links, link)

    def unlink(self, link: Callable[["Car"], object]) -> None:
        """A group has let the user go."""
        self._links = tuple(one for one in self._links if one != link)


def _classes_count(runner: Any) -> dict[str, int]:
    return {one.__name__: runner.user_count for one in runner.user_classes}


# Locust counts its users one by one, a dozen times for each step of a ramp and each report; with
# one class of users their number is enough.
runners.WorkerRunner.user_classes_count = property(_classes_count)
# For each step of a ramp a worker builds Locust's whole command-line parser anew for each option
# that the master sends along: a third of a second of CPU, five times a second.
argument_parser.default_args_dict = cache(argument_parser.default_args_dict)
