"""The one loop that consumes a topic, derives records from it, produces them and then commits.

Partition p of every output derives from partition p of the source. Each output record carries the
source offset as a header, and the loop uses it twice, so that a SIGKILL at any moment duplicates
nothing: on assignment it reads the last source offset in each output partition and suppresses what
is already there; and it drops source records that are themselves physical repeats, by a high-water
mark of the header they carry. The process that dies needs no transaction, and no output is ever
lost, because offsets are committed after the outputs are acknowledged by all in-sync replicas.
"""

import asyncio
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import NamedTuple, Protocol, runtime_checkable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError
from prometheus_client import Counter, Histogram

from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.source import place, places, source_header, source_of
from motorcade.runtime.failpoint import failpoint
from motorcade.runtime.kafka import (
    MOST_PAUSE_S,
    Record,
    Rounds,
    TopicPartition,
    commit_notes,
    consumer,
    producer,
    records_before,
    started,
    tails,
)
from motorcade.runtime.service import Service

_CONSUMED = Counter("motorcade_consumed_total", "Source records read", ["step", "topic"])
_REPEATED = Counter(
    "motorcade_source_repeats_total", "Physical repeats of a source record, dropped", ["step"]
)
_PRODUCED = Counter("motorcade_produced_total", "Records acknowledged by Kafka", ["step", "topic"])
_SUPPRESSED = Counter(
    "motorcade_suppressed_total", "Outputs that were there before a restart", ["step", "topic"]
)
_BATCH_SECONDS = Histogram(
    "motorcade_batch_seconds", "Time from batch to acknowledgement", ["step"]
)

_POLL_MS = 200
_COMMIT_EVERY_S = 1.0


