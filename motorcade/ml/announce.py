"""Which model is live: writing to and following the compacted topic `models`."""

from collections.abc import AsyncIterator

import structlog

from motorcade.fleet import messages
from motorcade.fleet.errors import DecodeError
from motorcade.fleet.messages import ModelAnnouncement
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.topics import MODELS
from motorcade.runtime.kafka import TopicPartition, consumer, partitions_of, producer, started

_log = structlog.get_logger("models")
_POLL_MS = 500


async def announce(settings: ProcessSettings, announcement: ModelAnnouncement) -> None:
    """Make a model the live one; returns when all in-sync replicas have it.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    async with started(producer(settings), settings) as client:
        await client.send_and_wait(
            MODELS, messages.encode(announcement), key=announcement.name.encode()
        )


async def follow(settings: ProcessSettings, name: str) -> AsyncIterator[list[ModelAnnouncement]]:
    """Announcements of one model from the beginning on, without a consumer group, for ever.

    Yields:
        First everything that stood there at the call, in order, perhaps nothing; then what comes.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    async with started(consumer(settings), settings) as client:
        partitions = [TopicPartition(MODELS, n) for n in await partitions_of(client, MODELS)]
        ends = await client.end_offsets(partitions)
        client.assign(partitions)
        await client.seek_to_beginning(*partitions)
        standing: list[ModelAnnouncement] | None = []
        while True:
            # The position also passes what compaction removed.
            if standing is not None and all(
                [await client.position(tp) >= ends[tp] for tp in partitions]
            ):
                yield standing
                standing = None
            fetched = await client.getmany(timeout_ms=_POLL_MS)
            found = [
                announcement
                for records in fetched.values()
                for record in records
                if record.value and (announcement := _read(record.value)) is not None
            ]
            mine = [announcement for announcement in found if announcement.name == name]
            if standing is not None:
                standing += mine
            elif mine:
                yield mine


def _read(payload: bytes) -> ModelAnnouncement | None:
    try:
        return messages.decode(ModelAnnouncement, payload)
    except DecodeError as error:
        _log.warning("announcement ignored", problem=error.what)
        return None
