"""Reads the topics of a run in batches of columns, up to the ends at the time of the call."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from motorcade.fleet import topics
from motorcade.fleet.errors import DecodeError
from motorcade.fleet.messages import (
    Alert,
    CommandRequest,
    CommandResponse,
    DiagnosticTroubleCode,
    Message,
    VehicleStatus,
    decode,
)
from motorcade.fleet.predictions import PredictionAvro
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.source import Source, source_of
from motorcade.fleet.telemetry import TelemetryAvro
from motorcade.runtime.kafka import (
    Record,
    TopicPartition,
    consumer,
    partitions_of,
    read_all,
    started,
)
from motorcade.simulator.audit.payloads import Payloads
from motorcade.simulator.audit.records import (
    AlertRecord,
    DtcRecord,
    PredictionBatch,
    QuarantinedBatch,
    RawBatch,
    RefinedBatch,
    ResponseRecord,
)

#: Dead-letter header that names the broken rule.
_RULE_HEADER = "__connect.errors.class.name"

#: First offset of the run in each partition, by topic and partition; 0 where none is given.
Since = Mapping[tuple[str, int], int]
#: Told of each topic as it is read: its name and how many more records.
OnRead = Callable[[str, int], None]


async def ends(settings: ProcessSettings, names: Iterable[str]) -> dict[tuple[str, int], int]:
    """Where each topic ends now: taken before a run, it is the run's `since`.

    Raises:
        MotorcadeError: Kafka does not answer, or has no such topic.
    """
    async with started(consumer(settings), settings) as client:
        found = await client.end_offsets(
            [TopicPartition(n, p) for n in names for p in await partitions_of(client, n)]
        )
    return {(tp.topic, tp.partition): end for tp, end in found.items()}


@dataclass(frozen=True)
class PartitionReader:
    """The topics of one partition.

    Args:
        settings: where Kafka is.
        partition: which one.
        since: the run's first offsets; what derives from records before them is left out too.
        on_read: told of progress.
    """

    settings: ProcessSettings
    partition: int
    since: Since
    on_read: OnRead

    async def raw(self, topic: str, payloads: Payloads) -> AsyncIterator[RawBatch]:
        """The raw topic."""
        async for records in self._records(topic):
            yield payloads.read(records)

    async def quarantined(self) -> AsyncIterator[QuarantinedBatch]:
        """`telemetry.dlq`."""
        async for records in self._records(topics.DLQ):
            mine = self._with_sources(records, topics.RAW)
            yield QuarantinedBatch(
                np.array([source.place for _, source in mine], dtype=np.int64),
                [_rule(record) for record, _ in mine],
            )

    async def refined(self, codec: TelemetryAvro) -> AsyncIterator[RefinedBatch]:
        """`telemetry`."""
        async for records in self._records(topics.TELEMETRY):
            mine = self._with_sources(records, topics.RAW)
            if not mine:
                continue
            columns = codec.decode([record.value or b"" for record, _ in mine])
            yield RefinedBatch(
                np.array([record.offset for record, _ in mine], dtype=np.int64),
                np.array([source.place for _, source in mine], dtype=np.int64),
                columns.vin.tolist(),
                columns.boot,
                columns.seq,
                columns.time,
                # The source stands first; most records carry no other header.
                np.array([len(r.headers) > 1 and _is_late(r) for r, _ in mine], dtype=bool),
            )

    async def predictions(self, codec: PredictionAvro) -> AsyncIterator[PredictionBatch]:
        """`predictions`."""
        first = self.since.get((topics.TELEMETRY, self.partition), 0)
        async for records in self._records(topics.PREDICTIONS):
            columns = codec.decode([record.value or b"" for record in records])
            ingested = np.array([record.timestamp for record in records], dtype=np.int64)
            # A prediction of another partition's record has no place here: it shows as invented.
            source = np.where(columns.partition == self.partition, columns.offset, -1)
            mine = (source < 0) | (source >= first)
            yield PredictionBatch(
                source[mine], columns.score[mine], columns.due[mine], ingested[mine]
            )

    async def _records(self, topic: str) -> AsyncIterator[list[Record]]:
        start = {TopicPartition(topic, self.partition): self.since.get((topic, self.partition), 0)}
        async for records in read_all(
            self.settings, [topic], partitions=[self.partition], starts=start
        ):
            yield records
            self.on_read(topic, len(records))

    def _with_sources(self, records: list[Record], topic: str) -> list[tuple[Record, Source]]:
        """Records with their sources, less those that derive from what was before the run."""
        first = self.since.get((topic, self.partition), 0)
        found = []
        for record in records:
            source = source_of(record.headers)
            if source is None or source.partition != self.partition:
                raise DecodeError(
                    f"{record.topic} partition {record.partition} offset {record.offset} does "
                    "not say where in its own partition it comes from."
                )
            if source.offset >= first:
                found.append((record, source))
        return found


async def read_alerts(settings: ProcessSettings, since: Since) -> list[AlertRecord]:
    """`alerts`, in order per car."""
    found = await _messages(settings, topics.ALERTS, Alert, since)
    return [AlertRecord(ingested, alert) for ingested, alert in found]


async def read_responses(settings: ProcessSettings, since: Since) -> list[ResponseRecord]:
    """`commands.status`."""
    found = await _messages(settings, topics.COMMANDS_STATUS, CommandResponse, since)
    return [ResponseRecord(ingested, response) for ingested, response in found]


async def read_commands(settings: ProcessSettings, since: Since) -> list[CommandRequest]:
    """`commands`."""
    return [c for _, c in await _messages(settings, topics.COMMANDS, CommandRequest, since)]


async def read_dtcs(settings: ProcessSettings, since: Since) -> list[DtcRecord]:
    """`vehicle.dtc`."""
    found = await _messages(settings, topics.DTC, DiagnosticTroubleCode, since)
    return [DtcRecord(ingested, dtc) for ingested, dtc in found]


async def read_endpoints(settings: ProcessSettings) -> dict[str, str]:
    """The broker endpoint on which each car was last, by VIN, from `vehicle.status`."""
    found = await _messages(settings, topics.STATUS, VehicleStatus, {})
    return {status.vin: status.endpoint for _, status in found}


async def _messages(
    settings: ProcessSettings, topic: str, kind: type[Message], since: Since
) -> list[tuple[int, Message]]:
    found = []
    starts = {TopicPartition(*tp): offset for tp, offset in since.items() if tp[0] == topic}
    async for batch in read_all(settings, [topic], starts=starts):
        for record in batch:
            try:
                found.append((record.timestamp, decode(kind, record.value or b"")))
            except DecodeError:
                # A car may send anything as a response or DTC; what is not one proves nothing.
                continue
    return found


def _rule(record: Record) -> str:
    for name, value in record.headers:
        if name == _RULE_HEADER:
            return str(value, "utf-8", "replace")
    return "unknown"


def _is_late(record: Record) -> bool:
    return any(name == topics.LATE_HEADER for name, _ in record.headers)
