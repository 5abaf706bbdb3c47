"""From records of six topics to the rows of the twin: only the latest of each key, decoded late.

Between two writes a car may send many messages; the fold keeps the highest order of each row and
builds only the rows that are written. Pure: no clock, no I/O.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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


class _Entry(NamedTuple):
    order: tuple[int, ...]
    build: Callable[[], dict[str, Any]]


class Fold:
    """The latest of everything since it was last taken."""

    def __init__(
        self,
        catalogue: Catalogue,
        telemetry: TelemetryAvro,
        predictions: PredictionAvro,
        malformed: Malformed,
    ) -> None:
        self._names = catalogue.names
        self._precision = [signal.precision for signal in catalogue.signals]
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
        rows = {
            table: [entry.build() for entry in entries.values()]
            for table, entries in self._entries.items()
            if entries
        }
        for entries in self._entries.values():
            entries.clear()
        return rows

    def _decode(self, records: Sequence[Record], add: Callable[[Sequence[Record]], None]) -> None:
        """Add a batch at once; when one of it does not decode, its halves, and so on."""
        try:
            add(records)
        except (DecodeError, TypeError) as error:
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
            self._latest(store.vehicle, mine, columns, self._vehicle_row)

    def _add_predictions(self, records: Sequence[Record]) -> None:
        columns = self._predictions.decode([record.value for record in records])
        self._latest(store.health, records, columns, self._health_row)

    def _latest(
        self,
        table: Table,
        records: Sequence[Record],
        columns: Any,
        row: Callable[[Any, int, Record], dict[str, Any]],
    ) -> None:
        entries = self._entries[table]
        identity = zip(
            columns.vin.tolist(), columns.boot.tolist(), columns.seq.tolist(), records, strict=True
        )
        best: dict[bytes, tuple[int, int, int, int]] = {}
        for position, (vin, boot, seq, record) in enumerate(identity):
            order = (boot, seq, record.offset, position)
            if vin not in best or order > best[vin]:
                best[vin] = order
        for vin, (*order, position) in best.items():
            key = (vin.decode(),)
            if key not in entries or tuple(order) > entries[key].order:
                build = _bind(row, columns, position, records[position])
                entries[key] = _Entry(tuple(order), build)

    def _vehicle_row(self, columns: TelemetryColumns, row: int, record: Record) -> dict[str, Any]:
        values = columns.values[row].tolist()
        signals = {
            name: round(value, digits)
            for name, value, digits in zip(self._names, values, self._precision, strict=True)
            if not math.isnan(value)  # absent
        }
        return _identity(columns, row, record) | {"signals": _text(signals)}

    def _health_row(self, columns: PredictionColumns, row: int, record: Record) -> dict[str, Any]:
        full = self._predictions.decode_one(record.value)
        contributions = [
            {"signal": part["signal"], "share": round(part["share"], 4)}
            for part in full["contributions"]
        ]
        return _identity(columns, row, record) | {
            "score": _finite(columns.score[row]),
            "threshold": _finite(columns.threshold[row]),
            "coverage": float(columns.coverage[row]),
            "model": full["model"],
            "version": int(columns.version[row]),
            "reason": full["reason"],
            "contributions": _text(contributions),
        }

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
        if not all(_fits(value) for value in row.values()):
            self._malformed(topic, "an integer is beyond 64 bits", record)
            return
        order = tuple(int(row[name]) for name in store.ORDER[table])
        key = tuple(str(row[column.name]) for column in table.primary_key.columns)
        entries = self._entries[table]
        if key not in entries or order > entries[key].order:
            entries[key] = _Entry(order, lambda: row)


_TABLES: dict[str, Table] = {
    ALERTS: store.alert,
    STATUS: store.connection,
    DTC: store.dtc,
    COMMANDS: store.command,
    COMMANDS_STATUS: store.command_status,
}


def _bind(function: Callable[..., dict[str, Any]], *arguments: Any) -> Callable[[], dict[str, Any]]:
    return lambda: function(*arguments)


def _fits(value: object) -> bool:
    return not isinstance(value, int) or -(1 << 63) <= value < 1 << 63


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _text(value: object) -> str:
    return _json.encode(value).decode()


def _identity(columns: Any, row: int, record: Record) -> dict[str, Any]:
    return {
        "vin": columns.vin[row].decode(),
        "boot": int(columns.boot[row]),
        "seq": int(columns.seq[row]),
        "time": int(columns.time[row]),
        "due": int(columns.due[row]),
        "record_offset": record.offset,
    }


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
