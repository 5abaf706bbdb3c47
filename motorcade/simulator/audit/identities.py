"""Message identities (vin, boot, seq) of one partition as small integers, batch by batch.

Each identity gets a slot, so that what is known of it stands in arrays: some ten bytes a message,
whatever its VIN, boot and number. Slots come in pages of consecutive numbers of one boot.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Bools, Ints

#: Numbers of a page: 64 of them, so that a stranger's wild numbers cost little each.
_PAGE_BITS = 6
_PAGE = 1 << _PAGE_BITS
#: Bits of a page's number within its boot; numbers stay below 2**30.
_PAGES_BITS = 24
_CHUNK_PAGES = 1 << 14

K = TypeVar("K")


class Ranks(dict[K, int], Generic[K]):
    """Gives each key the next integer, from 0."""

    def __missing__(self, key: K) -> int:
        rank = self[key] = len(self)
        return rank

    def of(self, keys: Iterable[K], n: int) -> Ints:
        """Ranks of n keys, shape (n,)."""
        return np.fromiter(map(self.__getitem__, keys), dtype=np.int64, count=n)


class Column:
    """A NumPy column that grows; `fill` is what stands where nothing was written."""

    def __init__(self, dtype: Any, fill: int = 0) -> None:
        self._fill = fill
        self._data = np.full(1024, fill, dtype=dtype)
        self._size = 0

    @property
    def values(self) -> NDArray[Any]:
        """What it holds, as a view that is valid until it grows."""
        return self._data[: self._size]

    def grow(self, size: int) -> None:
        """Make it at least this long."""
        if size > len(self._data):
            data = np.full(max(size, len(self._data) * 3 // 2), self._fill, self._data.dtype)
            data[: self._size] = self.values
            self._data = data
        self._size = max(self._size, size)

    def append(self, values: NDArray[Any]) -> None:
        """Put values at its end."""
        at = self._size
        self.grow(at + len(values))
        self._data[at : self._size] = values

    def __len__(self) -> int:
        return self._size


class Identities:
    """Cars, boots and slots of one partition."""

    def __init__(self) -> None:
        self.cars: Ranks[bytes] = Ranks()
        self._boots: Ranks[int] = Ranks()
        self._sessions: Ranks[int] = Ranks()
        self._pages: Ranks[int] = Ranks()

    @property
    def slots(self) -> int:
        """How many slots there are."""
        return len(self._pages) << _PAGE_BITS

    def sessions(self, car: Ints, boot: Ints) -> Ints:
        """A small integer for each (car, boot); car is its rank."""
        boots = self._boots.of(boot.tolist(), len(boot))
        return self._sessions.of(((car << 32) | boots).tolist(), len(boot))

    def slots_of(self, session: Ints, seq: Ints) -> Ints:
        """The slot of each identity; new ones are made."""
        keys = (session << _PAGES_BITS) | (seq >> _PAGE_BITS)
        return (self._pages.of(keys.tolist(), len(keys)) << _PAGE_BITS) | (seq & (_PAGE - 1))

    def names(self) -> tuple[list[bytes], list[int]]:
        """VIN and boot of each session, by its number."""
        cars, boots = list(self.cars), list(self._boots)
        keys = list(self._sessions)
        return [cars[k >> 32] for k in keys], [boots[k & 0xFFFFFFFF] for k in keys]

    def spans(self, present: Bools) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Runs of consecutive numbers that are present, by session: (session, slots of the first,
        slots of the last), in chunks; a run may be cut where a page ends.

        Args:
            present: (slots,).
        """
        keys = np.fromiter(self._pages, dtype=np.int64, count=len(self._pages))
        bits = np.zeros((len(keys), _PAGE), dtype=bool)
        bits.reshape(-1)[: len(present)] = present
        for start in range(0, len(keys), _CHUNK_PAGES):
            chunk = bits[start : start + _CHUNK_PAGES]
            edges = np.diff(chunk.astype(np.int8), axis=1, prepend=0, append=0)
            page, first = np.nonzero(edges == 1)
            _, after = np.nonzero(edges == -1)
            base = (page + start) << _PAGE_BITS
            yield keys[page + start] >> _PAGES_BITS, base | first, base | (after - 1)

    def seqs(self, slot: Ints) -> Ints:
        """The number that a slot stands for."""
        keys = np.fromiter(self._pages, dtype=np.int64, count=len(self._pages))
        pages: Ints = keys[slot >> _PAGE_BITS] & ((1 << _PAGES_BITS) - 1)
        return (pages << _PAGE_BITS) | (slot & (_PAGE - 1))


def first_of_each(values: Ints) -> Bools:
    """Which entries are the first of their value."""
    result = np.zeros(len(values), dtype=bool)
    result[np.unique(values, return_index=True)[1]] = True
    return result


class Order:
    """Finds what stands behind a newer message of its car; state is the newest of each car."""

    def __init__(self) -> None:
        self._boot = Column(np.int64, -1)
        self._seq = Column(np.int64, -1)

    def behind(self, car: Ints, boot: Ints, seq: Ints) -> Bools:
        """Which of these messages, in order, stand behind a newer one."""
        n = len(car)
        if not n:
            return np.zeros(0, dtype=bool)
        size = int(car.max()) + 1
        self._boot.grow(size)
        self._seq.grow(size)
        newest_boot, newest_seq = self._boot.values, self._seq.values
        # Each car's newest so far stands before its messages of this batch.
        cars = np.unique(car)
        cars_all = np.concatenate([cars, car])
        boot_all = np.concatenate([newest_boot[cars], boot])
        seq_all = np.concatenate([newest_seq[cars], seq])
        position = np.lexsort((seq_all, boot_all))
        rank = np.empty(len(position), dtype=np.int64)
        ascending = np.zeros(len(position), dtype=np.int64)
        ascending[1:] = (np.diff(boot_all[position]) != 0) | (np.diff(seq_all[position]) != 0)
        rank[position] = np.cumsum(ascending)
        by_car = np.argsort(cars_all, kind="stable")
        key = (cars_all[by_car] << 32) | rank[by_car]
        highest = np.maximum.accumulate(key)
        behind = np.zeros(len(key), dtype=bool)
        behind[by_car] = key < highest
        # The last of each car holds the car's newest.
        last = np.flatnonzero(np.append(np.diff(cars_all[by_car]) != 0, True))
        newest = position[np.searchsorted(rank[position], highest[last] & 0xFFFFFFFF)]
        newest_boot[cars], newest_seq[cars] = boot_all[newest], seq_all[newest]
        return behind[len(cars) :]
