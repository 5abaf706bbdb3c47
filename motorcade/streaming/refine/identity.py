"""Message identity (vin, boot, seq): first arrivals, late ones, exact repeats and conflicts.

What is kept for a car is the sequence numbers seen, as a few intervals for each of its last boots,
and for the partition the content hashes of its last messages. A repeat is compared by its hash. A
repeat whose first arrival is older than that cannot be told from a conflict and is quarantined:
never lost, never counted twice.
"""

from bisect import bisect_right
from collections.abc import Sequence
from enum import Enum

import numpy as np

from motorcade.fleet.arrays import Ints

#: Boots remembered for a car, the newest ones.
BOOTS = 4
#: Intervals of sequence numbers remembered for a boot; beyond, the oldest gap counts as seen.
INTERVALS = 32
#: Cars that columns have room for at first.
_GROWTH = 1024


class Verdict(Enum):
    """What a message's identity says."""

    FIRST = "first"
    #: First arrival after a newer message of the same car.
    LATE = "late"
    #: The same content under the same identity.
    REPEAT = "repeat"
    #: Other content under the same identity.
    CONFLICT = "conflict"
    #: The identity was seen, or may have been, too long ago to compare the content.
    INCOMPARABLE = "incomparable"


class _Boot:
    """Sequence numbers seen since one start of a car: [first, last] minus the gaps.

    `starts` and `ends` are the intervals seen, ascending; without a gap there is one.
    """

    __slots__ = ("boot", "ends", "starts")

    def __init__(self, boot: int, seq: int) -> None:
        self.boot = boot
        self.starts = [seq]
        self.ends = [seq]

    @property
    def last(self) -> int:
        return self.ends[-1]

    def seen(self, seq: int) -> bool:
        at = bisect_right(self.starts, seq) - 1
        return at >= 0 and seq <= self.ends[at]

    def add(self, seq: int) -> None:
        """Note a number that was not seen."""
        starts, ends = self.starts, self.ends
        at = bisect_right(starts, seq)
        joins_before = at > 0 and ends[at - 1] == seq - 1
        joins_after = at < len(starts) and starts[at] == seq + 1
        if joins_before and joins_after:
            ends[at - 1] = ends[at]
            del starts[at], ends[at]
        elif joins_before:
            ends[at - 1] = seq
        elif joins_after:
            starts[at] = seq
        else:
            starts.insert(at, seq)
            ends.insert(at, seq)
            if len(starts) > INTERVALS:
                del starts[1], ends[0]


class _Hashes:
    """Content hashes of the last messages of a partition: a ring of columns."""

    __slots__ = ("_boot", "_car", "_content", "_next", "_seq", "_size")

    def __init__(self, size: int) -> None:
        self._size = size
        self._next = 0
        self._car = np.full(size, -1, dtype=np.int64)
        self._boot, self._seq, self._content = (np.zeros(size, dtype=np.int64) for _ in range(3))

    def add(self, car: int, boot: int, seq: int, content: int) -> None:
        at = self._next
        self._car[at], self._boot[at], self._seq[at] = car, boot, seq
        self._content[at] = content
        self._next = (at + 1) % self._size

    def extend(self, car: Ints, boot: Ints, seq: Ints, content: Ints) -> None:
        """Add columns, the oldest first; only the last `size` stay."""
        n = min(len(car), self._size)
        at = (self._next + np.arange(n)) % self._size
        self._car[at], self._boot[at], self._seq[at] = car[-n:], boot[-n:], seq[-n:]
        self._content[at] = content[-n:]
        self._next = (self._next + n) % self._size

    def find(self, car: int, boot: int, seq: int) -> int | None:
        """The content hash of a message; None if it is not among the last ones."""
        found = np.flatnonzero((self._car == car) & (self._seq == seq) & (self._boot == boot))
        return int(self._content[found[0]]) if len(found) else None


