"""Windows of each car's recent past: one implementation for training and for scoring.

A window ends in one message and holds the samples of its car before it. It never mixes cars or
boots and never crosses a silence that is longer than allowed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Bools, Ids, Ints
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.reach import Places, Reach

Floats32 = NDArray[np.float32]

_FIRST_SLOTS = 64


class WindowSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a window is.

    With `every_ms` the samples stand on a regular grid of event time: a sample is the mean of what
    the messages of its bucket [k·every, (k+1)·every) carried, the last sample that of its bucket so
    far, its message included; an empty bucket is a row of NaN. Without, each message is a sample.
    """

    #: Samples in a window.
    rows: int = 1
    #: Event time of one sample, milliseconds; 0: each message is a sample.
    every_ms: int = 0
    #: A longer silence, another boot or another car begins a new window; event time, milliseconds.
    max_gap_ms: int = 900_000

    @property
    def stateless(self) -> bool:
        """Whether a window is its message alone."""
        return self.rows == 1 and self.every_ms == 0


@dataclass(frozen=True)
class Windows:
    """n windows, each ending in one message.

    values: (n, rows, features) in the catalogue's order and units, NaN where absent and in the rows
    before the window's beginning: windows fill from the end.
    vin: (n,) S17. boot, time: (n,) int64 of the last message, milliseconds.
    filled: (n,) rows from the window's beginning on, 1 to `rows`.
    """

    values: Floats32
    vin: Ids
    boot: Ints
    time: Ints
    filled: Ints

    def __len__(self) -> int:
        return len(self.vin)

    def take(self, rows: Ints | Bools) -> "Windows":
        """The windows given by index or by boolean mask."""
        return Windows(
            self.values[rows], self.vin[rows], self.boot[rows], self.time[rows], self.filled[rows]
        )

    @classmethod
    def joined(cls, parts: "Sequence[Windows]") -> "Windows":
        """One batch of several; at least one."""
        if len(parts) == 1:
            return parts[0]
        fields = ("values", "vin", "boot", "time", "filled")
        return cls(*(np.concatenate([getattr(part, field) for part in parts]) for field in fields))


