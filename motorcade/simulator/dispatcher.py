"""How Locust deals users out: worker i of W runs its share of the fleet, and nobody else's."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent

from motorcade.simulator.worker_fleet import share

#: A ramp goes in steps of this length, so that a second's cars do not all connect at once.
_STEP_S = 0.2

Shares = dict[str, dict[str, int]]


class FleetDispatcher:
    """Takes the place of Locust's UsersDispatcher, which rebalances when a worker is lost.

    Here N users are the cars 0 … N-1, and car n is run by worker n modulo W alone. The share of a
    worker that is missing stays empty: its cars are never moved to another one.

    Args:
        worker_nodes: Locust's nodes, each with an `id`.
        user_classes: the one class of users.
        index_of: number of the worker with a node id; None while the worker has not said.
        workers: how many workers the fleet is divided over.
    """

    def __init__(
        self,
        worker_nodes: list[Any],
        user_classes: list[Any],
        *,
        index_of: Callable[[str], int | None],
        workers: int,
    ) -> None:
        self._nodes = {node.id for node in worker_nodes}
        self._user_class = user_classes[0].__name__
        self._index_of = index_of
        self._workers = workers
        self._users = 0
        self._ramp: Iterator[Shares] = iter(())
        self.dispatch_in_progress = False

    def new_dispatch(
        self, target_user_count: int, spawn_rate: float, user_classes: list[Any] | None = None
    ) -> None:
        """Begin a ramp from as many users as there are to `target_user_count`."""
        del user_classes  # there is one
        self._ramp = self._steps(target_user_count, spawn_rate)

    def __iter__(self) -> Iterator[Shares]:
        return self

    def __next__(self) -> Shares:
        return next(self._ramp)

    def add_worker(self, worker_node: Any) -> None:
        """A worker came (back): the next step gives it its share."""
        self._nodes.add(worker_node.id)

    def remove_worker(self, worker_node: Any) -> None:
        """A worker went: its share stays empty."""
        self._nodes.discard(worker_node.id)

    def _steps(self, target: int, rate: float) -> Iterator[Shares]:
        self.dispatch_in_progress = True
        try:
            before, began = self._users, time.monotonic()
            while True:
                moved = max(1, int(rate * (time.monotonic() - began + _STEP_S)))
                up = min(target, before + moved)
                self._users = up if target >= before else max(target, before - moved)
                yield self._shares()
                if self._users == target:
                    return
                gevent.sleep(_STEP_S)
        finally:
            self.dispatch_in_progress = False

    def _shares(self) -> Shares:
        return {node: {self._user_class: self._share(node)} for node in self._nodes}

    def _share(self, node: str) -> int:
        index = self._index_of(node)
        return 0 if index is None else share(self._users, index, self._workers)
