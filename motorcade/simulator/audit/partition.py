"""The account of one partition, batch by batch: what became of every sample of the raw topic.

Pure: columns in, figures out. Partition p of `telemetry`, `telemetry.dlq` and `predictions` derives
from partition p of `telemetry.raw`, so each partition is reconciled on its own and dropped. Memory
is about 20 bytes a message: sources go by place, so that a sample without a readable identity is
accounted for too, and identities are slots of arrays.
"""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from motorcade.fleet.arrays import Bools, Ints
from motorcade.simulator.audit.identities import Column, Identities, Order, first_of_each
from motorcade.simulator.audit.records import (
    PredictionBatch,
    QuarantinedBatch,
    RawBatch,
    RefinedBatch,
)
from motorcade.simulator.measures import encode, new_histogram, record

#: Of a slot (an identity).
_SEEN, _REFINED, _QUARANTINED = 1, 2, 4
#: Of a sample of the raw topic; it is no repeat unless flagged.
_IN_REFINED, _IN_QUARANTINE, _REPEAT = 1, 2, 4
#: Of a record of `telemetry`.
_FIRST_COPY, _PREDICTED = 1, 2
_NO_SLOT = -1
_NEVER = np.iinfo(np.int64).max


@dataclass
class Counts:
    """Figures of a partition that add up over partitions."""

    raw_records: int = 0
    raw: int = 0
    raw_repeats: int = 0
    raw_reordered: int = 0
    raw_unidentified: int = 0
    refined: int = 0
    quarantined: int = 0
    quarantined_records: int = 0
    unaccounted: int = 0
    refined_and_quarantined: int = 0
    invented: int = 0
    refined_repeats: int = 0
    late: int = 0
    reordered: int = 0
    scored: int = 0
    not_scored: int = 0
    unpredicted: int = 0
    predicted_repeats: int = 0

    def add(self, other: "Counts") -> None:
        """Count another partition's too."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass(frozen=True)
class Seen:
    """Identities in the raw topic as runs of numbers, one entry each.

    vin, boot: of the run. first, last: numbers, both included; due_first, due_last: when these
    two were due.
    """

    vin: list[bytes]
    boot: list[int]
    first: list[int]
    last: list[int]
    due_first: list[int]
    due_last: list[int]


@dataclass(frozen=True)
class Part:
    """What came of a partition.

    unidentified: samples without identity, by VIN. driven: event time of the first and the last
    refined message, by VIN. kafka, prediction: histograms from when a message was due, in their
    portable form.
    """

    counts: Counts
    rules: Counter[str]
    seen: Seen
    unidentified: Counter[bytes]
    driven: dict[bytes, tuple[int, int]]
    kafka: str
    prediction: str


@dataclass
class PartitionAccount:
    """Takes a partition's batches: all of the quarantine first, then raw, refined, predictions.

    Attributes:
        first_boot: of this run's cars. A broker that is killed may deliver once more what it had
            saved of an earlier run: refine knows it as a repeat, though its first copy lies before
            the run. It is no repeat, no reorder and no loss of this run.
    """

    first_boot: int = 0
    counts: Counts = field(default_factory=Counts)
    rules: Counter[str] = field(default_factory=Counter)
    unidentified: Counter[bytes] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._identities = Identities()
        self._flags = Column(np.uint8)
        self._digest = Column(np.int64)
        #: Due times relative to the first, in milliseconds: they reach over 24 days.
        self._due = Column(np.int32)
        self._due_base = 0
        #: Digests beyond the first of an identity.
        self._others: dict[int, set[int]] = {}
        self._places = Column(np.int64)
        self._slots = Column(np.int32)
        self._samples = Column(np.uint8)
        self._offsets = Column(np.int64)
        self._refined = Column(np.uint8)
        self._quarantined: set[int] = set()
        self._quarantine: Ints = np.zeros(0, dtype=np.int64)
        self._invented: set[int] = set()
        self._raw_order = Order()
        self._refined_order = Order()
        self._first_time = Column(np.int64, _NEVER)
        self._last_time = Column(np.int64)
        self._kafka = new_histogram()
        self._prediction = new_histogram()

    # -- topics ---------------------------------------------------------------------------------

    def quarantined(self, batch: QuarantinedBatch) -> None:
        """A batch of `telemetry.dlq`; before the first of the raw topic."""
        for place, rule in zip(batch.source.tolist(), batch.rule, strict=True):
            if place not in self._quarantined:
                self._quarantined.add(place)
                self.rules[rule] += 1

    def raw(self, batch: RawBatch) -> None:
        """A batch of `telemetry.raw`."""
        n = len(batch.place)
        if not n:
            return
        if not len(self._places):
            self._quarantine = np.array(sorted(self._quarantined), dtype=np.int64)
        known = batch.identified
        everything = bool(known.all())
        rows = np.arange(n) if everything else np.flatnonzero(known)
        boot, seq = (batch.boot, batch.seq) if everything else (batch.boot[rows], batch.seq[rows])
        vins = batch.vin if everything else [batch.vin[row] for row in rows.tolist()]
        car = self._identities.cars.of(vins, len(rows))
        session = self._identities.sessions(car, boot)
        slot = self._identities.slots_of(session, seq)
        repeat = self._arrive(slot, batch.digest[rows], batch.due[rows])
        earlier = boot < self.first_boot
        fresh = ~(repeat | earlier)
        behind = self._raw_order.behind(car[fresh], boot[fresh], seq[fresh])
        if not everything:
            lost = np.flatnonzero(~known).tolist()
            self.unidentified.update(batch.vin[row] for row in lost)
            self.counts.raw_unidentified += len(lost)

        in_quarantine = _is_in(batch.place, self._quarantine)
        slots = np.full(n, _NO_SLOT, dtype=np.int32)
        slots[rows] = slot
        samples = np.where(in_quarantine, np.uint8(_IN_QUARANTINE), np.uint8(0))
        samples[rows[repeat | earlier]] |= _REPEAT
        self._places.append(batch.place)
        self._slots.append(slots)
        self._samples.append(samples)
        flags = self._flags.values
        flags[slots[in_quarantine & (slots >= 0)]] |= _QUARANTINED
        self.counts.raw_records += n
        self.counts.raw_repeats += int(repeat.sum())
        self.counts.raw_reordered += int(behind.sum())
        # What a broken rule quarantined may hold any due time; it measures nothing.
        timed = (batch.due > 0) & ~in_quarantine
        timed[rows[earlier]] = False
        record(self._kafka, (batch.ingested - batch.due)[timed])

    def refined(self, batch: RefinedBatch) -> None:
        """A batch of `telemetry`."""
        n = len(batch.offset)
        if not n:
            return
        car = self._identities.cars.of(batch.vin, n)
        slot = self._identities.slots_of(self._identities.sessions(car, batch.boot), batch.seq)
        self._grow()
        known = (self._flags.values[slot] & _REFINED) != 0
        again = known | ~first_of_each(slot)
        self._flags.values[slot] |= _REFINED
        at = np.searchsorted(self._places.values, batch.source)
        there = at < len(self._places)
        there[there] = self._places.values[at[there]] == batch.source[there]
        own = np.full(n, _NO_SLOT)
        own[there] = self._slots.values[at[there]]
        # A sample without identity cannot be refined; one that is says something else than it did.
        self._invented.update(batch.source[own != slot].tolist())

        first = first_of_each(batch.source)
        rows = np.flatnonzero(there)
        samples = self._samples.values
        first[rows] &= (samples[at[rows]] & _IN_REFINED) == 0
        samples[at[rows]] |= _IN_REFINED
        self._offsets.append(batch.offset)
        self._refined.append(np.where(first, np.uint8(_FIRST_COPY), np.uint8(0)))
        late = batch.late & first
        behind = self._refined_order.behind(car[first], batch.boot[first], batch.seq[first])
        # Two raw copies of one message may be refined only once, too.
        self.counts.refined_repeats += int((~first | again).sum())
        self.counts.late += int(late.sum())
        self.counts.reordered += int((behind & ~late[first]).sum())
        self._drive(car, batch.time)

    def predictions(self, batch: PredictionBatch) -> None:
        """A batch of `predictions`."""
        at = np.searchsorted(self._offsets.values, batch.source)
        there = at < len(self._offsets)
        there[there] = self._offsets.values[at[there]] == batch.source[there]
        # Refined offsets count up to 2**51, samples' places only from 2**12 times an offset on:
        # negative ones keep the two apart among what was invented.
        self._invented.update((-1 - batch.source[~there]).tolist())
        first = first_of_each(batch.source) & there
        flags = self._refined.values
        first[there] &= (flags[at[there]] & _PREDICTED) == 0
        flags[at[there]] |= _PREDICTED
        scored = int((~np.isnan(batch.score[first])).sum())
        self.counts.scored += scored
        self.counts.not_scored += int(first.sum()) - scored
        self.counts.predicted_repeats += int((there & ~first).sum())
        timed = first & (batch.due > 0)
        record(self._prediction, (batch.ingested - batch.due)[timed])

    # -- the end --------------------------------------------------------------------------------

    def finish(self, *, derived: bool = True) -> Part:
        """The account, when every batch was taken.

        Args:
            derived: whether the topics that derive from the raw one were read.
        """
        counts, flags, samples = self.counts, self._flags.values, self._samples.values
        counts.raw = int(((flags & _SEEN) != 0).sum())
        if derived:
            refined, quarantine = (samples & _IN_REFINED) != 0, (samples & _IN_QUARANTINE) != 0
            self._invented.update(
                np.setdiff1d(sorted(self._quarantined), self._places.values).tolist()
            )
            counts.refined = int(((flags & _REFINED) != 0).sum())
            counts.quarantined = int(((flags & (_REFINED | _QUARANTINED)) == _QUARANTINED).sum())
            counts.quarantined_records = int(quarantine.sum())
            counts.unaccounted = int((samples == 0).sum())
            counts.refined_and_quarantined = int((refined & quarantine).sum())
            counts.invented = len(self._invented)
            counts.unpredicted = int((self._refined.values == _FIRST_COPY).sum())
        return Part(
            counts,
            self.rules,
            self._seen(),
            self.unidentified,
            self._driven(),
            encode(self._kafka),
            encode(self._prediction),
        )

    def _arrive(self, slot: Ints, digest: Ints, due: Ints) -> Bools:
        """Note identities as they come; returns which repeat an earlier one exactly."""
        self._grow()
        flags, digests = self._flags.values, self._digest.values
        new = first_of_each(slot) & ((flags[slot] & _SEEN) == 0)
        fresh = slot[new]
        flags[fresh] |= _SEEN
        digests[fresh] = digest[new]
        self._due_base = self._due_base or int(due.max(initial=0))
        self._due.values[fresh] = np.clip(due[new] - self._due_base, -(2**31), 2**31 - 1)
        repeat = np.zeros(len(slot), dtype=bool)
        for row in np.flatnonzero(~new).tolist():
            number, content = int(slot[row]), int(digest[row])
            if content == int(digests[number]) or content in self._others.get(number, ()):
                repeat[row] = True
            else:
                self._others.setdefault(number, set()).add(content)
        return repeat

    def _grow(self) -> None:
        size = self._identities.slots
        for column in (self._flags, self._digest, self._due):
            column.grow(size)

    def _drive(self, car: Ints, time: Ints) -> None:
        size = len(self._identities.cars)
        self._first_time.grow(size)
        self._last_time.grow(size)
        np.minimum.at(self._first_time.values, car, time)
        np.maximum.at(self._last_time.values, car, time)

    def _driven(self) -> dict[bytes, tuple[int, int]]:
        times = zip(self._first_time.values.tolist(), self._last_time.values.tolist(), strict=True)
        # The columns may be shorter than the cars: what was never refined drove nowhere.
        pairs = zip(self._identities.cars, times, strict=False)
        return {vin: span for vin, span in pairs if span[0] != _NEVER}

    def _seen(self) -> Seen:
        vins, boots = self._identities.names()
        seen = Seen([], [], [], [], [], [])
        due = self._due.values
        for session, first, last in self._identities.spans((self._flags.values & _SEEN) != 0):
            numbers = session.tolist()
            seen.vin.extend(vins[number] for number in numbers)
            seen.boot.extend(boots[number] for number in numbers)
            seen.first.extend(self._identities.seqs(first).tolist())
            seen.last.extend(self._identities.seqs(last).tolist())
            seen.due_first.extend((due[first].astype(np.int64) + self._due_base).tolist())
            seen.due_last.extend((due[last].astype(np.int64) + self._due_base).tolist())
        return seen


def _is_in(values: Ints, ascending: Ints) -> Bools:
    if not len(ascending):
        return np.zeros(len(values), dtype=bool)
    at = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    found: Bools = ascending[at] == values
    return found
