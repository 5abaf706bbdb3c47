"""Latencies of the newest records in Kafka, sampled while a run goes on; never for the verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer

from motorcade.fleet.errors import DecodeError
from motorcade.runtime.kafka import TopicPartition, partitions_of

#: Records looked at in each partition.
_EACH = 25
_FETCH_MS = 300

#: Due times in a record's value, wall-clock milliseconds; none for one that holds none.
Dues = Callable[[bytes], Sequence[int]]


class _Due(msgspec.Struct, gc=False):
    due: int = 0


_one = msgspec.json.Decoder(_Due)
_many = msgspec.json.Decoder(list[_Due])


def dues_of_json(value: bytes) -> list[int]:
    """Due times of telemetry as a car sent it: an object, or an array of them."""
    try:
        found = _many.decode(value) if value[:1] == b"[" else [_one.decode(value)]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    return [sample.due for sample in found if sample.due > 0]


@dataclass
class Newest:
    """Looks at the end of a topic's partitions.

    Args:
        client: a consumer of its own, in no group.
        topic: the topic.
        dues: reads due times out of a value.
    """

    client: AIOKafkaConsumer
    topic: str
    dues: Dues
    _read: dict[TopicPartition, int] = field(default_factory=dict)

    async def start(self) -> None:
        """Take the topic's partitions; reading begins at their ends."""
        places = [
            TopicPartition(self.topic, p) for p in await partitions_of(self.client, self.topic)
        ]
        self.client.assign(places)
        self.client.pause(*places)
        self._read = dict(await self.client.end_offsets(places))

    async def latencies(self) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        """Milliseconds from due to Kafka of the newest records since the last call, shape (n,)."""
        places = list(self._read)
        ends = await self.client.end_offsets(places)
        fresh = [place for place in places if ends[place] > self._read[place]]
        found: list[float] = []
        for place in fresh:
            self.client.seek(place, max(self._read[place], ends[place] - _EACH))
        self.client.resume(*fresh)
        left = set(fresh)
        while left:
            fetched = await self.client.getmany(*left, timeout_ms=_FETCH_MS)
            if not fetched:
                break
            for place, records in fetched.items():
                left.discard(place)
                for record in records:
                    try:
                        dues = self.dues(record.value or b"")
                    except DecodeError:
                        continue
                    found += [record.timestamp - due for due in dues]
        self.client.pause(*fresh)
        self._read = dict(ends)
        return np.array(found, dtype=np.float64)
