"""What the audit reads from each topic: batches of columns, records of one partition in order."""

from collections.abc import Sequence
from dataclasses import dataclass

from motorcade.fleet.arrays import Bools, Floats, Ints
from motorcade.fleet.messages import Alert, CommandResponse, DiagnosticTroubleCode


@dataclass(frozen=True)
class RawBatch:
    """Samples of `telemetry.raw`, n of them.

    place: offset and index within the record, see `motorcade.fleet.source.place`. vin: of the
    record's key, which is the id in the MQTT topic. boot, seq, due: from the payload, -1 where it
    holds no identity. digest: hash of the sample's bytes. ingested: Kafka timestamp, wall-clock
    milliseconds.
    """

    place: Ints
    vin: Sequence[bytes]
    boot: Ints
    seq: Ints
    due: Ints
    digest: Ints
    ingested: Ints

    @property
    def identified(self) -> Bools:
        """Whether a sample holds (boot, seq)."""
        return self.seq >= 0


@dataclass(frozen=True)
class RefinedBatch:
    """Records of `telemetry`: source is the place in `telemetry.raw`, late the header's flag."""

    offset: Ints
    source: Ints
    vin: Sequence[bytes]
    boot: Ints
    seq: Ints
    time: Ints
    late: Bools


@dataclass(frozen=True)
class QuarantinedBatch:
    """Records of `telemetry.dlq`: the place in `telemetry.raw` and the rule that each broke."""

    source: Ints
    rule: Sequence[str]


@dataclass(frozen=True)
class PredictionBatch:
    """Records of `predictions`: source is the offset in `telemetry`; score is NaN if not scored."""

    source: Ints
    score: Floats
    due: Ints
    ingested: Ints


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