class WindowState:
    """The recent past of every car that was pushed; give it each partition's records in order.

    What comes out depends on the order of each car's messages alone, to the last bit, and not on
    how they are cut into batches.

    A message that is older than its car's last one (late, or of an earlier boot) gets a window of
    its own and changes nothing. An event time that jumps back by more than the allowed gap within
    a boot begins a new window.

    Args:
        spec: what a window is.
        features: columns of a window.
        silence_ms: to follow which records the windows depend on, and to forget a car that was
            silent for this long by Kafka's clock; see `Reach`. None: neither.
    """

    def __init__(self, spec: WindowSpec, features: int, silence_ms: int | None = None) -> None:
        self.spec = spec
        self._features = features
        self._slots: dict[bytes, int] = {}
        self._free: list[int] = []
        self._reach = None if silence_ms is None else Reach(spec.rows, silence_ms, _FIRST_SLOTS)
        self._allocate(_FIRST_SLOTS)

    def __len__(self) -> int:
        """Cars whose past is held."""
        return len(self._slots)

    def push(
        self,
        columns: TelemetryColumns,
        features: Ints,
        keep: Bools | None = None,
        places: Places | None = None,
    ) -> Windows:
        """Take messages in, and give the window that ends in each of them.

        Args:
            columns: n messages, each car's in order.
            features: the columns of `columns.values` that make up a window, shape (features,).
            keep: which messages' windows are wanted, shape (n,); None: all. The others are taken in
                all the same.
            places: where the messages stand in Kafka; needed to follow what windows depend on.

        Returns:
            One window per wanted message, in the order of the messages.
        """
        values = columns.values[:, features]
        if self.spec.stateless:
            kept = slice(None) if keep is None else keep
            alone = values[kept].astype(np.float32)[:, None, :]
            ones = np.ones(len(alone), dtype=np.int64)
            return Windows(alone, columns.vin[kept], columns.boot[kept], columns.time[kept], ones)
        wanted = np.arange(len(columns)) if keep is None else np.flatnonzero(keep)
        vin, boot, time = columns.vin[wanted], columns.boot[wanted], columns.time[wanted]
        out = np.empty((len(wanted), self.spec.rows, self._features), dtype=np.float32)
        filled = np.empty(len(wanted), dtype=np.int64)
        place = np.full(len(columns), -1, dtype=np.int64)
        place[wanted] = np.arange(len(wanted))
        slots = self._slots_of(columns.vin)
        for rows in _rounds(slots):
            to = place[rows]
            shown = to >= 0
            out[to[shown]], filled[to[shown]] = self._round(
                slots[rows],
                values[rows],
                columns.boot[rows],
                columns.time[rows],
                None if places is None else places.take(rows),
                shown,
            )
        return Windows(out, vin, boot, time, filled)

    def forget(self, vins: Iterable[bytes]) -> None:
        """Drop the past of some cars, as when their partition has gone to another scorer."""
        for vin in vins:
            slot = self._slots.pop(vin, None)
            if slot is not None:
                self._known[slot] = False
                self._free.append(slot)

    def since(self) -> dict[int, int]:
        """By partition, the offset of the first record that any window depends on.

        Cars whose next message begins a new window anyway are dropped first.
        """
        assert self._reach is not None
        held = self._held()
        silent = self._reach.silent(held)
        self._drop(held[silent])
        return self._reach.since(held[~silent])

    def forget_partition(self, partition: int) -> None:
        """Drop the past of the cars of a partition."""
        assert self._reach is not None
        held = self._held()
        self._drop(held[self._reach.partitions(held) == partition])

    def _held(self) -> Ints:
        return np.fromiter(self._slots.values(), np.int64, len(self._slots))

    def _drop(self, slots: Ints) -> None:
        if len(slots):
            gone = set(slots.tolist())
            self.forget([vin for vin, slot in self._slots.items() if slot in gone])

    def _allocate(self, capacity: int) -> None:
        rows, features = self.spec.rows, self._features
        self._known = np.zeros(capacity, dtype=bool)
        self._boot = np.zeros(capacity, dtype=np.int64)
        self._time = np.zeros(capacity, dtype=np.int64)
        self._bucket = np.zeros(capacity, dtype=np.int64)
        self._filled = np.zeros(capacity, dtype=np.int64)
        #: Sum and count of the present values of the current bucket.
        self._sum = np.zeros((capacity, features))
        self._count = np.zeros((capacity, features), dtype=np.int64)
        self._window = np.full((capacity, rows, features), np.nan, dtype=np.float32)
        self._free += range(len(self._slots), capacity)

    def _grow(self) -> None:
        old = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        capacity = len(self._known)
        self._allocate(2 * capacity)
        for name, value in old.items():
            getattr(self, name)[:capacity] = value
        if self._reach is not None:
            self._reach.grow(2 * capacity)

    def _slots_of(self, vins: Ids) -> Ints:
        names, row = np.unique(vins, return_inverse=True)
        slots = np.empty(len(names), dtype=np.int64)
        for position, name in enumerate(names.tolist()):
            slot = self._slots.get(name)
            if slot is None:
                if not self._free:
                    self._grow()
                slot = self._slots[name] = self._free.pop()
            slots[position] = slot
        return slots[row]

    def _round(
        self,
        slots: Ints,
        values: NDArray[np.float64],
        boot: Ints,
        time: Ints,
        places: Places | None,
        shown: Bools,
    ) -> tuple[Floats32, Ints]:
        """At most one message per car: (windows, filled) of those that are shown."""
        spec = self.spec
        known, last_boot, last = self._known[slots], self._boot[slots], self._time[slots]
        if self._reach is not None:
            assert places is not None
            known &= self._reach.heard_of(slots, places)
        same = known & (boot == last_boot)
        far = np.abs(time - last) > spec.max_gap_ms
        stale = known & (boot < last_boot) | same & ~far & (time < last)
        fresh = ~stale & (~same | far)

        old = self._bucket[slots]
        bucket = time // spec.every_ms if spec.every_ms else old + 1
        steps = np.clip(np.where(fresh | stale, spec.rows, bucket - old), 0, spec.rows)
        if self._reach is not None and places is not None:
            self._reach.take(slots, places, steps, fresh, stale)
        new = steps > 0
        present = np.isfinite(values)
        total = np.where(new[:, None], 0.0, self._sum[slots]) + np.where(present, values, 0.0)
        count = np.where(new[:, None], 0, self._count[slots]) + present
        last_row = np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
        filled = np.where(
            fresh | stale, 1, np.minimum(self._filled[slots] + steps, spec.rows)
        ).astype(np.int64)

        lasting = ~stale
        kept = slots[lasting]
        self._known[kept] = True
        self._boot[kept] = boot[lasting]
        self._time[kept] = time[lasting]
        self._bucket[kept] = bucket[lasting]
        self._filled[kept] = filled[lasting]
        self._sum[kept] = total[lasting]
        self._count[kept] = count[lasting]
        moved = new & lasting
        self._shift(slots[moved], steps[moved])
        self._window[kept, -1] = last_row[lasting]
        windows: Floats32 = self._window[slots[shown]]
        alone = stale[shown]
        if alone.any():
            windows[alone, :-1] = np.nan
            windows[alone, -1] = last_row[shown][alone]
        return windows, filled[shown]

    def _shift(self, slots: Ints, steps: Ints) -> None:
        """Move the cars' windows up by some rows, NaN below."""
        rows = self.spec.rows
        source = np.arange(rows) + steps[:, None]
        windows = self._window[slots[:, None], np.minimum(source, rows - 1)]
        windows[source >= rows] = np.nan
        self._window[slots] = windows


def _rounds(slots: Ints) -> list[Ints]:
    """Positions of the first message of each car, then of the second, and so on."""
    order = np.argsort(slots, kind="stable")
    ordered = slots[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]] if len(slots) else np.empty(0, dtype=bool)
    starts = np.flatnonzero(first)
    number = np.arange(len(slots)) - np.repeat(starts, np.diff(np.r_[starts, len(slots)]))
    by_round = np.argsort(number, kind="stable")
    ends = np.cumsum(np.bincount(number)) if len(slots) else np.empty(0, dtype=np.int64)
    return [order[part] for part in np.split(by_round, ends[:-1])] if len(slots) else []
