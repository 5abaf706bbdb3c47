"""How a model of windows takes in the past of every car before it goes live."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from motorcade.fleet.messages import ModelSlot
from motorcade.fleet.topics import TELEMETRY
from motorcade.ml.scoring.slot import Slot
from motorcade.ml.scoring.step import ScoreStep, Warming
from motorcade.runtime.kafka import Record, TopicPartition

#: Records taken in at once: some milliseconds, for which scoring waits.
_AT_ONCE = 1000

#: Yields batches of records of one partition each, from given offsets on.
ReadFrom = Callable[[dict[TopicPartition, int]], AsyncIterator[list[Record]]]


@dataclass(frozen=True)
class Past:
    """What came before: how to read it, and how many records of a partition at most."""

    read: ReadFrom
    records: int


async def warm(step: ScoreStep, slot: ModelSlot, loaded: Slot, past: Past) -> None:
    """Let a model take in what came before, and then what came meanwhile.

    When it returns, the model's windows are those of the last record that the step worked on, and
    nothing has been awaited since: whoever calls puts it to work at once. It begins anew when
    partitions come or go.
    """
    while True:
        warming = step.warming[slot] = Warming(loaded)
        for partition in range(max(step.positions, default=-1) + 1):
            loaded.forget(partition)
        ends = dict(step.positions)
        starts = {
            TopicPartition(TELEMETRY, partition): max(0, end - past.records)
            for partition, end in ends.items()
        }
        async for records in past.read(starts):
            if warming.disturbed:
                break
            before = [record for record in records if record.offset < ends[record.partition]]
            for first in range(0, len(before), _AT_ONCE):
                loaded.take_in(*step.telemetry_of(before[first : first + _AT_ONCE]))
                await asyncio.sleep(0)
        while not warming.disturbed and len(warming.backlog) > 1:
            loaded.take_in(*warming.backlog.pop(0))
            await asyncio.sleep(0)
        if not warming.disturbed:
            for columns, places in warming.backlog:
                loaded.take_in(columns, places)
            del step.warming[slot]
            return
