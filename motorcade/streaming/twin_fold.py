"""From records of six topics to the rows of the twin: only the latest of each key, decoded late.

Between two writes a car may send many messages; the fold keeps the highest order of each row and
builds only the rows that are written. Pure: no clock, no I/O.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from sqlalchemy import Table

from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.columns import schema_id_of
from motorcade.fleet.errors import DecodeError
from motorcade.fleet.messages import (
    Alert,
    CommandRequest,
    CommandResponse,
    DiagnosticTroubleCode,
    VehicleStatus,
    decode,
)
from motorcade.fleet.predictions import PredictionAvro, PredictionColumns
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns
from motorcade.fleet.topics import (
    ALERTS,
    COMMANDS,
    COMMANDS_STATUS,
    DTC,
    PREDICTIONS,
    STATUS,
    TELEMETRY,
)
from motorcade.runtime.kafka import Record
from motorcade.streaming import twin_store as store
from motorcade.streaming.malformed import Malformed

#: What the twin reads.
TOPICS = (TELEMETRY, PREDICTIONS, ALERTS, STATUS, DTC, COMMANDS, COMMANDS_STATUS)

#: Above every offset; a final state's rank falls with its offset, so that the first one stays.
_FIRST_FINAL = 1 << 62

_MESSAGES: dict[str, type[msgspec.Struct]] = {
    ALERTS: Alert,
    STATUS: VehicleStatus,
    DTC: DiagnosticTroubleCode,
    COMMANDS: CommandRequest,
    COMMANDS_STATUS: CommandResponse,
}
_json = msgspec.json.Encoder()


class _Rows(Protocol):
    """A batch that builds the row of one of its positions when it is asked."""

    records: Sequence[Record]

    def row(self, position: int) -> dict[str, Any]: ...


class _Entry(NamedTuple):
    order: tuple[int, ...]
    rows: _Rows
    position: int


class _TelemetryRows:
    def __init__(
        self, catalogue: Catalogue, columns: TelemetryColumns, records: Sequence[Record]
    ) -> None:
        self._names = catalogue.names
        self._scale = 10.0 ** np.array([signal.precision for signal in catalogue.signals])
        self._columns = columns
        self.records = records

    @cached_property
    def _values(self) -> list[list[float]]:
        """Signals as the car sent them: Avro's floats rounded to their precision."""
        rounded: list[list[float]] = (
            np.rint(self._columns.values * self._scale) / self._scale
        ).tolist()
        return rounded

    @cached_property
    def _identities(self) -> list[dict[str, Any]]:
        return _identities(self._columns, self.records)

    def row(self, position: int) -> dict[str, Any]:
        values = zip(self._names, self._values[position], strict=True)
        signals = {name: value for name, value in values if value == value}  # noqa: PLR0124 - NaN
        row = self._identities[position]
        row["signals"] = _text(signals)
        return row


class _HealthRows:
    def __init__(
        self, codec: PredictionAvro, columns: PredictionColumns, records: Sequence[Record]
    ) -> None:
        self._codec = codec
        self._columns = columns
        self.records = records

    @cached_property
    def _identities(self) -> list[dict[str, Any]]:
        return _identities(self._columns, self.records)

    @cached_property
    def _rest(self) -> list[int]:
        assert self._columns.rest is not None
        found: list[int] = self._columns.rest.tolist()
        return found

    def row(self, position: int) -> dict[str, Any]:
        columns = self._columns
        details = self._codec.details(self.records[position].value, self._rest[position])
        contributions = [
            {"signal": signal, "share": round(share, 4)} for signal, share in details.contributions
        ]
        row = self._identities[position]
        row |= {
            "score": _finite(columns.score[position]),
            "threshold": _finite(columns.threshold[position]),
            "coverage": float(columns.coverage[position]),
            "model": details.model,
            "version": int(columns.version[position]),
            "reason": details.reason,
            "contributions": _text(contributions),
        }
        return row


class _OneRow:
    def __init__(self, row: dict[str, Any], record: Record) -> None:
        self._row = row
        self.records: Sequence[Record] = (record,)

    def row(self, position: int) -> dict[str, Any]:  # noqa: ARG002 - there is one
        return self._row


