"""When each car's next message is due: wall-clock times that lateness never moves."""

from collections.abc import Iterator

import numpy as np

from motorcade.fleet.arrays import Floats, Ints

#: Parts of the interval, each of which belongs to neighbours in the fleet.
_PARTS = 128
_NEVER = np.iinfo(np.int64).max


class Schedule:
    """Due times of a block's rows, milliseconds since 1970.

    A message keeps the time at which it should have been sent, however late the tick is that
    sends it, and none is left out: otherwise a slow generator would hide its own delay
    (coordinated omission).

    Neighbours in the fleet are due one after another: what lies side by side in memory, here, in
    the kernel and in the broker, is then used together (docs/profile.md). Their groups take turns
    over the interval in van der Corput's order, so a part of the fleet spreads over it, too.

    Args:
        interval_ms: time between two messages of a car.
        origin_ms: where the phases count from: the run's start.
        cars: of the whole fleet, which then spreads evenly.
    """

    def __init__(self, interval_ms: int, origin_ms: int, cars: int) -> None:
        self.interval_ms = interval_ms
        self._cars = max(cars, _PARTS)
        self._origin_ms = origin_ms
        self._next = np.empty(0, dtype=np.int64)
        #: Each row's place within the interval, 0 to 1.
        self._place = np.empty(0, dtype=np.float64)

    def grow(self, indices: Ints) -> None:
        """Add rows for cars of these fleet indices, shape (n,); none of them is running."""
        group, rest = np.divmod(indices * _PARTS, self._cars)
        place: Floats = (_van_der_corput(group) + rest / (self._cars * _PARTS)) % 1.0
        self._place = np.concatenate((self._place, place))
        self._next = np.concatenate((self._next, np.full(len(indices), _NEVER)))

    def start(self, row: int, now_ms: int) -> None:
        """Let a row run: first due at its own phase of the interval, at `now_ms` or after."""
        self._next[row] = self._from(np.array([row]), now_ms)[0]

    def stop(self, rows: int | Ints) -> None:
        """Let a row, or several, send no more."""
        self._next[rows] = _NEVER

    def running(self) -> int:
        """How many rows run."""
        return int(np.count_nonzero(self._next != _NEVER))

    def change(self, interval_ms: int, now_ms: int) -> None:
        """Take another interval from `now_ms` on; all that was due before has been taken."""
        self.interval_ms = interval_ms
        rows = np.flatnonzero(self._next != _NEVER)
        self._next[rows] = self._from(rows, now_ms)

    def take(self, now_ms: int) -> Iterator[tuple[Ints, Ints]]:
        """All that is due by `now_ms`, oldest round first: (rows, due times), each shape (n,).

        A row that is late by several intervals comes once in each of several rounds.
        """
        while True:
            rows = np.flatnonzero(self._next <= now_ms)
            if not len(rows):
                return
            due = self._next[rows]
            self._next[rows] += self.interval_ms
            yield rows, due

    def ahead(self, until_ms: int) -> tuple[Ints, Ints]:
        """What is due next by `until_ms`, once a row, and not taken: (rows, due times)."""
        rows = np.flatnonzero(self._next <= until_ms)
        return rows, self._next[rows]

    def _from(self, rows: Ints, now_ms: int) -> Ints:
        phase = np.floor(self._place[rows] * self.interval_ms).astype(np.int64)
        rounds = -((self._origin_ms + phase - now_ms) // self.interval_ms)
        first: Ints = self._origin_ms + phase + rounds * self.interval_ms
        return first


def _van_der_corput(numbers: Ints) -> Floats:
    """Each number's binary digits behind the point, in reverse: 1/2, 1/4, 3/4, 1/8, …"""
    places: Floats = np.zeros(len(numbers))
    digit = 0.5
    while numbers.any():
        places += (numbers & 1) * digit
        numbers, digit = numbers >> 1, digit / 2
    return places
