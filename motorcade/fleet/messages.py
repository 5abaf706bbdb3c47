"""JSON messages other than telemetry: births and wills, DTCs, commands, alerts, models.

Every class is a msgspec struct; `encode` and `decode` are the only way in and out.
"""

from enum import StrEnum
from typing import TypeVar

import msgspec

from motorcade.fleet.errors import DecodeError


class VehicleStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Retained birth (online) and will (offline) of a car.

    Order is (boot, connection, not online): a late will never buries a newer birth.
    """

    vin: str
    boot: int
    #: Number of the connection within the boot, from 1.
    connection: int
    online: bool
    #: "host:port" of the broker endpoint that the car lives on.
    endpoint: str
    firmware: str = ""


class DiagnosticTroubleCode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A failure as the car's own diagnosis reports it: the ground truth."""

    vin: str
    boot: int
    #: OBD-II code of SAE J2012, such as P0217.
    code: str
    #: Kind of failure, such as coolant_leak.
    kind: str
    #: Event time, milliseconds since 1970.
    time: int
    #: Wall-clock milliseconds at which it should have been sent.
    due: int
    description: str = ""


class CommandRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command to one car; at-least-once, idempotent by id."""

    id: str
    vin: str
    #: What to do, such as driver_warning.
    name: str
    #: Wall-clock milliseconds since 1970.
    issued: int
    #: Wall-clock milliseconds after which the car must not carry it out.
    expires: int
    parameters: dict[str, str] = {}


class CommandState(StrEnum):
    """Outcome of a command; TIMED_OUT is added by the dispatcher, the others by the car."""

    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    REJECTED = "REJECTED"
    TIMED_OUT = "TIMED_OUT"

    @property
    def final(self) -> bool:
        return self is not CommandState.IN_PROGRESS


class CommandResponse(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What became of a command."""

    id: str
    vin: str
    status: CommandState
    #: Wall-clock milliseconds since 1970.
    time: int
    reason: str = ""


class AlertAction(StrEnum):
    RAISED = "RAISED"
    CLEARED = "CLEARED"


class Alert(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An alert raised or cleared.

    The id derives from (vin, kind, first evidence's partition and offset), never from the model.
    """

    id: str
    vin: str
    kind: str
    action: AlertAction
    severity: str
    #: What the driver or the workshop should do.
    advice: str
    #: Partition and offset in `telemetry` of the first evidence.
    evidence_partition: int
    evidence_offset: int
    #: Identity, event time and due time of the deciding telemetry.
    boot: int
    seq: int
    time: int
    due: int
    score: float
    threshold: float
    model: str
    version: int
    signals: list[str]


class AlertState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """State of a car's alert decision after the prediction at `offset` of its partition."""

    vin: str
    #: Offset in `predictions` of the last prediction taken into account.
    offset: int
    #: Anomalous messages in hand: up one when above the threshold, down one when below.
    level: int
    #: Id of the open alert; empty when none is.
    open_alert: str = ""
    #: Partition and offset in `telemetry` of the first evidence since the level left zero.
    evidence_partition: int = -1
    evidence_offset: int = -1
    kind: str = ""


class ModelSlot(StrEnum):
    """What a model is live as: the champion decides, the challenger is only compared with it."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"


class ModelReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version of a model in the store, and what was live before it."""

    name: str
    version: int
    #: Folder of the model's files, below the model store.
    path: str
    #: SHA-256 of the manifest, which holds the SHA-256 of the weights.
    manifest_sha256: str
    replaces: "ModelReference | None" = None


class ModelAnnouncement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which model is live in a slot, on the compacted topic `models` (key = slot)."""

    name: str
    version: int
    #: Folder of the model's files, below the model store.
    path: str
    #: SHA-256 of the manifest, which holds the SHA-256 of the weights.
    manifest_sha256: str
    #: Wall-clock milliseconds since 1970.
    announced: int
    slot: ModelSlot = ModelSlot.CHAMPION
    #: What was live before, so that going back needs nothing else.
    replaces: ModelReference | None = None


Message = TypeVar("Message", bound=msgspec.Struct)

_encoder = msgspec.json.Encoder()


def encode(message: msgspec.Struct) -> bytes:
    """The JSON of a message."""
    return _encoder.encode(message)


def decode(kind: type[Message], payload: bytes) -> Message:
    """Read a message of one kind.

    Raises:
        DecodeError: the payload is not JSON, or lacks, mistypes or does not know a field.
    """
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError(f"Not a {kind.__name__}: {error}.") from error