class Fold:
    """The latest of everything since it was last taken."""

    def __init__(
        self,
        catalogue: Catalogue,
        telemetry: TelemetryAvro,
        predictions: PredictionAvro,
        malformed: Malformed,
    ) -> None:
        self._catalogue = catalogue
        self._telemetry = telemetry
        self._predictions = predictions
        self._malformed = malformed
        self._entries: dict[Table, dict[tuple[str, ...], _Entry]] = {t: {} for t in store.ORDER}

    def add(self, records: Sequence[Record]) -> None:
        """Take in records of one topic; what does not decode is counted, reported, passed over."""
        topic = records[0].topic
        if topic == TELEMETRY:
            self._decode(records, self._add_telemetry)
        elif topic == PREDICTIONS:
            self._decode(records, self._add_predictions)
        else:
            for record in records:
                self._add_message(topic, record)

    def take(self) -> dict[Table, list[dict[str, Any]]]:
        """The rows to write, distinct by key; the fold is empty afterwards."""
        rows = {t: self._build(t, entries) for t, entries in self._entries.items() if entries}
        for entries in self._entries.values():
            entries.clear()
        return rows

    def _build(
        self, table: Table, entries: Mapping[tuple[str, ...], _Entry]
    ) -> list[dict[str, Any]]:
        found = []
        for entry in entries.values():
            try:
                found.append(entry.rows.row(entry.position))
            except DecodeError as error:
                self._malformed(table.name, error, entry.rows.records[entry.position])
        return found

    def _decode(self, records: Sequence[Record], add: Callable[[Sequence[Record]], None]) -> None:
        """Add a batch at once; when one of it does not decode, its halves, and so on."""
        try:
            add(records)
        except (DecodeError, TypeError, UnicodeDecodeError) as error:
            if len(records) == 1:
                self._malformed(records[0].topic, error, records[0])
                return
            middle = len(records) // 2
            self._decode(records[:middle], add)
            self._decode(records[middle:], add)

    def _add_telemetry(self, records: Sequence[Record]) -> None:
        ids = np.array([schema_id_of(record.value) for record in records])
        for number in np.unique(ids).tolist():
            if not self._telemetry.knows(number):
                raise DecodeError(f"The schema {number} is not known.")
            mine = [records[row] for row in np.flatnonzero(ids == number).tolist()]
            columns = self._telemetry.decode([record.value for record in mine], number)
            rows = _TelemetryRows(self._catalogue, columns, mine)
            self._latest(store.vehicle, mine, columns, rows)

    def _add_predictions(self, records: Sequence[Record]) -> None:
        columns = self._predictions.decode([record.value for record in records])
        rows = _HealthRows(self._predictions, columns, records)
        self._latest(store.health, records, columns, rows)

    def _latest(self, table: Table, records: Sequence[Record], columns: Any, rows: _Rows) -> None:
        entries = self._entries[table]
        identity = zip(
            columns.vin.tolist(), columns.boot.tolist(), columns.seq.tolist(), records, strict=True
        )
        best: dict[bytes, tuple[int, int, int, int]] = {}
        for position, (vin, boot, seq, record) in enumerate(identity):
            order = (boot, seq, record.offset, position)
            if vin not in best or order > best[vin]:
                best[vin] = order
        for vin, (boot, seq, offset, position) in best.items():
            key = (vin.decode(),)
            if key not in entries or (boot, seq, offset) > entries[key].order:
                entries[key] = _Entry((boot, seq, offset), rows, position)

    def _add_message(self, topic: str, record: Record) -> None:
        try:
            message: Any = decode(_MESSAGES[topic], record.value)
        except (DecodeError, TypeError) as error:
            self._malformed(topic, error, record)
            return
        if message.vin.encode() != record.key:
            self._malformed(topic, f"vin {message.vin!r} is not the key {record.key!r}", record)
            return
        row = {"vin": message.vin, "record_offset": record.offset, **_FIELDS[topic](message)}
        table = _TABLES[topic]
        if topic == COMMANDS_STATUS:
            row["rank"] = _FIRST_FINAL - record.offset if message.status.final else record.offset
        problem = _cannot_store(table, row)
        if problem:
            self._malformed(topic, problem, record)
            return
        order = tuple(int(row[name]) for name in store.ORDER[table])
        key = tuple(str(row[column.name]) for column in table.primary_key.columns)
        entries = self._entries[table]
        if key not in entries or order > entries[key].order:
            entries[key] = _Entry(order, _OneRow(row, record), 0)


_TABLES: dict[str, Table] = {
    ALERTS: store.alert,
    STATUS: store.connection,
    DTC: store.dtc,
    COMMANDS: store.command,
    COMMANDS_STATUS: store.command_status,
}


def _cannot_store(table: Table, row: dict[str, Any]) -> str:
    """Why a database would refuse a row; a car's payload may hold anything that is valid JSON."""
    for name, value in row.items():
        if isinstance(value, str):
            longest = getattr(table.c[name].type, "length", None)
            if longest is not None and len(value) > longest:
                return f"{name} is longer than {longest} characters"
            if "\0" in value:
                return f"{name} holds a NUL character"
        elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            return f"{name} is beyond 64 bits"
    return ""


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _text(value: object) -> str:
    return _json.encode(value).decode()


def _identities(columns: Any, records: Sequence[Record]) -> list[dict[str, Any]]:
    """Of each position of a batch, what both of a car's latest rows begin with."""
    names = ("vin", "boot", "seq", "time", "due", "record_offset")
    rows = zip(
        columns.vin.astype(str).tolist(),
        *(getattr(columns, name).tolist() for name in names[1:-1]),
        (record.offset for record in records),
        strict=True,
    )
    return [dict(zip(names, row, strict=True)) for row in rows]


def _connection_fields(message: VehicleStatus) -> dict[str, Any]:
    return {
        "boot": message.boot,
        "connection": message.connection,
        "offline": not message.online,
        "endpoint": message.endpoint,
        "firmware": message.firmware,
    }


def _alert_fields(message: Alert) -> dict[str, Any]:
    fields = msgspec.structs.asdict(message)
    return fields | {"action": message.action.value, "signals": _text(message.signals)}


def _command_fields(message: CommandRequest) -> dict[str, Any]:
    fields = msgspec.structs.asdict(message)
    return fields | {"parameters": _text(message.parameters)}


def _status_fields(message: CommandResponse) -> dict[str, Any]:
    return {
        "id": message.id,
        "status": message.status.value,
        "time": message.time,
        "reason": message.reason,
    }


_FIELDS: dict[str, Callable[[Any], dict[str, Any]]] = {
    ALERTS: _alert_fields,
    STATUS: _connection_fields,
    DTC: msgspec.structs.asdict,
    COMMANDS: _command_fields,
    COMMANDS_STATUS: _status_fields,
}