class Output(NamedTuple):
    """A derived record; `partition` is the source's, and the source header is added by the loop."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    source_offset: int
    headers: tuple[tuple[str, bytes], ...] = ()
    #: Which sample of the source record; tells its outputs of one topic apart.
    index: int = 0  # type: ignore[assignment]  # nobody asks an output for tuple.index


_LANE = itemgetter(0, 1)
_OFFSET = attrgetter("offset")


def _place(output: Output) -> int:
    return place(output.source_offset, output.index)


class Step(Protocol):
    """What a derivation must say and do.

    Attributes:
        outputs: topics, each acknowledged before the next one is sent.
        history: records before the committed offset that are read again to rebuild state; their
            outputs are suppressed.
    """

    name: str
    group: str
    source: str
    outputs: tuple[str, ...]

    @property
    def history(self) -> int: ...

    async def assigned(self, partition: int) -> None:
        """Build the state of a partition, before its first record."""

    def revoked(self, partition: int) -> None:
        """Forget the state of a partition."""

    def process(self, records: list[Record]) -> list[Output]:
        """Derive outputs; records of several partitions, in order within each. No I/O.

        Per topic and partition, (source offset, index) of the outputs must rise.
        """


@runtime_checkable
class Remembering(Step, Protocol):
    """A step that knows how far back its state reaches; that is kept with each commit.

    `history` then counts only where nothing was kept.
    """

    def since(self) -> dict[int, int]:
        """Source offset of the first record that each partition's state depends on, if on any.

        Read again from there to the committed offset, in whatever batches, the records give the
        same state again.
        """

    def rebuild(self, records: list[Record]) -> None:
        """Take records in again whose outputs are there; of several partitions, as `process`."""


async def derive(
    service: Service,
    step: Step,
    *,
    linger_s: float = 0.05,
    max_records: int = 5000,
    most_linger_s: float = MOST_PAUSE_S,
) -> None:
    """Run a step until the service stops.

    Args:
        linger_s: how long a round waits for more records, where few come.
        max_records: most records of one round.
        most_linger_s: how long a round waits where many come: a longer round costs less a record.
    """
    loop = _Loop(service, step, linger_s, max_records, most_linger_s)
    await loop.run()


class _Loop(ConsumerRebalanceListener):
    def __init__(
        self,
        service: Service,
        step: Step,
        linger_s: float,
        max_records: int,
        most_linger_s: float = MOST_PAUSE_S,
    ) -> None:
        self._service = service
        self._step = step
        self._remembering = step if isinstance(step, Remembering) else None
        self._linger_s = linger_s
        self._most_linger_s = most_linger_s
        self._max_records = max_records
        #: Held while a batch is under way, so that a rebalance never sees half of one.
        self._busy = asyncio.Lock()
        #: Rises with every rebalance: what was fetched in an earlier epoch is fetched again.
        self._epoch = 0
        #: Next source offset to commit, by partition; only recovered partitions have one.
        self._next: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        #: Highest source place already in an output, by (topic, partition).
        self._floor: dict[tuple[str, int], int] = {}
        #: Highest place of the source records' own source, by (partition, their partition).
        self._seen: dict[tuple[int, int], int] = {}
        self._consumer: AIOKafkaConsumer
        self._producer: AIOKafkaProducer

    async def run(self) -> None:
        service, step = self._service, self._step
        service.ready("kafka", False)
        settings = service.settings
        async with (
            started(producer(settings), settings) as self._producer,
            started(consumer(settings, group=step.group), settings) as self._consumer,
        ):
            self._consumer.subscribe([step.source], listener=self)
            rounds = Rounds(self._consumer, self._linger_s, self._max_records, self._most_linger_s)
            committed_at = time.monotonic()
            while not service.stopping.is_set():
                epoch = self._epoch
                fetched = await self._fetch(rounds)
                async with self._busy:
                    # Partitions that are not recovered yet are fetched again from where they are.
                    mine = {tp: r for tp, r in fetched.items() if tp.partition in self._next}
                    if mine and epoch == self._epoch:
                        await self._batch(mine)
                    if time.monotonic() - committed_at >= _COMMIT_EVERY_S:
                        await self._commit()
                        committed_at = time.monotonic()
                await rounds.pause(sum(map(len, fetched.values())))
            async with self._busy:
                await self._commit()

    async def _fetch(self, rounds: Rounds) -> dict[TopicPartition, list[Record]]:
        """The next records; nothing once the process is to stop, even amid a rebalance."""
        fetch = asyncio.ensure_future(rounds.next(_POLL_MS))
        stopping = asyncio.ensure_future(self._service.stopping.wait())
        await asyncio.wait({fetch, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if fetch.done():
            records: dict[TopicPartition, list[Record]] = fetch.result()
            return records
        fetch.cancel()
        return {}

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        async with self._busy:
            self._epoch += 1
            self._service.ready("kafka", False)
            await self._commit()
            for tp in revoked:
                self._forget(tp.partition)

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        # aiokafka logs what a listener raises and goes on; a partition that was not recovered
        # must not be worked on.
        try:
            async with self._busy:
                await self._recover(assigned)
                self._epoch += 1
        except Exception as error:  # noqa: BLE001
            self._service.fail(error)
            return
        self._service.ready("kafka", True)
        self._service.log.info("assigned", partitions=sorted(tp.partition for tp in assigned))

    def _forget(self, partition: int) -> None:
        self._step.revoked(partition)
        self._next.pop(partition, None)
        self._committed.pop(partition, None)
        for topic in self._step.outputs:
            self._floor.pop((topic, partition), None)
        for key in [key for key in self._seen if key[0] == partition]:
            del self._seen[key]

    async def _recover(self, assigned: Sequence[TopicPartition]) -> None:
        """Find where each partition stands in its outputs, and go there."""
        step, settings = self._step, self._service.settings
        begins = await self._consumer.beginning_offsets(list(assigned))
        ends = await self._consumer.end_offsets(list(assigned))
        found = await tails(
            settings, [(topic, tp.partition) for tp in assigned for topic in step.outputs]
        )
        notes: dict[TopicPartition, str] = {}
        if self._remembering is not None:
            notes = await commit_notes(self._consumer, list(assigned))
        start: dict[TopicPartition, int] = {}
        resume: dict[TopicPartition, int] = {}
        for tp in assigned:
            committed = max(await self._consumer.committed(tp) or 0, begins[tp])
            if committed > ends[tp]:
                raise MotorcadeError(
                    f"Group {step.group} committed offset {committed} of {tp.topic} partition "
                    f"{tp.partition}, which ends at {ends[tp]}: the topic lost records or was "
                    "created anew.",
                    "Delete the group's offsets, or use a new group.",
                )
            for topic in step.outputs:
                self._floor[topic, tp.partition] = max(
                    found[topic, tp.partition], place(committed) - 1
                )
            start[tp] = committed
            note = notes.get(tp, "")
            back = int(note) if note.isdigit() else committed - step.history
            resume[tp] = max(begins[tp], min(back, committed))
        for tp, record in (await records_before(settings, resume)).items():
            source = source_of(record.headers)
            if source is not None:
                self._seen[tp.partition, source.partition] = source.place
        for tp in assigned:
            await step.assigned(tp.partition)
            self._consumer.seek(tp, resume[tp])
            self._next[tp.partition] = self._committed[tp.partition] = start[tp]

    async def _batch(self, fetched: dict[TopicPartition, list[Record]]) -> None:
        step = self._step
        began = time.monotonic()
        records: list[Record] = []
        for tp, batch in fetched.items():
            new = self._without_repeats(batch)
            if self._remembering is not None and batch[0].offset < self._next[tp.partition]:
                old = bisect_left(new, self._next[tp.partition], key=_OFFSET)
                self._remembering.rebuild(new[:old])
                new = new[old:]
            records += new
        _CONSUMED.labels(step.name, step.source).inc(len(records))
        lanes = self._lanes(step.process(records)) if records else {}
        failpoint(f"{step.name}.before-produce")
        for position, topic in enumerate(step.outputs):
            if position:
                failpoint(f"{step.name}.between-outputs")
            await self._produce(topic, {p: lane for (t, p), lane in lanes.items() if t == topic})
        failpoint(f"{step.name}.after-produce")
        for tp, batch in fetched.items():
            self._next[tp.partition] = max(self._next[tp.partition], batch[-1].offset + 1)
        _BATCH_SECONDS.labels(step.name).observe(time.monotonic() - began)

    def _without_repeats(self, records: list[Record]) -> list[Record]:
        """Records of one partition without those that their writer wrote twice."""
        found = places([record.headers for record in records])
        if found is not None:
            partitions, at = found
            key = (records[0].partition, int(partitions[0]))
            if (
                at[0] > self._seen.get(key, -1)
                and (at[1:] > at[:-1]).all()
                and (partitions == key[1]).all()
            ):
                self._seen[key] = int(at[-1])
                return records
        kept = [record for record in records if self._is_new(record)]
        if len(kept) < len(records):
            _REPEATED.labels(self._step.name).inc(len(records) - len(kept))
        return kept

    def _is_new(self, record: Record) -> bool:
        source = record.headers and source_of(record.headers)
        if not source:
            return True
        key = (record.partition, source.partition)
        at = source.place
        if at <= self._seen.get(key, -1):
            return False
        self._seen[key] = at
        return True

    def _lanes(self, outputs: list[Output]) -> dict[tuple[str, int], list[Output]]:
        """Outputs by topic and partition, without those that were there before a restart."""
        lanes: dict[tuple[str, int], list[Output]] = {}
        for lane, run in groupby(outputs, key=_LANE):
            lanes.setdefault(lane, []).extend(run)
        for lane, mine in lanes.items():
            old = bisect_right(mine, self._floor[lane], key=_place)
            if old:
                _SUPPRESSED.labels(self._step.name, lane[0]).inc(old)
                del mine[:old]
        return lanes

    async def _produce(self, topic: str, lanes: dict[int, list[Output]]) -> None:
        sends = [
            self._produce_partition(topic, partition, outputs)
            for partition, outputs in lanes.items()
            if outputs
        ]
        if sends:
            await asyncio.gather(*sends)
            _PRODUCED.labels(self._step.name, topic).inc(sum(map(len, lanes.values())))

    async def _produce_partition(self, topic: str, partition: int, outputs: list[Output]) -> None:
        """Append in order; a full batch is sent before the next is begun."""
        builder = self._producer.create_batch()
        for _, _, key, value, offset, more, index in outputs:
            headers = [source_header(partition, offset, index), *more]
            if builder.append(timestamp=None, key=key, value=value, headers=headers) is None:
                await (await self._producer.send_batch(builder, topic, partition=partition))
                failpoint(f"{self._step.name}.between-batches")
                builder = self._producer.create_batch()
                builder.append(timestamp=None, key=key, value=value, headers=headers)
        await (await self._producer.send_batch(builder, topic, partition=partition))

    async def _commit(self) -> None:
        changed = {
            TopicPartition(self._step.source, partition): offset
            for partition, offset in self._next.items()
            if offset > self._committed.get(partition, -1)
        }
        if not changed:
            return
        noted: dict[TopicPartition, int | tuple[int, str]] = dict(changed)
        if self._remembering is not None:
            since = self._remembering.since()
            for tp, offset in changed.items():
                noted[tp] = (offset, str(since.get(tp.partition, "")))
        try:
            await self._consumer.commit(noted)
        except CommitFailedError:
            # The group moved on. Whoever has the partition now finds our outputs by their source.
            self._service.log.warning("commit refused by the group", offsets=len(changed))
        else:
            self._committed.update({tp.partition: offset for tp, offset in changed.items()})
