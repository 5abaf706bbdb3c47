"""What the audit reads from each topic, in columns."""

from dataclasses import dataclass

import numpy as np

from motorcade.fleet.arrays import Bools, Floats, Ids, Ints
from motorcade.fleet.messages import Alert, CommandResponse, DiagnosticTroubleCode

#: Offsets stay below 2**48, so a place (partition, offset) is one integer.
_OFFSET_BITS = 48


def place(partition: Ints, offset: Ints) -> Ints:
    """Partition and offset of records as one integer each, ordered by partition, then offset."""
    return (partition.astype(np.int64) << _OFFSET_BITS) | offset


@dataclass(frozen=True)
class RawRecords:
    """`telemetry.raw`, n records.

    place: of the record. vin: key (the id in the MQTT topic). boot, seq, due: from the payload,
    -1 where it holds no identity. digest: 64-bit hash of the payload. ingested: Kafka timestamp,
    wall-clock milliseconds.
    """

    place: Ints
    vin: Ids
    boot: Ints
    seq: Ints
    due: Ints
    digest: Ints
    ingested: Ints

    @property
    def identified(self) -> Bools:
        """Whether a record's payload holds (boot, seq)."""
        return self.seq >= 0


@dataclass(frozen=True)
class RefinedRecords:
    """`telemetry`, n records: source is the place in `telemetry.raw`, late the header's flag."""

    place: Ints
    source: Ints
    vin: Ids
    boot: Ints
    seq: Ints
    time: Ints
    late: Bools


@dataclass(frozen=True)
class QuarantinedRecords:
    """`telemetry.dlq`, n records: place in `telemetry.raw` and the rule that each broke."""

    source: Ints
    rule: tuple[str, ...]


@dataclass(frozen=True)
class PredictionRecords:
    """`predictions`, n records: source is the place in `telemetry`; score is NaN if not scored."""

    source: Ints
    score: Floats
    version: Ints


@dataclass(frozen=True)
class Stamped:
    """When Kafka took a record, wall-clock milliseconds."""

    ingested: int


@dataclass(frozen=True)
class AlertRecord(Stamped):
    """A record of `alerts`."""

    alert: Alert


@dataclass(frozen=True)
class ResponseRecord(Stamped):
    """A record of `commands.status`."""

    response: CommandResponse


@dataclass(frozen=True)
class DtcRecord(Stamped):
    """A record of `vehicle.dtc`."""

    dtc: DiagnosticTroubleCode


@dataclass(frozen=True)
class Claims:
    """What the cars claim of their messages: ranges of seq, first and last inclusive.

    vin: (n,) S17; boot, first, last: (n,) int64.
    """

    vin: Ids
    boot: Ints
    first: Ints
    last: Ints

    def messages(self) -> tuple[Ids, Ints, Ints]:
        """Every message of the ranges: vin, boot and seq."""
        counts = self.last - self.first + 1
        rows = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return self.vin[rows], self.boot[rows], self.first[rows] + within

    def count(self) -> int:
        """How many messages the ranges hold."""
        return int((self.last - self.first + 1).sum())
