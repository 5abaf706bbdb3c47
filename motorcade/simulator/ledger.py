"""The delivery ledger: which messages of each car were sent and which the broker acknowledged.

A worker writes its own file into the run folder, again and again and a last time when its cars
have stopped; the audit reads the files of all workers as one account. Boots and spans are columns
of fixed width, so a hundred thousand cars are written and read in a moment.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

from motorcade.fleet.arrays import Ids, Ints
from motorcade.fleet.errors import MotorcadeError
from motorcade.simulator.intervals import IntervalSet, Span
from motorcade.simulator.measures import new_histogram

_PATTERN = "ledger-*.msgpack"


class LedgerError(MotorcadeError):
    """A ledger file cannot be read, or two of them contradict each other."""


@dataclass(frozen=True)
class SpanColumns:
    """Intervals of seq, both ends included, shape (m,); several may belong to one boot.

    owner: position of the boot in the boots' columns.
    """

    owner: Ints
    first: Ints
    last: Ints

    def __len__(self) -> int:
        return len(self.owner)

    def by_owner(self, boots: int) -> list[list[Span]]:
        """The spans of boots 0 to boots-1."""
        found: list[list[Span]] = [[] for _ in range(boots)]
        for owner, first, last in zip(
            self.owner.tolist(), self.first.tolist(), self.last.tolist(), strict=True
        ):
            found[owner].append((first, last))
        return found


@dataclass(frozen=True)
class BootColumns:
    """Boots of cars, shape (n,) each: every start of a car is one.

    sent: on the wire at least once. acked: acknowledged by the broker as delivered to someone.
    garbage: sent in a form that breaks a rule, as a fleet event wanted it.
    dropped: how many were never sent, pushed out of the car's buffer. unsent: how many still
    waited there when the car stopped. refused: how many the broker refused (0x80 and above).
    """

    vin: Ids
    boot: Ints
    dropped: Ints
    unsent: Ints
    refused: Ints
    sent: SpanColumns
    acked: SpanColumns
    garbage: SpanColumns

    def __len__(self) -> int:
        return len(self.boot)

    def records(self) -> "list[BootRecord]":
        """The boots one by one."""
        return [
            BootRecord(vin.decode("ascii"), *rest)
            for vin, *rest in zip(
                self.vin.tolist(),
                self.boot.tolist(),
                self.sent.by_owner(len(self)),
                self.acked.by_owner(len(self)),
                self.garbage.by_owner(len(self)),
                self.dropped.tolist(),
                self.unsent.tolist(),
                self.refused.tolist(),
                strict=True,
            )
        ]


class BootRecord(msgspec.Struct):
    """One boot of one car, as `BootColumns` hold it; intervals of seq, both ends included."""

    vin: str
    boot: int
    sent: list[Span]
    acked: list[Span]
    garbage: list[Span]
    dropped: int
    unsent: int
    refused: int


class DtcRecord(msgspec.Struct):
    """A diagnostic trouble code that a car published."""

    vin: str
    boot: int
    code: str
    kind: str
    #: Event time, milliseconds since 1970.
    time: int
    due: int
    acked: bool


@dataclass
class LedgerFile:
    """What one worker writes."""

    worker: int
    #: Wall-clock milliseconds of the worker's start, of this writing.
    started: int
    written: int
    #: Whether every car had stopped, so that nothing in it will change.
    complete: bool
    cpu_s: float
    counts: dict[str, int]
    boots: BootColumns
    dtcs: list[DtcRecord]
    #: HdrHistograms of microseconds by name, see `measures.Measures`.
    histograms: dict[str, str]


class _Spans(msgspec.Struct):
    owner: bytes
    first: bytes
    last: bytes


class _Boots(msgspec.Struct):
    vin: bytes
    boot: bytes
    dropped: bytes
    unsent: bytes
    refused: bytes
    sent: _Spans
    acked: _Spans
    garbage: _Spans


class _Document(msgspec.Struct):
    """A ledger file as it is on disk: columns as little-endian bytes."""

    worker: int
    started: int
    written: int
    complete: bool
    cpu_s: float
    counts: dict[str, int]
    boots: _Boots
    dtcs: list[DtcRecord]
    histograms: dict[str, str]


def path_of(folder: Path, worker: int, started_ms: int) -> Path:
    """Where a worker writes; one that is started again does not overwrite what the first knew."""
    return folder / f"ledger-{worker}-{started_ms}.msgpack"


def write(path: Path, ledger: LedgerFile) -> None:
    """Write a ledger file atomically: a reader finds the one before or this one."""
    boots = ledger.boots
    document = _Document(
        worker=ledger.worker,
        started=ledger.started,
        written=ledger.written,
        complete=ledger.complete,
        cpu_s=ledger.cpu_s,
        counts=ledger.counts,
        boots=_Boots(
            vin=boots.vin.astype("S17").tobytes(),
            boot=_bytes(boots.boot),
            dropped=_bytes(boots.dropped),
            unsent=_bytes(boots.unsent),
            refused=_bytes(boots.refused),
            sent=_span_bytes(boots.sent),
            acked=_span_bytes(boots.acked),
            garbage=_span_bytes(boots.garbage),
        ),
        dtcs=ledger.dtcs,
        histograms=ledger.histograms,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    draft.write_bytes(msgspec.msgpack.encode(document))
    draft.replace(path)


@dataclass
class Account:
    """The ledgers of all workers as one: by (vin, boot), with merged counts and histograms."""

    boots: dict[tuple[str, int], BootRecord] = field(default_factory=dict)
    dtcs: list[DtcRecord] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    histograms: dict[str, Any] = field(default_factory=dict)
    workers: set[int] = field(default_factory=set)
    #: Workers that had not written their last: cars still ran when they did.
    unfinished: set[int] = field(default_factory=set)
    cpu_s: float = 0.0

    def acknowledged(self) -> Iterator[tuple[str, int, IntervalSet]]:
        """(vin, boot, acknowledged seqs) of every boot."""
        for (vin, boot), one in self.boots.items():
            yield vin, boot, IntervalSet(one.acked)

    def sent(self) -> Iterator[tuple[str, int, IntervalSet]]:
        """(vin, boot, seqs that were on the wire) of every boot."""
        for (vin, boot), one in self.boots.items():
            yield vin, boot, IntervalSet(one.sent)


def load(folder: Path) -> Account:
    """Read every ledger in a run folder.

    Raises:
        LedgerError: there is none, one cannot be read, or two workers ran the same car's boot.
    """
    paths = sorted(folder.glob(_PATTERN))
    if not paths:
        raise LedgerError(f"There is no ledger in {folder}.", "Did a simulator worker run there?")
    account = Account()
    for path in paths:
        _merge(account, _read(path), path)
    return account


def _merge(account: Account, one: LedgerFile, path: Path) -> None:
    for boot in one.boots.records():
        identity = (boot.vin, boot.boot)
        if identity in account.boots:
            raise LedgerError(f"{path}: {boot.vin} in boot {boot.boot} ran in two workers.")
        account.boots[identity] = boot
    account.dtcs += one.dtcs
    account.workers.add(one.worker)
    if not one.complete:
        account.unfinished.add(one.worker)
    account.cpu_s += one.cpu_s
    for name, count in one.counts.items():
        account.counts[name] = account.counts.get(name, 0) + count
    for name, text in one.histograms.items():
        account.histograms.setdefault(name, new_histogram()).add(HdrHistogram.decode(text))


def _read(path: Path) -> LedgerFile:
    try:
        one = msgspec.msgpack.decode(path.read_bytes(), type=_Document)
        boots = BootColumns(
            vin=np.frombuffer(one.boots.vin, dtype="S17"),
            boot=_ints(one.boots.boot),
            dropped=_ints(one.boots.dropped),
            unsent=_ints(one.boots.unsent),
            refused=_ints(one.boots.refused),
            sent=_span_columns(one.boots.sent),
            acked=_span_columns(one.boots.acked),
            garbage=_span_columns(one.boots.garbage),
        )
    except (OSError, msgspec.DecodeError, ValueError) as error:
        raise LedgerError(f"The ledger {path} cannot be read: {error}.") from error
    return LedgerFile(
        one.worker,
        one.started,
        one.written,
        one.complete,
        one.cpu_s,
        one.counts,
        boots,
        one.dtcs,
        one.histograms,
    )


def _bytes(column: Ints) -> bytes:
    return column.astype("<i8").tobytes()


def _ints(data: bytes) -> Ints:
    column: NDArray[np.int64] = np.frombuffer(data, dtype="<i8").astype(np.int64)
    return column


def _span_bytes(spans: SpanColumns) -> _Spans:
    return _Spans(_bytes(spans.owner), _bytes(spans.first), _bytes(spans.last))


def _span_columns(spans: _Spans) -> SpanColumns:
    return SpanColumns(_ints(spans.owner), _ints(spans.first), _ints(spans.last))