class Identities:
    """The identities of one partition: about 250 bytes a car, and 32 a message of the window.

    Nearly every message is the next one of its car's newest boot, and nearly every car has one
    boot without a gap: that much is kept in columns by the car's number and judged in columns.
    Other cars have their boots as objects beside it.

    Args:
        window: messages whose content hash is kept.
    """

    __slots__ = ("_boot", "_first", "_hashes", "_last", "_numbers", "_odd")

    def __init__(self, window: int) -> None:
        self._numbers: dict[bytes, int] = {}
        #: Of each car's newest boot: its moment, and the highest number seen.
        self._boot, self._last = np.zeros(_GROWTH, dtype=np.int64), np.zeros(_GROWTH, np.int64)
        #: First number seen of cars with one boot and no gap.
        self._first = np.zeros(_GROWTH, dtype=np.int64)
        #: Boots of all other cars, the newest last; `_last` may be ahead of its last interval.
        self._odd: dict[int, list[_Boot]] = {}
        self._hashes = _Hashes(window)

    def __len__(self) -> int:
        """Cars known."""
        return len(self._numbers)

    def judge(self, vin: bytes, boot: int, seq: int, content: int) -> Verdict:
        """Judge a message that keeps to all other rules, and remember it if it is new.

        Args:
            content: hash of the payload.
        """
        car = self._numbers.get(vin)
        if car is None:
            car = self._number(vin)
            self._put(car, [_Boot(boot, seq)])
            return self._new(car, boot, seq, content, Verdict.FIRST)
        boots = self._boots_of(car)
        verdict = self._judge(car, boots, boot, seq, content)
        self._put(car, boots)
        return verdict

    def judge_all(
        self, vins: Sequence[bytes], boot: Ints, seq: Ints, content: Ints
    ) -> list[Verdict]:
        """Judge n messages in their order, as `judge` does one after the other."""
        numbers = self._numbers
        cars = np.fromiter((numbers.get(vin, -1) for vin in vins), np.int64, len(vins))
        order = np.argsort(cars, kind="stable")
        car, b, s = cars[order], boot[order], seq[order]
        again = np.zeros(len(car), dtype=bool)
        again[1:] = car[1:] == car[:-1]
        # What each message must follow on: the car's message before it, here or earlier.
        before_boot, before_seq = self._boot[car], self._last[car]
        before_boot[1:][again[1:]] = b[:-1][again[1:]]
        before_seq[1:][again[1:]] = s[:-1][again[1:]]
        next_ = (b == before_boot) & (s == before_seq + 1) & (car >= 0)
        plain = ~np.isin(cars, car[~next_]) if not next_.all() else np.ones(len(car), dtype=bool)
        verdicts = [Verdict.FIRST] * len(vins)
        for at in np.flatnonzero(~plain).tolist():
            verdicts[at] = self.judge(vins[at], int(boot[at]), int(seq[at]), int(content[at]))
        self._last[cars[plain]] = seq[plain]  # of several of one car the last one stays
        self._hashes.extend(cars[plain], boot[plain], seq[plain], content[plain])
        return verdicts

    def _number(self, vin: bytes) -> int:
        car = self._numbers[vin] = len(self._numbers)
        if car >= len(self._boot):
            for name in ("_boot", "_last", "_first"):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
        return car

    def _boots_of(self, car: int) -> list[_Boot]:
        last = int(self._last[car])
        boots = self._odd.get(car)
        if boots is None:
            boots = [_Boot(int(self._boot[car]), int(self._first[car]))]
        boots[-1].ends[-1] = last
        return boots

    def _put(self, car: int, boots: list[_Boot]) -> None:
        newest = boots[-1]
        self._boot[car], self._last[car] = newest.boot, newest.last
        self._first[car] = newest.starts[0]
        if len(boots) > 1 or len(newest.starts) > 1:
            self._odd[car] = boots
        else:
            self._odd.pop(car, None)

    def _judge(self, car: int, boots: list[_Boot], boot: int, seq: int, content: int) -> Verdict:
        newest = boots[-1]
        if boot == newest.boot:
            if seq > newest.last:
                newest.add(seq)
                return self._new(car, boot, seq, content, Verdict.FIRST)
            if newest.seen(seq):
                return self._compare(car, boot, seq, content)
            newest.add(seq)
            return self._new(car, boot, seq, content, Verdict.LATE)
        if boot > newest.boot:
            boots.append(_Boot(boot, seq))
            if len(boots) > BOOTS:
                del boots[0]
            return self._new(car, boot, seq, content, Verdict.FIRST)
        return self._older_boot(boots, car, boot, seq, content)

    def _older_boot(
        self, boots: list[_Boot], car: int, boot: int, seq: int, content: int
    ) -> Verdict:
        at = bisect_right([known.boot for known in boots], boot) - 1
        if at >= 0 and boots[at].boot == boot:
            if boots[at].seen(seq):
                return self._compare(car, boot, seq, content)
            boots[at].add(seq)
        elif len(boots) == BOOTS:
            if at < 0:  # older than all that are remembered
                return self._compare(car, boot, seq, content)
            boots.insert(at + 1, _Boot(boot, seq))
            del boots[0]
        else:
            boots.insert(at + 1, _Boot(boot, seq))
        return self._new(car, boot, seq, content, Verdict.LATE)

    def _new(self, car: int, boot: int, seq: int, content: int, verdict: Verdict) -> Verdict:
        self._hashes.add(car, boot, seq, content)
        return verdict

    def _compare(self, car: int, boot: int, seq: int, content: int) -> Verdict:
        first = self._hashes.find(car, boot, seq)
        if first is None:
            return Verdict.INCOMPARABLE
        return Verdict.REPEAT if first == content else Verdict.CONFLICT
