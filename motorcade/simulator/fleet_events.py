"""What can be done to a whole fleet while it drives, and which cars it hits.

The master sends an event to every worker with the moment at which it begins; each worker decides
for its own cars. Who is hit depends on the fleet's seed, the event and the car's index alone, so
the same event hits the same cars whatever the number of workers.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Annotated, Any, TypeAlias

import msgspec
import numpy as np

from motorcade.fleet.arrays import Bools, Ints
from motorcade.fleet.errors import MotorcadeError
from motorcade.simulator.chance import car_keys, uniforms

Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]

#: Streams of chance, one a kind, so that the cars of one event say nothing about another's.
_DROP, _OFFLINE, _GARBAGE, _GROUP = 900, 901, 902, 903


class FleetEventError(MotorcadeError):
    """A fleet event was not understood, or cannot be."""


class Drop(msgspec.Struct, frozen=True, tag_field="kind", tag="drop", forbid_unknown_fields=True):
    """The TCP connections of the chosen cars are cut at once; they come back with back-off."""

    share: Share = 1.0


class Offline(
    msgspec.Struct, frozen=True, tag_field="kind", tag="offline", forbid_unknown_fields=True
):
    """A tunnel: group g loses its connection at g x stagger_s for `seconds`.

    The cars measure on, keep what they cannot send within the bound of their buffer, and forward
    it when they are back.
    """

    seconds: Seconds
    share: Share = 1.0
    groups: Annotated[int, msgspec.Meta(ge=1)] = 1
    stagger_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class Garbage(
    msgspec.Struct, frozen=True, tag_field="kind", tag="garbage", forbid_unknown_fields=True
):
    """Bad firmware: for `seconds` the chosen cars send payloads that break rules."""

    seconds: Seconds
    share: Share = 0.01


class Pace(msgspec.Struct, frozen=True, tag_field="kind", tag="pace", forbid_unknown_fields=True):
    """Another interval between two messages, for the whole fleet, from now on."""

    interval_s: Seconds


FleetEvent: TypeAlias = Drop | Offline | Garbage | Pace


def parse_event(body: bytes) -> FleetEvent:
    """Read an event as it is posted: a JSON object with its `kind`.

    Raises:
        FleetEventError: it is not one; the message tells which field is wrong.
    """
    try:
        event: FleetEvent = msgspec.json.decode(body, type=FleetEvent)
    except msgspec.DecodeError as error:
        raise _not_understood(error) from error
    return event


def event_of(values: dict[str, Any]) -> FleetEvent:
    """Read an event from plain values.

    Raises:
        FleetEventError: they are not one.
    """
    try:
        event: FleetEvent = msgspec.convert(values, type=FleetEvent)
    except msgspec.ValidationError as error:
        raise _not_understood(error) from error
    return event


def values_of(event: FleetEvent) -> dict[str, Any]:
    """The event in plain values, `kind` included."""
    values: dict[str, Any] = msgspec.to_builtins(event)
    return values


def chosen(event: Drop | Offline | Garbage, seed: int, indices: Ints) -> Bools:
    """Which cars the event hits, shape (n,), by fleet index."""
    stream = {Drop: _DROP, Offline: _OFFLINE, Garbage: _GARBAGE}[type(event)]
    hit: Bools = uniforms(car_keys(seed, indices), 0, stream) < event.share
    return hit


def groups_of(event: Offline, seed: int, indices: Ints) -> Ints:
    """The group of each car, 0 to groups-1, shape (n,)."""
    return (uniforms(car_keys(seed, indices), 0, _GROUP) * event.groups).astype(np.int64)


class Disturbances:
    """Events that have been announced, until their moment comes."""

    def __init__(self) -> None:
        #: (wall-clock ms, order of arrival, event, group).
        self._coming: list[tuple[int, int, FleetEvent, int]] = []
        self._known = 0

    def add(self, event: FleetEvent, at_ms: int) -> None:
        """An event begins at `at_ms`, wall clock; a tunnel does for each group in its turn."""
        groups = event.groups if isinstance(event, Offline) else 1
        stagger_ms = event.stagger_s * 1000 if isinstance(event, Offline) else 0.0
        for group in range(groups):
            self._known += 1
            heappush(self._coming, (at_ms + round(group * stagger_ms), self._known, event, group))

    def take(self, now_ms: int) -> Iterator[tuple[FleetEvent, int]]:
        """What has begun by `now_ms` and was not taken before: the event, and which group."""
        while self._coming and self._coming[0][0] <= now_ms:
            _, _, event, group = heappop(self._coming)
            yield event, group


def _not_understood(error: Exception) -> FleetEventError:
    return FleetEventError(
        f"The fleet event was not understood: {error}.",
        'Send {"kind": "drop", "share": 1.0}, {"kind": "offline", "share": 0.2, "groups": 4, '
        '"seconds": 120, "stagger_s": 30}, {"kind": "garbage", "share": 0.01, "seconds": 60} '
        'or {"kind": "pace", "interval_s": 5.0}.',
    )
