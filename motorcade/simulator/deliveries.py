"""What became of every message of a worker's cars, in columns: which were sent, which acknowledged.

A boot's usual course is one span, 1 … n, which is two numbers in two columns; only a boot that had
an interruption holds more. Cars note what happens in flat lists, which `settle` moves into the
columns for all cars at once.
"""

import numpy as np

from motorcade.fleet.arrays import Ids, Ints
from motorcade.simulator.intervals import IntervalSet
from motorcade.simulator.ledger import BootColumns, SpanColumns

_START = 1024


class SpanBook:
    """Sets of message numbers, one for each boot, that mostly grow at their end."""

    def __init__(self) -> None:
        self._first = np.ones(_START, dtype=np.int64)
        self._last = np.zeros(_START, dtype=np.int64)
        #: What does not join the span in the columns, by boot.
        self._others: dict[int, IntervalSet] = {}
        #: (boot, first, last), (boot, first, last), …: noted, and not yet in the columns.
        self.noted: list[int] = []

    def settle(self, boots: int) -> int:
        """Take in what was noted, for boots 0 to boots-1; returns how many messages it was."""
        if not self.noted:
            return 0
        taken, self.noted = self.noted, []
        boot, first, last = np.array(taken, dtype=np.int64).reshape(-1, 3).T
        self._fit(boots)
        joins = self._last[boot] == first - 1
        # A boot's messages may be here several times; only the next one joins in this pass.
        self._last[boot[joins]] = last[joins]
        rest = np.flatnonzero(~joins)
        for one, a, b in zip(
            boot[rest].tolist(), first[rest].tolist(), last[rest].tolist(), strict=True
        ):
            self._add(one, a, b)
        return int((last - first + 1).sum())

    def _add(self, boot: int, first: int, last: int) -> None:
        end = int(self._last[boot])
        if first == end + 1:
            self._last[boot] = last
        elif end < self._first[boot]:
            self._first[boot], self._last[boot] = first, last
        elif first > end:
            self._other(boot).insert(int(self._first[boot]), end)
            self._first[boot], self._last[boot] = first, last
        else:
            self._other(boot).insert(first, last)

    def _other(self, boot: int) -> IntervalSet:
        return self._others.setdefault(boot, IntervalSet())

    def columns(self, boots: int) -> SpanColumns:
        """Every span of boots 0 to boots-1."""
        self._fit(boots)
        first, last = self._first[:boots], self._last[:boots]
        plain = last >= first
        plain[list(self._others)] = False
        owner = np.flatnonzero(plain)
        rows = [
            (boot, *span)
            for boot, others in self._others.items()
            for span in others.union(
                IntervalSet([(int(self._first[boot]), int(self._last[boot]))])
            ).spans
        ]
        more = np.array(rows, dtype=np.int64).reshape(-1, 3)
        return SpanColumns(
            np.concatenate((owner, more[:, 0])),
            np.concatenate((first[owner], more[:, 1])),
            np.concatenate((last[owner], more[:, 2])),
        )

    def _fit(self, boots: int) -> None:
        if boots > len(self._last):
            more = max(boots, 2 * len(self._last)) - len(self._last)
            self._first = np.concatenate((self._first, np.ones(more, dtype=np.int64)))
            self._last = np.concatenate((self._last, np.zeros(more, dtype=np.int64)))


class Deliveries:
    """The boots of a worker's cars and what became of their messages."""

    def __init__(self) -> None:
        self.sent = SpanBook()
        self.acked = SpanBook()
        #: Sent on purpose in a form that breaks a rule.
        self.garbage = SpanBook()
        self._rows: list[int] = []
        self._boots: list[int] = []
        #: By boot: given up because a buffer was full, still waiting when the car stopped, refused.
        self.dropped: dict[int, int] = {}
        self.unsent: dict[int, int] = {}
        self.refused: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._boots)

    def open(self, row: int, boot: int) -> int:
        """A car starts; returns the boot's number in these books."""
        self._rows.append(row)
        self._boots.append(boot)
        return len(self._boots) - 1

    def settle(self) -> tuple[int, int, int]:
        """Take in what was noted: how many messages were sent, acknowledged, and are garbage."""
        n = len(self)
        return self.sent.settle(n), self.acked.settle(n), self.garbage.settle(n)

    def columns(self, vins: Ids) -> BootColumns:
        """All boots, `vins` being the vehicle ids by row."""
        self.settle()
        n = len(self)
        return BootColumns(
            vin=vins[np.array(self._rows, dtype=np.int64)],
            boot=np.array(self._boots, dtype=np.int64),
            dropped=_column(self.dropped, n),
            unsent=_column(self.unsent, n),
            refused=_column(self.refused, n),
            sent=self.sent.columns(n),
            acked=self.acked.columns(n),
            garbage=self.garbage.columns(n),
        )


def _column(counts: dict[int, int], n: int) -> Ints:
    column = np.zeros(n, dtype=np.int64)
    column[list(counts)] = list(counts.values())
    return column
