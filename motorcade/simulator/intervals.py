"""Sets of message numbers kept as intervals: a car's whole run is a pair of numbers."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator

import numpy as np

from motorcade.fleet.arrays import Ints

Span = tuple[int, int]


class IntervalSet:
    """A set of integers as disjoint, non-adjacent, ascending [first, last] spans, both included."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in sorted(spans):
            self._append(first, last)

    @classmethod
    def of(cls, numbers: Ints | Iterable[int]) -> "IntervalSet":
        """The set of these numbers, in any order, repeated or not."""
        if not isinstance(numbers, np.ndarray):
            numbers = np.fromiter(numbers, dtype=np.int64)
        result = cls()
        if numbers.size:
            ascending = np.unique(numbers)
            breaks = np.flatnonzero(np.diff(ascending) > 1)
            result._firsts = ascending[np.concatenate(([0], breaks + 1))].tolist()
            result._lasts = ascending[np.concatenate((breaks, [-1]))].tolist()
        return result

    def add(self, number: int) -> None:
        """Put a number in; the next one in order, the usual case, costs a comparison."""
        lasts = self._lasts
        if lasts and number == lasts[-1] + 1:
            lasts[-1] = number
            return
        firsts = self._firsts
        at = bisect_right(firsts, number) - 1
        if at >= 0 and number <= lasts[at]:
            return
        joins_left = at >= 0 and number == lasts[at] + 1
        joins_right = at + 1 < len(firsts) and number == firsts[at + 1] - 1
        if joins_left and joins_right:
            lasts[at] = lasts.pop(at + 1)
            firsts.pop(at + 1)
        elif joins_left:
            lasts[at] = number
        elif joins_right:
            firsts[at + 1] = number
        else:
            firsts.insert(at + 1, number)
            lasts.insert(at + 1, number)

    def insert(self, first: int, last: int) -> None:
        """Put every number from `first` to `last` in."""
        if first == last:
            self.add(first)
        else:
            merged = IntervalSet([*self.spans, (first, last)])
            self._firsts, self._lasts = merged._firsts, merged._lasts

    @property
    def spans(self) -> list[Span]:
        return list(zip(self._firsts, self._lasts, strict=True))

    def union(self, other: "IntervalSet") -> "IntervalSet":
        return IntervalSet([*self.spans, *other.spans])

    def difference(self, other: "IntervalSet") -> "IntervalSet":
        """What is here and not in the other."""
        result = IntervalSet()
        holes = other.spans
        at = 0
        for first, last in self.spans:
            start = first
            while at < len(holes) and holes[at][1] < start:
                at += 1
            probe = at
            while probe < len(holes) and holes[probe][0] <= last:
                if holes[probe][0] > start:
                    result._append(start, holes[probe][0] - 1)
                start = holes[probe][1] + 1
                probe += 1
            if start <= last:
                result._append(start, last)
        return result

    def _append(self, first: int, last: int) -> None:
        if self._lasts and first <= self._lasts[-1] + 1:
            self._lasts[-1] = max(self._lasts[-1], last)
        else:
            self._firsts.append(first)
            self._lasts.append(last)

    def __len__(self) -> int:
        return sum(self._lasts) - sum(self._firsts) + len(self._firsts)

    def __bool__(self) -> bool:
        return bool(self._firsts)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._lasts[at]

    def __iter__(self) -> Iterator[int]:
        for first, last in self.spans:
            yield from range(first, last + 1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IntervalSet) and self.spans == other.spans

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"IntervalSet({self.spans})"
