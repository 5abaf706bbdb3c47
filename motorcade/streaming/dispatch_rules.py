"""Which commands are pending, when each is due on which endpoint, when it has failed. No I/O.

Everything here is rebuilt from three topics: requests, what became of them, and where cars are.
Wall-clock milliseconds are an argument.
"""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from motorcade.fleet.messages import (
    Alert,
    AlertAction,
    CommandRequest,
    CommandResponse,
    CommandState,
    VehicleStatus,
)

DRIVER_WARNING = "driver_warning"


def command_for(alert: Alert, now_ms: int, lifetime_ms: int) -> CommandRequest | None:
    """The command that an alert asks for, None when it asks for none; its id is the alert's own."""
    if alert.action is not AlertAction.RAISED:
        return None
    digest = hashlib.blake2b(f"{DRIVER_WARNING}|{alert.id}".encode(), digest_size=16)
    return CommandRequest(
        id=digest.hexdigest(),
        vin=alert.vin,
        name=DRIVER_WARNING,
        issued=now_ms,
        expires=now_ms + lifetime_ms,
        parameters={
            "alert": alert.id,
            "kind": alert.kind,
            "severity": alert.severity,
            "advice": alert.advice,
        },
    )


class Key(NamedTuple):
    """A command's identity: an id of one car says nothing about another car's."""

    vin: str
    id: str


@dataclass(frozen=True)
class Schedule:
    """Waiting times in milliseconds.

    answer: from a publish to the next when the car says nothing; doubles up to `longest`.
    retry: after the broker found no subscriber or refused; doubles up to `longest`.
    grace: after expiry, for the answer of a car that carried the command out just in time.
    """

    answer: int = 10_000
    retry: int = 1_000
    longest: int = 60_000
    grace: int = 5_000


class Delivery(NamedTuple):
    """A command to publish now; `endpoint` is the one the car named in its birth."""

    request: CommandRequest
    endpoint: str
    attempt: int


class _Place(NamedTuple):
    """A car's latest birth or will, in the order of their truth."""

    boot: int
    connection: int
    offline: bool
    endpoint: str


@dataclass
class _Pending:
    request: CommandRequest
    attempts: int = 0
    refusals: int = 0
    due_ms: int = 0
    #: The car works on it: nothing is sent again unless the car comes back anew.
    in_progress: bool = False
    #: TIMED_OUT is on its way into Kafka.
    closing: bool = False


class Commands:
    """Every command known, and every car's place."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._pending: dict[Key, _Pending] = {}
        self._known: set[Key] = set()
        self._finished: set[Key] = set()
        self._places: dict[str, _Place] = {}

    def __len__(self) -> int:
        """Number of pending commands."""
        return len(self._pending)

    def knows(self, key: Key) -> bool:
        """Whether the command was requested before."""
        return key in self._known

    def requested(self, request: CommandRequest) -> None:
        """A command stands in Kafka; a second one of the same id is the same command."""
        key = Key(request.vin, request.id)
        if key not in self._known and key not in self._finished:
            self._pending[key] = _Pending(request)
        self._known.add(key)

    def answered(self, response: CommandResponse) -> None:
        """A response stands in Kafka; the first final one ends the command."""
        key = Key(response.vin, response.id)
        if response.status.final:
            self._finished.add(key)
            self._pending.pop(key, None)
        elif key in self._pending:
            self._pending[key].in_progress = True

    def reported(self, status: VehicleStatus) -> None:
        """A birth or will stands in Kafka; after a newer birth what is pending is due at once."""
        place = _Place(status.boot, status.connection, not status.online, status.endpoint)
        before = self._places.get(status.vin)
        if before is not None and place[:3] <= before[:3]:
            return
        self._places[status.vin] = place
        if status.online:
            for key, pending in self._pending.items():
                if key.vin == status.vin:
                    pending.due_ms = 0
                    pending.in_progress = False

    def deliveries(self, now_ms: int) -> list[Delivery]:
        """Commands to publish now, each counted as tried; those of offline cars wait."""
        found = []
        for key, pending in self._pending.items():
            place = self._places.get(key.vin)
            if (
                place is None
                or place.offline
                or pending.in_progress
                or pending.due_ms > now_ms
                or pending.request.expires <= now_ms
            ):
                continue
            found.append(Delivery(pending.request, place.endpoint, pending.attempts))
            wait = _doubled(self._schedule.answer, pending.attempts, self._schedule.longest)
            pending.due_ms = now_ms + wait
            pending.attempts += 1
        return found

    def refused(self, key: Key, now_ms: int) -> None:
        """The broker took a delivery but has nobody for it, or did not take it."""
        pending = self._pending.get(key)
        if pending is not None:
            wait = _doubled(self._schedule.retry, pending.refusals, self._schedule.longest)
            pending.refusals += 1
            pending.due_ms = now_ms + wait

    def overdue(self, now_ms: int) -> list[CommandResponse]:
        """TIMED_OUT for each command that has expired without an end, each returned once."""
        found = []
        for key, pending in self._pending.items():
            grace = self._schedule.grace if pending.attempts else 0
            if pending.closing or now_ms < pending.request.expires + grace:
                continue
            pending.closing = True
            reason = _why(pending, self._places.get(key.vin))
            found.append(CommandResponse(key.id, key.vin, CommandState.TIMED_OUT, now_ms, reason))
        return found


def _doubled(first: int, times: int, longest: int) -> int:
    return min(longest, first << min(times, 20))


def _why(pending: _Pending, place: _Place | None) -> str:
    if pending.in_progress:
        return "the car began and did not finish in time"
    if pending.attempts > pending.refusals:
        return f"no answer after {pending.attempts} deliveries"
    if pending.attempts:
        return f"it reached nobody in {pending.attempts} deliveries"
    if place is None:
        return "the car was never online"
    return "the car was offline" if place.offline else "it could not be sent in time"
