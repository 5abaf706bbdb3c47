"""The twin: the latest of everything about each car, in SQL, written from Kafka."""

import asyncio
import time
from collections import Counter as Tally
from typing import Annotated

from aiokafka import AIOKafkaConsumer
from prometheus_client import Counter, Histogram
from pydantic import Field

from motorcade.fleet.avro import PREDICTIONS_SUBJECT, TELEMETRY_SUBJECT
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.columns import schema_id_of
from motorcade.fleet.errors import DecodeError
from motorcade.fleet.predictions import PredictionAvro
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryAvro
from motorcade.fleet.topics import TELEMETRY
from motorcade.runtime.failpoint import failpoint
from motorcade.runtime.kafka import (
    Record,
    Rounds,
    TopicPartition,
    consumer,
    partitions_of,
    read_all,
    started,
)
from motorcade.runtime.registry import schema_by_id, schema_id, subject_lookup
from motorcade.runtime.service import Service, run
from motorcade.streaming.malformed import Log, Malformed
from motorcade.streaming.twin_fold import TOPICS, Fold
from motorcade.streaming.twin_store import Position, Store, TwinError

_CONSUMED = Counter("motorcade_twin_records_total", "Records that the twin has written", ["topic"])
_ROWS = Counter("motorcade_twin_rows_total", "Rows written", ["table"])
_WRITE_SECONDS = Histogram("motorcade_twin_write_seconds", "Time of one SQL transaction")

_GROUP = "twin"
_POLL_MS = 100
_MAX_READ = 5000
#: Records folded before a write comes early, so that a long backlog takes bounded memory: about
#: 200 MB.
_MAX_FOLDED = 200_000
#: Share of the time that writing may take before writes come less often, and the longest wait.
_WRITE_SHARE = 0.1
_MOST_FLUSH_S = 10.0


class Settings(ProcessSettings):
    """Settings of the twin process."""

    #: SQLAlchemy URL of the database; twin.db in the data folder when unset.
    twin_url: str = ""
    #: Seconds between writes; a car's messages in between cost one row. Where writing takes more
    #: than a tenth of the time, writes come less often, up to every 10 seconds.
    twin_flush_s: Annotated[float, Field(gt=0, le=60)] = 0.5

    @property
    def url(self) -> str:
        return self.twin_url or f"sqlite:///{(self.data_dir / 'twin.db').absolute()}"

    def open(self, *, create: bool = True, check: bool = True) -> Store:
        """Open the database, making the default one and its folder unless told not to.

        Args:
            check: refuse tables that another version made.

        Raises:
            TwinError: it cannot be opened, is not there, or does not fit.
        """
        if not self.twin_url:
            if not create and not (self.data_dir / "twin.db").exists():
                raise TwinError(
                    f"There is no twin in {self.data_dir}.",
                    "Start the stack (motorcade up), or name the database (--database).",
                )
            try:
                self.data_dir.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise TwinError(
                    f"The data folder {self.data_dir} cannot be made: {error.strerror}.",
                    "Set MOTORCADE_DATA_DIR to a folder that can be written.",
                ) from error
        return Store(self.url, check=check)


class Intake:
    """Decodes records into a fold, learning writers' schemas from the registry on the way."""

    def __init__(self, settings: ProcessSettings, telemetry: TelemetryAvro, fold: Fold) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._fold = fold
        self._unwritten: Tally[str] = Tally()

    @classmethod
    async def start(cls, settings: ProcessSettings, log: Log) -> "Intake":
        """Ask the registry for our own schemas.

        Raises:
            MotorcadeError: the registry does not answer, or lacks them.
        """
        catalogue = load_catalogue(settings.signals)
        telemetry = TelemetryAvro(
            catalogue, await schema_id(settings, catalogue, TELEMETRY_SUBJECT)
        )
        predictions = PredictionAvro(
            catalogue,
            await schema_id(settings, catalogue, PREDICTIONS_SUBJECT),
            subject_lookup(settings, PREDICTIONS_SUBJECT),
        )
        fold = Fold(telemetry, predictions, Malformed(log, "twin"))
        return cls(settings, telemetry, fold)

    async def add(self, records: list[Record]) -> None:
        """Fold records of one partition."""
        topic = records[0].topic
        if topic == TELEMETRY:
            await self._learn(records)
        self._fold.add(records)
        self._unwritten[topic] += len(records)

    async def write(self, store: Store, next_offsets: dict[TopicPartition, int]) -> None:
        """Write what was folded, and how far it goes, in one transaction."""
        began = time.monotonic()
        positions = {Position(tp.topic, tp.partition): at for tp, at in next_offsets.items()}
        rows = await asyncio.to_thread(self._fold.take)
        await asyncio.to_thread(store.write, rows, positions)
        for topic, written in self._unwritten.items():
            _CONSUMED.labels(topic).inc(written)
        self._unwritten.clear()
        for table, found in rows.items():
            _ROWS.labels(table.name).inc(len(found))
        _WRITE_SECONDS.observe(time.monotonic() - began)

    async def _learn(self, records: list[Record]) -> None:
        for number in {bytes(record.value[:5]) for record in records if record.value}:
            try:
                found = schema_id_of(number)
                if not self._telemetry.knows(found):
                    self._telemetry.learn(found, await schema_by_id(self._settings, found))
            except DecodeError:
                continue  # the fold reports the record


