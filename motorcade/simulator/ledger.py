"""The delivery ledger: which messages of each car were sent and which the broker acknowledged.

A worker writes its own file into the run folder, again and again and a last time when its cars
have stopped; the audit reads the files of all workers as one account.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from hdrh.histogram import HdrHistogram

from motorcade.fleet.errors import MotorcadeError
from motorcade.simulator.intervals import IntervalSet, Span
from motorcade.simulator.measures import new_histogram

_PATTERN = "ledger-*.json"


class LedgerError(MotorcadeError):
    """A ledger file cannot be read, or two of them contradict each other."""


class BootRecord(msgspec.Struct):
    """One boot of one car: intervals of seq, both ends included."""

    vin: str
    boot: int
    #: On the wire at least once, and acknowledged by the broker as delivered to someone.
    sent: list[Span]
    acked: list[Span]
    #: Never sent: pushed out of the car's buffer, or still waiting there when it stopped.
    dropped: int
    unsent: int
    #: Refused by the broker with a reason code of 0x80 or above.
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


class LedgerFile(msgspec.Struct):
    """What one worker writes."""

    worker: int
    #: Wall-clock milliseconds of the worker's start, of this writing.
    started: int
    written: int
    #: Whether every car had stopped, so that nothing in it will change.
    complete: bool
    cpu_s: float
    counts: dict[str, int]
    boots: list[BootRecord]
    dtcs: list[DtcRecord]
    #: HdrHistograms of microseconds by name, see `measures.Measures`.
    histograms: dict[str, str]


class Boot:
    """One boot of one car while it runs."""

    __slots__ = ("acked", "boot", "dropped", "refused", "sent", "unsent", "vin")

    def __init__(self, vin: str, boot: int) -> None:
        self.vin = vin
        self.boot = boot
        self.sent = IntervalSet()
        self.acked = IntervalSet()
        self.dropped = 0
        self.unsent = 0
        self.refused = 0

    def record(self) -> BootRecord:
        """The boot as it is written."""
        return BootRecord(
            self.vin,
            self.boot,
            self.sent.spans,
            self.acked.spans,
            self.dropped,
            self.unsent,
            self.refused,
        )


def path_of(folder: Path, worker: int, started_ms: int) -> Path:
    """Where a worker writes; one that is started again does not overwrite what the first knew."""
    return folder / f"ledger-{worker}-{started_ms}.json"


def write(path: Path, ledger: LedgerFile) -> None:
    """Write a ledger file atomically: a reader finds the one before or this one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    draft.write_bytes(msgspec.json.encode(ledger))
    draft.replace(path)


@dataclass
class Account:
    """The ledgers of all workers as one: by (vin, boot), with merged counts and histograms."""

    boots: dict[tuple[str, int], BootRecord] = field(default_factory=dict)
    dtcs: list[DtcRecord] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    histograms: dict[str, Any] = field(default_factory=dict)
    workers: set[int] = field(default_factory=set)
    complete: bool = True
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
        try:
            one = msgspec.json.decode(path.read_bytes(), type=LedgerFile)
        except (OSError, msgspec.DecodeError) as error:
            raise LedgerError(f"The ledger {path} cannot be read: {error}.") from error
        _merge(account, one, path)
    return account


def _merge(account: Account, one: LedgerFile, path: Path) -> None:
    for boot in one.boots:
        identity = (boot.vin, boot.boot)
        if identity in account.boots:
            raise LedgerError(f"{path}: {boot.vin} in boot {boot.boot} ran in two workers.")
        account.boots[identity] = boot
    account.dtcs += one.dtcs
    account.workers.add(one.worker)
    account.complete = account.complete and one.complete
    account.cpu_s += one.cpu_s
    for name, count in one.counts.items():
        account.counts[name] = account.counts.get(name, 0) + count
    for name, text in one.histograms.items():
        account.histograms.setdefault(name, new_histogram()).add(HdrHistogram.decode(text))
