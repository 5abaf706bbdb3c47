"""How far a consumer group has come."""

import asyncio
import time

from motorcade.fleet.settings import ProcessSettings
from motorcade.runtime.kafka import TopicPartition, consumer, partitions_of, started


async def until_group_has_read(
    settings: ProcessSettings, group: str, *topics: str, timeout_s: float = 60
) -> None:
    """Wait until a group has committed all that topics hold now."""
    deadline = time.monotonic() + timeout_s
    async with started(consumer(settings, group=group), settings) as client:
        wanted = [
            TopicPartition(topic, number)
            for topic in topics
            for number in await partitions_of(client, topic)
        ]
        client.assign(wanted)
        ends = {tp: end for tp, end in (await client.end_offsets(wanted)).items() if end}
        while True:
            committed = {tp: await client.committed(tp) or 0 for tp in ends}
            behind = {tp: (committed[tp], end) for tp, end in ends.items() if committed[tp] < end}
            if not behind:
                return
            assert time.monotonic() < deadline, f"{group} is behind: {behind}"
            await asyncio.sleep(0.1)
