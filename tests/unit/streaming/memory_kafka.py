"""The real consume, derive, produce loop on topics in memory, killed at any request."""

import asyncio
import contextlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest

from motorcade.fleet.source import source_of
from motorcade.runtime import derive as loop_module
from motorcade.runtime.derive import Step, _Loop
from motorcade.runtime.kafka import TopicPartition

from .predictions import FakeRecord

#: Records by (topic, partition).
Log: TypeAlias = "dict[tuple[str, int], list[FakeRecord]]"


class Killed(BaseException):
    """SIGKILL: nothing in the process runs after it."""


class Kafka:
    """Topics in memory, with a kill before or after the n-th request that changes something."""

    def __init__(self, source: list[FakeRecord]) -> None:
        self.log: Log = defaultdict(list)
        for record in source:
            self.log[record.topic, record.partition].append(record)
        self.committed: dict[int, int] = {}
        #: What was noted with each commit.
        self.notes: dict[int, str] = {}
        self.position: dict[int, int] = {}
        self.kill_at: tuple[int, bool] = (-1, False)
        self.requests = 0
        self.dead = False

    def change(self, apply: Any) -> None:
        number, after = self.kill_at
        here = self.requests == number
        self.requests += 1
        self.dead |= here
        if not self.dead or (here and after):
            apply()
        if self.dead:
            raise Killed

    # What the loop asks of its producer.
    def create_batch(self) -> "Builder":
        return Builder()

    async def send_batch(self, builder: "Builder", topic: str, *, partition: int) -> Any:
        def append() -> None:
            log = self.log[topic, partition]
            for record in builder.records:
                log.append(record._replace(topic=topic, partition=partition, offset=len(log)))

        self.change(append)
        return asyncio.sleep(0)

    # And of its consumer.
    async def beginning_offsets(self, wanted: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(wanted, 0)

    async def end_offsets(self, wanted: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: len(self.log[tp.topic, tp.partition]) for tp in wanted}

    async def committed_offset(self, tp: TopicPartition) -> int | None:
        return self.committed.get(tp.partition)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.position[tp.partition] = offset

    async def commit(self, offsets: dict[TopicPartition, int | tuple[int, str]]) -> None:
        def write() -> None:
            for tp, said in offsets.items():
                at, note = said if isinstance(said, tuple) else (said, "")
                self.committed[tp.partition], self.notes[tp.partition] = at, note

        self.change(write)

    async def commit_notes(
        self, _client: object, wanted: list[TopicPartition]
    ) -> dict[TopicPartition, str]:
        return {tp: self.notes.get(tp.partition, "") for tp in wanted}

    async def tails(
        self, _settings: object, wanted: list[tuple[str, int]]
    ) -> dict[tuple[str, int], int]:
        found = {}
        for place in wanted:
            log = self.log[place]
            source = source_of(log[-1].headers) if log else None
            found[place] = source.place if source else -1
        return found

    async def records_before(
        self, _settings: object, positions: dict[TopicPartition, int]
    ) -> dict[TopicPartition, FakeRecord]:
        return {tp: self.log[tp.topic, tp.partition][at - 1] for tp, at in positions.items() if at}


class Builder:
    """A produce request that holds two records, so that a batch takes several."""

    def __init__(self) -> None:
        self.records: list[FakeRecord] = []

    def append(self, *, timestamp: None, key: bytes, value: bytes, headers: Any) -> object:
        if len(self.records) == 2:
            return None
        self.records.append(FakeRecord("", 0, 0, key, value, tuple(headers)))
        return object()


async def run_once(
    kafka: Kafka,
    step: Step,
    partitions: Sequence[int],
    sizes: "itertools.cycle[int]",
    commits: "itertools.cycle[bool]",
) -> None:
    """One life of the process: assigned, then batches to the end, committing now and then."""
    service: Any = SimpleNamespace(settings=None)
    loop = _Loop(service, step, 0, 0)
    loop._producer = kafka
    consumer: Any = SimpleNamespace(
        beginning_offsets=kafka.beginning_offsets,
        end_offsets=kafka.end_offsets,
        committed=kafka.committed_offset,
        seek=kafka.seek,
        commit=kafka.commit,
    )
    loop._consumer = consumer
    await loop._recover([TopicPartition(step.source, p) for p in partitions])
    while True:
        fetched = {}
        for partition in partitions:
            start = kafka.position[partition]
            records: Any = kafka.log[step.source, partition][start : start + next(sizes)]
            if records:
                fetched[TopicPartition(step.source, partition)] = records
                kafka.position[partition] = start + len(records)
        if not fetched:
            break
        await loop._batch(fetched)
        if next(commits):
            await loop._commit()
    await loop._commit()


async def run_to_the_end(
    source: list[FakeRecord],
    make_step: Callable[[Log], Step],
    kills: Sequence[tuple[int, bool]] = (),
    sizes: Sequence[int] = (100,),
    commits: Sequence[bool] = (True,),
) -> Log:
    """Run a step over a source topic, killed as told and restarted each time.

    Args:
        source: records of partitions 0 and 1.
        make_step: makes the process anew; given the topics as they are then.
        kills: for each life the request that is its last, and whether it still takes effect.
        sizes: records of each batch and partition, in turn.
        commits: whether offsets are committed after each batch, in turn.
    """
    kafka = Kafka(source)
    size_cycle, commit_cycle = itertools.cycle(sizes), itertools.cycle(commits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_module, "tails", kafka.tails)
        patch.setattr(loop_module, "records_before", kafka.records_before)
        patch.setattr(loop_module, "commit_notes", kafka.commit_notes)
        for request, after in kills:
            kafka.kill_at = (kafka.requests + request, after)
            with contextlib.suppress(Killed):
                await run_once(kafka, make_step(kafka.log), (0, 1), size_cycle, commit_cycle)
            # Requests that the dead process still had under way fail with it.
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*others, return_exceptions=True)
            kafka.dead = False
        kafka.kill_at = (-1, False)
        await run_once(kafka, make_step(kafka.log), (0, 1), size_cycle, commit_cycle)
    return kafka.log
