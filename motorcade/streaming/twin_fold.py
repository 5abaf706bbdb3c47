"""From records of seven topics to the rows of the twin: only the latest of each key.

Between two writes a car may send many messages; the fold keeps the highest order of each row.
Pure: no clock, no I/O.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from sqlalchemy import Table

from motorcade.fleet.arrays import Ids, Ints
from motorcade.fleet.columns import HEADER, schema_id_of
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
#: Records decoded at once: their columns stay in the processor's cache.
_CHUNK = 10_000
_json = msgspec.json.Encoder()


class _Entry(NamedTuple):
    order: tuple[int, ...]
    row: store.Row


class _Batch(NamedTuple):
    """Records that decoded, in columns of the same length: what orders them, and they themselves.

    vin: (n,) S17. boot, seq, offset: (n,) int64.
    """

    vin: Ids
    boot: Ints
    seq: Ints
    offset: Ints
    records: list[bytes]


class Fold:
    """The latest of everything since it was last taken."""

    def __init__(
        self,
        telemetry: TelemetryAvro,
        predictions: PredictionAvro,
        malformed: Malformed,
    ) -> None:
        self._telemetry = telemetry
        self._predictions = predictions
        self._malformed = malformed
        #: Telemetry and predictions wait for each other: columns cost by the batch.
        self._waiting: dict[str, list[Record]] = {TELEMETRY: [], PREDICTIONS: []}
        self._entries: dict[Table, dict[tuple[str, ...], _Entry]] = {t: {} for t in store.ORDER}
        self._schemas: set[int] = set()

    def add(self, records: Sequence[Record]) -> None:
        """Take in records of one topic; what does not decode is counted, reported, passed over."""
        topic = records[0].topic
        if topic in self._waiting:
            self._waiting[topic] += records
        else:
            for record in records:
                self._add_message(topic, record)

    def take(self) -> dict[Table, list[store.Row]]:
        """The rows to write, distinct by key; the fold is empty afterwards."""
        rows = {t: [entry.row for entry in found.values()] for t, found in self._entries.items()}
        rows[store.vehicle] = self._latest(TELEMETRY, self._decode_telemetry)
        rows[store.health] = self._latest(PREDICTIONS, self._decode_predictions)
        rows[store.schema] = [(number, self._schema(number)) for number in sorted(self._schemas)]
        self._entries = {table: {} for table in store.ORDER}
        self._waiting = {topic: [] for topic in self._waiting}
        self._schemas.clear()
        return {table: found for table, found in rows.items() if found}

    def _latest(
        self, topic: str, decode: Callable[[Sequence[Record]], list[_Batch]]
    ) -> list[store.Row]:
        """The record of each car that is highest in order, by car."""
        waiting = self._waiting[topic]
        batches = [
            batch
            for first in range(0, len(waiting), _CHUNK)
            for batch in self._decode(waiting[first : first + _CHUNK], decode)
        ]
        if not batches:
            return []
        vin, boot, seq, offset = (
            np.concatenate(parts) for parts in [*zip(*batches, strict=True)][:4]
        )
        records = [record for batch in batches for record in batch.records]
        order = np.lexsort((offset, seq, boot, vin))
        last = order[np.append(vin[order[1:]] != vin[order[:-1]], True)]
        return list(
            zip(
                vin[last].astype(str).tolist(),
                boot[last].tolist(),
                seq[last].tolist(),
                map(records.__getitem__, last.tolist()),
                offset[last].tolist(),
                strict=True,
            )
        )

    def _decode(
        self, records: Sequence[Record], decode: Callable[[Sequence[Record]], list[_Batch]]
    ) -> list[_Batch]:
        """Decode a batch at once; when one of it does not decode, its halves, and so on."""
        try:
            return decode(records)
        except (DecodeError, TypeError, UnicodeDecodeError) as error:
            if len(records) == 1:
                self._malformed(records[0].topic, error, records[0])
                return []
            middle = len(records) // 2
            return self._decode(records[:middle], decode) + self._decode(records[middle:], decode)

    def _decode_telemetry(self, records: Sequence[Record]) -> list[_Batch]:
        values = [record.value for record in records]
        headers = {value[:HEADER] for value in values}
        if len(headers) > 1:
            groups = ([r for r in records if r.value[:HEADER] == header] for header in headers)
            return [batch for group in groups for batch in self._decode_telemetry(group)]
        number = schema_id_of(headers.pop())
        if not self._telemetry.knows(number):
            raise DecodeError(f"The schema {number} is not known.")
        batch = _batch(self._telemetry.decode(values, number), records, values)
        self._schemas.add(number)
        return [batch]

    def _decode_predictions(self, records: Sequence[Record]) -> list[_Batch]:
        values = [record.value for record in records]
        columns = self._predictions.decode(values)
        self._predictions.check_details(values, columns)
        return [_batch(columns, records, values)]

    def _schema(self, number: int) -> str:
        layout = self._telemetry.layout(number)
        assert layout is not None
        return _text(layout.schema)

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
            entries[key] = _Entry(order, tuple(row[column.name] for column in table.columns))


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


def _text(value: object) -> str:
    return _json.encode(value).decode()


def _batch(
    columns: TelemetryColumns | PredictionColumns, records: Sequence[Record], values: list[bytes]
) -> _Batch:
    letters = np.ascontiguousarray(columns.vin).view(np.uint8)
    if ((letters == 0) | (letters > 127)).any():
        raise DecodeError("The vehicle id is not 17 characters of ASCII.")
    offset = np.fromiter((record.offset for record in records), np.int64, len(records))
    return _Batch(columns.vin, columns.boot, columns.seq, offset, values)


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
