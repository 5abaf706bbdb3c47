"""Reads the topics of a run into columns, up to the ends at the time of the call."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from motorcade.fleet import topics
from motorcade.fleet.arrays import Ints
from motorcade.fleet.avro import PREDICTIONS_SUBJECT, TELEMETRY_SUBJECT
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.errors import DecodeError
from motorcade.fleet.messages import (
    Alert,
    CommandRequest,
    CommandResponse,
    DiagnosticTroubleCode,
    Message,
    decode,
)
from motorcade.fleet.predictions import PredictionAvro
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.source import source_of
from motorcade.fleet.telemetry import TelemetryAvro
from motorcade.runtime.kafka import Record, read_all
from motorcade.runtime.registry import schema_id
from motorcade.simulator.audit.records import (
    AlertRecord,
    DtcRecord,
    PredictionRecords,
    QuarantinedRecords,
    RawRecords,
    RefinedRecords,
    ResponseRecord,
    place,
)

#: Dead-letter header that names the broken rule.
_RULE_HEADER = "__connect.errors.class.name"

Progress = Callable[[int], None]


class _Identity(msgspec.Struct, gc=False):
    """The identity alone: unlike refine, the audit reads it from messages that break a rule."""

    boot: int
    seq: int
    due: int = -1


async def read_raw(settings: ProcessSettings, progress: Progress) -> RawRecords:
    """`telemetry.raw` in full."""
    decoder = msgspec.json.Decoder(_Identity)
    vins: list[bytes] = []
    numbers: list[tuple[int, int, int, int, int, int, int]] = []
    async for batch in read_all(settings, [topics.RAW]):
        for record in batch:
            boot = seq = due = -1
            try:
                identity = decoder.decode(record.value or b"")
                if (
                    0 <= identity.boot < 2**62
                    and 0 < identity.seq < 2**30
                    and abs(identity.due) < 2**62
                ):
                    boot, seq, due = identity.boot, identity.seq, identity.due
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass  # without identity; accounted for by its place
            vins.append(record.key or b"")
            numbers.append(
                (
                    record.partition,
                    record.offset,
                    boot,
                    seq,
                    due,
                    hash(record.value),
                    record.timestamp,
                )
            )
        progress(len(batch))
    columns = np.array(numbers, dtype=np.int64).reshape(len(numbers), 7).T
    partition, offset, boots, seqs, dues, digest, ingested = columns
    return RawRecords(
        place(partition, offset),
        np.array(vins, dtype="S17"),
        boots,
        seqs,
        dues,
        digest,
        ingested,
    )


async def read_refined(
    settings: ProcessSettings, catalogue: Catalogue, progress: Progress
) -> RefinedRecords:
    """`telemetry` in full."""
    codec = TelemetryAvro(catalogue, await schema_id(settings, catalogue, TELEMETRY_SUBJECT))
    rows = _Rows()
    parts: list[tuple[Any, ...]] = []
    late: list[bool] = []
    async for batch in read_all(settings, [topics.TELEMETRY]):
        rows.add(batch)
        columns = codec.decode([record.value or b"" for record in batch])
        parts.append((columns.vin, columns.boot, columns.seq, columns.time))
        late += [any(n == topics.LATE_HEADER for n, _ in record.headers) for record in batch]
        progress(len(batch))
    vin, boot, seq, time = _joined(parts, ("S17", np.int64, np.int64, np.int64))
    return RefinedRecords(
        rows.places(), rows.sources(), vin, boot, seq, time, np.array(late, dtype=bool)
    )


async def read_quarantined(settings: ProcessSettings, progress: Progress) -> QuarantinedRecords:
    """`telemetry.dlq` in full."""
    rows = _Rows()
    rules: list[str] = []
    async for batch in read_all(settings, [topics.DLQ]):
        rows.add(batch)
        for record in batch:
            headers = dict(record.headers)
            rules.append(headers.get(_RULE_HEADER, b"unknown").decode())
        progress(len(batch))
    return QuarantinedRecords(rows.sources(), tuple(rules))


async def read_predictions(
    settings: ProcessSettings, catalogue: Catalogue, progress: Progress
) -> PredictionRecords:
    """`predictions` in full."""
    codec = PredictionAvro(catalogue, await schema_id(settings, catalogue, PREDICTIONS_SUBJECT))
    parts: list[tuple[Any, ...]] = []
    async for batch in read_all(settings, [topics.PREDICTIONS]):
        columns = codec.decode([record.value or b"" for record in batch])
        parts.append((place(columns.partition, columns.offset), columns.score, columns.version))
        progress(len(batch))
    source, score, version = _joined(parts, (np.int64, np.float64, np.int64))
    return PredictionRecords(source, score, version)


async def read_alerts(settings: ProcessSettings) -> list[AlertRecord]:
    """`alerts` in full, in order per car."""
    return [
        AlertRecord(ingested, alert)
        for ingested, alert in await _messages(settings, topics.ALERTS, Alert)
    ]


async def read_responses(settings: ProcessSettings) -> list[ResponseRecord]:
    """`commands.status` in full."""
    found = await _messages(settings, topics.COMMANDS_STATUS, CommandResponse)
    return [ResponseRecord(ingested, response) for ingested, response in found]


async def read_commands(settings: ProcessSettings) -> list[CommandRequest]:
    """`commands` in full."""
    return [c for _, c in await _messages(settings, topics.COMMANDS, CommandRequest)]


async def read_dtcs(settings: ProcessSettings) -> list[DtcRecord]:
    """`vehicle.dtc` in full."""
    found = await _messages(settings, topics.DTC, DiagnosticTroubleCode)
    return [DtcRecord(ingested, dtc) for ingested, dtc in found]


async def _messages(
    settings: ProcessSettings, topic: str, kind: type[Message]
) -> list[tuple[int, Message]]:
    found = []
    async for batch in read_all(settings, [topic]):
        for record in batch:
            try:
                found.append((record.timestamp, decode(kind, record.value or b"")))
            except DecodeError:
                # A car may send anything as a response or DTC; what is not one proves nothing.
                continue
    return found


class _Rows:
    """Places and sources of derived records, batch by batch."""

    def __init__(self) -> None:
        self._numbers: list[tuple[int, int, int, int]] = []

    def add(self, batch: list[Record]) -> None:
        for record in batch:
            source = source_of(record.headers)
            if source is None:
                raise DecodeError(
                    f"{record.topic} partition {record.partition} offset {record.offset} does "
                    "not say where it comes from."
                )
            self._numbers.append((record.partition, record.offset, *source))

    def _columns(self) -> Ints:
        return np.array(self._numbers, dtype=np.int64).reshape(len(self._numbers), 4).T

    def places(self) -> Ints:
        partition, offset, _, _ = self._columns()
        return place(partition, offset)

    def sources(self) -> Ints:
        _, _, partition, offset = self._columns()
        return place(partition, offset)


def _joined(parts: list[tuple[Any, ...]], kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    if not parts:
        return tuple(np.zeros(0, dtype=kind) for kind in kinds)
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
