"""Kafka clients as every process of ours uses them, and reading a topic up to its present end."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from aiokafka.structs import ConsumerRecord as _ConsumerRecord

from motorcade.fleet.errors import MotorcadeError, UnreachableError
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.source import source_of
from motorcade.runtime.kafka_access import KafkaAccess, KafkaRefused, refusal

#: A record with its key and value as bytes.
Record: TypeAlias = "_ConsumerRecord[bytes, bytes]"

#: Largest produce request; above a record of the topics' limit (1 MiB) with its headers.
MAX_REQUEST_BYTES = 4 << 20
_POLL_MS = 500
#: What a login is told that has not the rights for what it asks.
_FORBIDDEN = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    ClusterAuthorizationFailedError,
)

#: Pause between rounds in seconds for each record per second: 0.2 s from 10,000 records/s on. What
#: a round costs by itself matters only where there is much to do, and there it holds 2,000 records.
_PAUSE_PER_RATE = 2e-5
MOST_PAUSE_S = 0.2
#: How long a round waits for partitions whose records did not come with the others'.
_STRAGGLERS_MS = 3


def producer(settings: ProcessSettings, max_batch_bytes: int = 1 << 18) -> AIOKafkaProducer:
    """An idempotent producer that waits for all in-sync replicas; not started.

    Raises:
        SettingsError: a file that the settings name for Kafka cannot be used.
    """
    return AIOKafkaProducer(
        bootstrap_servers=settings.kafka,
        acks="all",
        enable_idempotence=True,
        compression_type="zstd",
        linger_ms=0,
        max_batch_size=max_batch_bytes,
        max_request_size=MAX_REQUEST_BYTES,
        **KafkaAccess.of(settings).aiokafka(),
    )


def consumer(
    settings: ProcessSettings, *topics: str, group: str | None = None, **options: Any
) -> AIOKafkaConsumer:
    """A consumer from the earliest record, with commits by hand; not started.

    A group member is a static one (KIP-345), so a process that was killed and starts again has its
    partitions back at once instead of after the session's time-out.

    Raises:
        SettingsError: a file that the settings name for Kafka cannot be used.
    """
    if group is not None:
        options["group_instance_id"] = f"{group}-{settings.instance}"
    return AIOKafkaConsumer(
        *topics,
        bootstrap_servers=settings.kafka,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **KafkaAccess.of(settings).aiokafka(),
        **({"fetch_max_wait_ms": 500, "max_partition_fetch_bytes": 4 << 20} | options),
    )


def admin(settings: ProcessSettings) -> AIOKafkaAdminClient:
    """A client that asks about topics and groups; not started.

    Raises:
        SettingsError: a file that the settings name for Kafka cannot be used.
    """
    return AIOKafkaAdminClient(
        bootstrap_servers=settings.kafka, **KafkaAccess.of(settings).aiokafka()
    )


@asynccontextmanager
async def started(client: Any, settings: ProcessSettings) -> AsyncIterator[Any]:
    """Start a client and stop it at the end.

    Raises:
        UnreachableError: Kafka does not answer at the configured address.
        KafkaRefused: it does not let us in, or not do what is asked within.
    """
    try:
        await client.start()
    except (KafkaConnectionError, OSError) as error:
        await client.stop()
        refused = await refusal(settings.kafka, KafkaAccess.of(settings))
        if refused is not None:
            # The client's own error would say that another try may help.
            raise refused from None
        raise UnreachableError(
            f"Kafka does not answer at {settings.kafka}: {error}.",
            "Check that it runs, and MOTORCADE_KAFKA or --kafka.",
        ) from error
    except _FORBIDDEN as error:
        await client.stop()
        raise _forbidden(settings, str(error)) from error
    try:
        yield client
    except _FORBIDDEN as error:
        raise _forbidden(settings, str(error)) from error
    finally:
        await client.stop()


def _forbidden(settings: ProcessSettings, what: str) -> KafkaRefused:
    return KafkaRefused(
        f"Kafka at {settings.kafka} does not allow what is asked: {what}.",
        "Its access rules must allow this login the topic or group.",
    )


class Rounds:
    """Reads a consumer in rounds, and fetches nothing between them.

    A consumer left alone fetches a partition as soon as it has one record, and again and again:
    many requests with a little each. Held back from the moment its records are taken until the
    next round, one request brings all that has come, nothing waits in this process for a round to
    end, and the longer the pause the less a record costs. After a round that found as much as it
    may take there is no pause: the rest is on its way while the round is worked on.

    Args:
        client: started, subscribed or assigned.
        least_s: pause after a round, where little comes.
        most_records: of one round.
        most_s: longest pause; what comes meanwhile waits for so long.
    """

    def __init__(
        self,
        client: AIOKafkaConsumer,
        least_s: float,
        most_records: int,
        most_s: float = MOST_PAUSE_S,
    ) -> None:
        self._client = client
        self._least_s = least_s
        self._most = most_records
        self._most_s = most_s
        self._asked = time.monotonic()

    async def next(self, timeout_ms: int) -> "dict[TopicPartition, list[Record]]":
        """What has come since the last round; nothing if nothing comes in time."""
        client = self._client
        client.resume(*client.assignment())
        found: dict[TopicPartition, list[Record]] = {}
        room = self._most
        while more := await client.getmany(timeout_ms=timeout_ms, max_records=room):
            # Before anything else runs: the consumer would fetch them again at once.
            client.pause(*more)
            found |= more
            room -= sum(map(len, more.values()))
            if room <= 0:
                client.resume(*client.assignment())
                break
            if len(found) >= len(client.assignment()):
                break
            # Every broker answers by itself, and one that is waited for delays the next round.
            timeout_ms = _STRAGGLERS_MS
        return found

    async def pause(self, records: int) -> None:
        """Wait until the next round is worth its cost, after one of so many records."""
        now = time.monotonic()
        rate = records / (now - self._asked)
        self._asked = now
        if records >= self._most:
            return
        await asyncio.sleep(min(self._most_s, max(self._least_s, rate * _PAUSE_PER_RATE)))


async def partitions_of(client: AIOKafkaConsumer, topic: str) -> list[int]:
    """The partitions of a topic.

    Raises:
        MotorcadeError: the topic does not exist.
    """
    await client._client.force_metadata_update()
    found = client.partitions_for_topic(topic)
    if not found:
        await client._client.add_topic(topic)
        found = client.partitions_for_topic(topic)
    if topic in client._client.cluster.unauthorized_topics:
        raise TopicAuthorizationFailedError(topic)  # `started` says it in our words
    if not found:
        raise MotorcadeError(
            f"Kafka has no topic {topic!r}.", "Create the topics first: motorcade topics."
        )
    return sorted(found)


async def commit_notes(
    client: AIOKafkaConsumer, wanted: list[TopicPartition]
) -> dict[TopicPartition, str]:
    """What was noted with the last commit of each partition; empty where nothing was."""
    found = await client._coordinator.fetch_committed_offsets(wanted)
    return {tp: found[tp].metadata or "" if tp in found else "" for tp in wanted}


async def read_all(
    settings: ProcessSettings,
    topics: Iterable[str],
    *,
    partitions: Sequence[int] | None = None,
    starts: dict[TopicPartition, int] | None = None,
) -> AsyncIterator[list[Record]]:
    """Yield every record of topics from the earliest (or `starts`) up to the ends at the call.

    Batches hold records of one partition each, in offset order.
    """
    async with started(consumer(settings), settings) as client:
        wanted: list[TopicPartition] = []
        for topic in topics:
            numbers = await partitions_of(client, topic) if partitions is None else partitions
            wanted += [TopicPartition(topic, number) for number in numbers]
        ends = await client.end_offsets(wanted)
        begins = await client.beginning_offsets(wanted)
        starts = starts or {}
        position = {tp: max(begins[tp], starts.get(tp, 0)) for tp in wanted}
        remaining = {tp for tp in wanted if position[tp] < ends[tp]}
        client.assign(wanted)
        for tp in wanted:
            client.seek(tp, position[tp])
        client.pause(*(set(wanted) - remaining))
        while remaining:
            fetched = await client.getmany(*remaining, timeout_ms=_POLL_MS)
            for tp, records in fetched.items():
                inside = [record for record in records if record.offset < ends[tp]]
                if inside:
                    yield inside
            for tp in list(remaining):
                # The position also passes what compaction removed at the end.
                if await client.position(tp) >= ends[tp]:
                    remaining.discard(tp)
                    client.pause(tp)


async def tails(
    settings: ProcessSettings, wanted: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], int]:
    """The source place of the last record of each (topic, partition); -1 where there is none."""
    partitions = [TopicPartition(topic, number) for topic, number in wanted]
    found = dict.fromkeys(((tp.topic, tp.partition) for tp in partitions), -1)
    for tp, record in (await records_before(settings, dict.fromkeys(partitions, -1))).items():
        source = source_of(record.headers)
        if source is not None:
            found[tp.topic, tp.partition] = source.place
    return found


async def records_before(
    settings: ProcessSettings, positions: dict[TopicPartition, int]
) -> dict[TopicPartition, Record]:
    """The last record before each position, where there is one; -1 stands for the end."""
    if not positions:
        return {}
    async with started(consumer(settings), settings) as client:
        wanted = list(positions)
        begins = await client.beginning_offsets(wanted)
        ends = await client.end_offsets(wanted)
        target = {tp: min(ends[tp] if at < 0 else at, ends[tp]) - 1 for tp, at in positions.items()}
        missing = {tp for tp in wanted if target[tp] >= begins[tp]}
        found: dict[TopicPartition, Record] = {}
        if not missing:
            return found
        client.assign(list(missing))
        for tp in missing:
            client.seek(tp, target[tp])
        while missing:
            fetched = await client.getmany(*missing, timeout_ms=_POLL_MS, max_records=len(wanted))
            for tp, records in fetched.items():
                if records[0].offset == target[tp]:
                    found[tp] = records[0]
                missing.discard(tp)
                client.pause(tp)
            for tp in list(missing):
                if await client.position(tp) > target[tp]:
                    missing.discard(tp)
        return found


__all__ = [
    "KafkaError",
    "Record",
    "Rounds",
    "TopicPartition",
    "commit_notes",
    "consumer",
    "partitions_of",
    "producer",
    "read_all",
    "records_before",
    "started",
    "tails",
]
