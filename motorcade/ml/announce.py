"""Which models are live: writing to and following the compacted topic `models`."""

from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec
import structlog

from motorcade.fleet import messages
from motorcade.fleet.errors import DecodeError
from motorcade.fleet.messages import ModelAnnouncement, ModelReference, ModelSlot
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.topics import MODELS
from motorcade.runtime.kafka import (
    Record,
    TopicPartition,
    consumer,
    partitions_of,
    producer,
    read_all,
    started,
)

_log = structlog.get_logger("models")
_POLL_MS = 500
#: Models that were live before, as far as an announcement remembers them.
_REMEMBERED = 10


class Change(NamedTuple):
    """What was said of a slot: its model, or that it is empty now."""

    slot: ModelSlot
    announcement: ModelAnnouncement | None


async def announce(
    settings: ProcessSettings, announcement: ModelAnnouncement, *, first: bool = False
) -> ModelAnnouncement:
    """Make a model live in its slot; returns when all in-sync replicas have it.

    Where it does not say what it replaces, that is what is live now.

    Args:
        settings: of the process.
        announcement: names a stored model and a slot.
        first: nothing was live before it, whatever is now.

    Returns:
        The announcement as it was written.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    if announcement.replaces is None and not first:
        standing = (await live(settings)).get(announcement.slot)
        if standing is not None and _place(standing) != _place(announcement):
            announcement = msgspec.structs.replace(announcement, replaces=reference(standing))
    async with started(producer(settings), settings) as client:
        await client.send_and_wait(
            MODELS, messages.encode(announcement), key=announcement.slot.value.encode()
        )
    return announcement


async def empty(settings: ProcessSettings, slot: ModelSlot) -> None:
    """Say that a slot has no model any more.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    async with started(producer(settings), settings) as client:
        await client.send_and_wait(MODELS, None, key=slot.value.encode())


async def live(settings: ProcessSettings) -> dict[ModelSlot, ModelAnnouncement]:
    """What is live in each slot that has a model.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    found: dict[ModelSlot, ModelAnnouncement] = {}
    async for records in read_all(settings, [MODELS]):
        for change in map(_read, records):
            if change is None:
                continue
            found.pop(change.slot, None)
            if change.announcement is not None:
                found[change.slot] = change.announcement
    return found


async def follow(settings: ProcessSettings) -> AsyncIterator[list[Change]]:
    """What is said of the slots from the beginning on, without a consumer group, for ever.

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
        standing: list[Change] | None = []
        while True:
            # The position also passes what compaction removed.
            if standing is not None and all(
                [await client.position(tp) >= ends[tp] for tp in partitions]
            ):
                yield standing
                standing = None
            fetched = await client.getmany(timeout_ms=_POLL_MS)
            found = [
                change
                for records in fetched.values()
                for record in records
                if (change := _read(record)) is not None
            ]
            if standing is not None:
                standing += found
            elif found:
                yield found


def reference(announcement: ModelAnnouncement) -> ModelReference:
    """An announced model as what another one replaces."""
    return ModelReference(
        announcement.name,
        announcement.version,
        announcement.path,
        announcement.manifest_sha256,
        _shortened(announcement.replaces, _REMEMBERED - 1),
    )


def _shortened(past: ModelReference | None, depth: int) -> ModelReference | None:
    if past is None or not depth:
        return None
    return msgspec.structs.replace(past, replaces=_shortened(past.replaces, depth - 1))


def _place(announcement: ModelAnnouncement) -> tuple[str, str]:
    return announcement.path, announcement.manifest_sha256


def _read(record: Record) -> Change | None:
    try:
        if record.value is None:
            return Change(ModelSlot((record.key or b"").decode()), None)
        announcement = messages.decode(ModelAnnouncement, record.value)
        return Change(announcement.slot, announcement)
    except (DecodeError, ValueError) as error:
        _log.warning("announcement ignored", problem=str(error))
        return None