class _Twin:
    """Reads, folds, writes SQL, then commits.

    It reads every partition by itself: one process writes a database, and what Kafka has committed
    only tells others how far it is. Where it goes on is what the database says.
    """

    def __init__(self, service: Service, store: Store, intake: Intake, flush_s: float) -> None:
        self._service = service
        self._store = store
        self._intake = intake
        self._flush_s = flush_s
        self._next: dict[TopicPartition, int] = {}
        self._folded = 0
        self._consumer: AIOKafkaConsumer

    async def run(self) -> None:
        service = self._service
        service.ready("kafka", False)
        client = consumer(service.settings, group=_GROUP)
        async with started(client, service.settings) as self._consumer:
            await self._find_place()
            service.ready("kafka", True)
            rounds = Rounds(self._consumer, self._flush_s / 10, _MAX_READ)
            flushed_at, wait_s = time.monotonic(), self._flush_s
            while not service.stopping.is_set():
                read = await self._read(rounds)
                now = time.monotonic()
                if now - flushed_at >= wait_s or self._folded >= _MAX_FOLDED:
                    await self._flush()
                    # Neighbouring rows share pages: the more there are to write, the less each
                    # costs if they are written together.
                    took_s = time.monotonic() - now
                    wait_s = min(max(self._flush_s, took_s / _WRITE_SHARE), _MOST_FLUSH_S)
                    flushed_at = now
                await rounds.pause(read)
            await self._flush()

    async def _find_place(self) -> None:
        wanted = [
            TopicPartition(topic, number)
            for topic in TOPICS
            for number in await partitions_of(self._consumer, topic)
        ]
        stands = await asyncio.to_thread(self._store.positions)
        begins = await self._consumer.beginning_offsets(wanted)
        ends = await self._consumer.end_offsets(wanted)
        self._consumer.assign(wanted)
        for tp in wanted:
            stand = stands.get(Position(*tp), 0)
            if stand > ends[tp]:
                raise TwinError(
                    f"The twin has read {tp.topic} partition {tp.partition} up to offset {stand}, "
                    f"but it ends at {ends[tp]}: the topic lost records or was created anew.",
                    "Make the twin anew: motorcade twin rebuild.",
                )
            stand = max(stand, begins[tp])
            self._consumer.seek(tp, stand)
            if stand:  # a life that was killed may have written so far without telling others
                self._next[tp] = stand
        self._service.log.info("assigned", partitions=len(wanted), known=len(stands))

    async def _read(self, rounds: Rounds) -> int:
        fetched = await rounds.next(_POLL_MS)
        for tp, records in fetched.items():
            await self._intake.add(records)
            self._next[tp] = records[-1].offset + 1
        read = sum(map(len, fetched.values()))
        self._folded += read
        return read

    async def _flush(self) -> None:
        if not self._next:
            return
        await self._intake.write(self._store, self._next)
        failpoint("twin.before-commit")
        await self._consumer.commit(dict(self._next))
        self._next.clear()
        self._folded = 0


async def rebuild(settings: ProcessSettings, store: Store, log: Log) -> int:
    """Make a twin's tables anew and fill them from what Kafka holds, up to the ends at the call.

    A twin process may write the same database meanwhile: writes commute.

    Returns:
        How many records were read.

    Raises:
        MotorcadeError: Kafka, the registry or the database does not answer.
    """
    intake = await Intake.start(settings, log)
    await asyncio.to_thread(store.clear)
    next_offsets: dict[TopicPartition, int] = {}
    total = folded = 0
    async for records in read_all(settings, TOPICS):
        await intake.add(records)
        next_offsets[TopicPartition(records[0].topic, records[0].partition)] = (
            records[-1].offset + 1
        )
        total += len(records)
        folded += len(records)
        if folded >= _MAX_FOLDED:
            await intake.write(store, next_offsets)
            folded = 0
    await intake.write(store, next_offsets)
    return total


async def _body(service: Service) -> None:
    settings = service.settings
    assert isinstance(settings, Settings)
    store = await asyncio.to_thread(settings.open)
    intake = await Intake.start(settings, service.log)
    try:
        await _Twin(service, store, intake, settings.twin_flush_s).run()
    finally:
        store.close()


def main(settings: Settings) -> None:
    """Run the twin process until it is told to stop."""
    run("twin", settings, _body)


if __name__ == "__main__":
    main(Settings())
