"""How far back in Kafka the windows of each car reach: what must be read again to rebuild them."""

from dataclasses import dataclass

import numpy as np

from motorcade.fleet.arrays import Bools, Ints


@dataclass(frozen=True)
class Places:
    """Where n messages stand in Kafka, each (n,) int64.

    partition, offset: of the record. ingested: Kafka's own time of it, milliseconds since 1970.
    """

    partition: Ints
    offset: Ints
    ingested: Ints

    def take(self, rows: Ints | Bools) -> "Places":
        """The messages given by index or by boolean mask."""
        return Places(self.partition[rows], self.offset[rows], self.ingested[rows])


class Reach:
    """The first record that each car's window depends on, by the slot that holds the car.

    A car that was silent for too long by Kafka's clock is a car never heard of: otherwise one that
    never comes again would keep its last window, and all that came after it, for ever. Both follow
    from the records alone, so a process that reads them again judges alike.

    Args:
        rows: of a window.
        silence_ms: time without a message after which a car is forgotten.
        capacity: slots at first.
    """

    def __init__(self, rows: int, silence_ms: int, capacity: int) -> None:
        self._silence_ms = silence_ms
        self._partition = np.full(capacity, -1, dtype=np.int64)
        self._heard = np.zeros(capacity, dtype=np.int64)
        #: Offset of the first message of each row; of the row before it where a row is empty.
        self._first = np.zeros((capacity, rows), dtype=np.int64)

    def grow(self, capacity: int) -> None:
        """Make room for more slots."""
        more = capacity - len(self._partition)
        self._partition = np.r_[self._partition, np.full(more, -1)]
        self._heard = np.r_[self._heard, np.zeros(more, dtype=np.int64)]
        rows = self._first.shape[1]
        self._first = np.concatenate([self._first, np.zeros((more, rows), dtype=np.int64)])

    def heard_of(self, slots: Ints, places: Places) -> Bools:
        """Which cars sent their last message in this partition and not too long ago, shape (n,)."""
        recent = places.ingested - self._heard[slots] <= self._silence_ms
        known: Bools = recent & (self._partition[slots] == places.partition)
        return known

    def take(self, slots: Ints, places: Places, steps: Ints, fresh: Bools, stale: Bools) -> None:
        """Follow windows that moved on; slots are different ones.

        Args:
            slots: (n,) of the messages' cars.
            steps: rows that each window moves up by.
            fresh: windows that begin anew.
            stale: messages that change no window.
        """
        self._heard[slots] = places.ingested
        self._partition[slots] = places.partition
        rows = self._first.shape[1]
        source = np.minimum(np.arange(rows) + steps[:, None], rows - 1)
        first = self._first[slots[:, None], source]
        first[fresh] = places.offset[fresh, None]
        new = (steps > 0) & ~stale
        first[new, -1] = places.offset[new]
        self._first[slots[~stale]] = first[~stale]

    def since(self, slots: Ints) -> dict[int, int]:
        """By partition, the offset of the first record that any of these slots depends on."""
        order = np.lexsort((self._first[slots, 0], self._partition[slots]))
        partition, first = self._partition[slots][order], self._first[slots, 0][order]
        begins = np.r_[True, partition[1:] != partition[:-1]] if len(slots) else []
        rows = np.flatnonzero(begins)
        return dict(zip(partition[rows].tolist(), first[rows].tolist(), strict=True))

    def partitions(self, slots: Ints) -> Ints:
        """Partition of each slot's car."""
        found: Ints = self._partition[slots]
        return found

    def silent(self, slots: Ints) -> Bools:
        """Which slots' cars were silent for too long, beside the last heard of their partition."""
        partition, heard = self._partition[slots], self._heard[slots]
        newest = np.zeros(int(partition.max(initial=-1)) + 1, dtype=np.int64)
        np.maximum.at(newest, partition, heard)
        quiet: Bools = newest[partition] - heard > self._silence_ms
        return quiet
