"""How far the pipeline is: records in each topic, and what each process still has before it."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import CoordinatorNotAvailableError

from motorcade.fleet import topics
from motorcade.fleet.settings import ProcessSettings
from motorcade.runtime.kafka import TopicPartition, admin, consumer, started
from motorcade.stack.errors import StackError

#: Consumer groups in the order of a message's way, and the topic that each must have read for the
#: pipeline to be drained; each has the name of its process.
GROUPS = {
    "refine": topics.RAW,
    "score": topics.TELEMETRY,
    "alerts": topics.PREDICTIONS,
    "dispatch": topics.ALERTS,
    "twin": topics.TELEMETRY,
}
#: Seconds that a group may hold records before it commits, and is not behind: the twin commits
#: after it has written, which it does every 10 seconds at the least.
HOLDS_S = {"twin": 10.0}
_POLL_S = 0.5
#: A pipeline without lag and without a new record for this long is drained.
_QUIET_S = 3.0

_WATCHED = (
    topics.RAW,
    topics.TELEMETRY,
    topics.DLQ,
    topics.PREDICTIONS,
    topics.ALERTS,
    topics.COMMANDS,
    topics.COMMANDS_STATUS,
    topics.DTC,
)


def behind(lag: Mapping[str, int], rate_per_s: float) -> dict[str, float]:
    """Records that each consumer group is behind, beyond what it may hold at that rate."""
    return {group: max(0.0, n - HOLDS_S.get(group, 0.0) * rate_per_s) for group, n in lag.items()}


@dataclass(frozen=True)
class Pipeline:
    """A look at a stack's topics; for people and for waiting, never for the verdict."""

    settings: ProcessSettings
    client: AIOKafkaConsumer
    admin: AIOKafkaAdminClient

    async def ends(self) -> dict[TopicPartition, int]:
        """Where each partition of the watched topics ends."""
        wanted = [TopicPartition(t.name, p) for t in _declared() for p in range(t.partitions)]
        return dict(await self.client.end_offsets(wanted))

    async def counts(self) -> dict[str, int]:
        """Records in each watched topic, as its offsets tell."""
        counts = dict.fromkeys(_WATCHED, 0)
        for tp, end in (await self.ends()).items():
            counts[tp.topic] += end
        return counts

    async def lag(self) -> dict[str, int]:
        """Records that each consumer group has not committed yet.

        Raises:
            KafkaError: Kafka does not know it at this moment.
        """
        return {group: await self._lag_of(group, topic) for group, topic in GROUPS.items()}

    async def drained(self, timeout_s: float) -> None:
        """Wait until every group has read its topic and no new record comes.

        Raises:
            StackError: it takes longer; names the groups that lag.
        """
        deadline = time.monotonic() + timeout_s
        counts: dict[str, int] = {}
        quiet_since = time.monotonic()
        while True:
            lag = await self._known_lag()
            now_counts = await self.counts()
            if lag is None or any(lag.values()) or now_counts != counts:
                quiet_since = time.monotonic()
            if time.monotonic() - quiet_since >= _QUIET_S:
                return
            if time.monotonic() > deadline:
                behind = ", ".join(f"{group} by {n:,}" for group, n in (lag or {}).items() if n)
                raise StackError(
                    f"The pipeline is not drained after {timeout_s:g} s: "
                    f"{behind or 'records still come'}.",
                    "motorcade status and motorcade logs NAME tell why.",
                )
            counts = now_counts
            await asyncio.sleep(_POLL_S)

    async def _known_lag(self) -> dict[str, int] | None:
        try:
            return await self.lag()
        except CoordinatorNotAvailableError:
            return None

    async def _lag_of(self, group: str, topic: str) -> int:
        partitions = [TopicPartition(topic, p) for p in range(topics.PARTITIONS)]
        ends = await self.client.end_offsets(partitions)
        offsets = await self._committed(group, partitions)
        return sum(ends[tp] - max(offsets.get(tp, 0), 0) for tp in partitions)

    async def _committed(
        self, group: str, partitions: list[TopicPartition]
    ) -> dict[TopicPartition, int]:
        found = await self.admin.list_consumer_group_offsets(group, partitions=partitions)
        if len(found) < len(partitions):
            # The client passes over the error of a coordinator that still loads its offsets.
            raise CoordinatorNotAvailableError(f"The offsets of {group} are not known yet.")
        return {tp: meta.offset for tp, meta in found.items()}


@asynccontextmanager
async def look(settings: ProcessSettings) -> AsyncIterator[Pipeline]:
    """A pipeline to look at.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    async with started(consumer(settings), settings) as client:
        asking = admin(settings)
        await asking.start()
        try:
            yield Pipeline(settings, client, asking)
        finally:
            await asking.close()


def _declared() -> list[topics.Topic]:
    return [topic for topic in topics.TOPICS if topic.name in _WATCHED]
