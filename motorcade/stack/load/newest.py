"""Latencies of the newest records in Kafka, sampled while a run goes on; never for the verdict."""

from dataclasses import dataclass, field

import numpy as np
from aiokafka import AIOKafkaConsumer

from motorcade.fleet.arrays import Floats
from motorcade.runtime.kafka import Record, TopicPartition, partitions_of
from motorcade.simulator.audit.payloads import Payloads

#: Records looked at in each partition.
_EACH = 25
_FETCH_MS = 300


@dataclass
class Newest:
    """Looks at the end of a topic's partitions.

    Args:
        client: a consumer of its own, in no group.
        topic: the raw topic.
        payloads: reads due times out of records.
    """

    client: AIOKafkaConsumer
    topic: str
    payloads: Payloads
    _read: dict[TopicPartition, int] = field(default_factory=dict)

    async def start(self) -> None:
        """Take the topic's partitions; reading begins at their ends."""
        numbers = await partitions_of(self.client, self.topic)
        places = [TopicPartition(self.topic, number) for number in numbers]
        self.client.assign(places)
        self.client.pause(*places)
        self._read = dict(await self.client.end_offsets(places))

    @property
    def records(self) -> int:
        """Records in the topic at the last look, as its offsets tell."""
        return sum(self._read.values())

    async def latencies(self) -> Floats:
        """Milliseconds from due to Kafka of the newest records since the last call, shape (n,)."""
        places = list(self._read)
        ends = await self.client.end_offsets(places)
        fresh = [place for place in places if ends[place] > self._read[place]]
        for place in fresh:
            self.client.seek(place, max(self._read[place], ends[place] - _EACH))
        self.client.resume(*fresh)
        found: list[Record] = []
        left = set(fresh)
        while left:
            fetched = await self.client.getmany(*left, timeout_ms=_FETCH_MS)
            if not fetched:
                break
            left -= set(fetched)
            found += [record for records in fetched.values() for record in records]
        self.client.pause(*fresh)
        self._read = dict(ends)
        batch = self.payloads.read(found)
        timed = batch.due > 0
        latencies: Floats = (batch.ingested[timed] - batch.due[timed]).astype(np.float64)
        return latencies
