"""The dead letter queue: what was refused and why, one of them in full, and sending it again."""

import asyncio
import heapq
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.source import source_of
from motorcade.fleet.topics import DLQ, MQTT_TOPIC_HEADER, RAW, partition_of
from motorcade.runtime.kafka import (
    Record,
    TopicPartition,
    consumer,
    partitions_of,
    producer,
    read_all,
    records_before,
    started,
)
from motorcade.streaming.refine import dlq_headers
from motorcade.streaming.refine.reasons import REMEDY, Rule

_IN_FLIGHT = 500


class Place(NamedTuple):
    """Where a letter lies in `telemetry.dlq`, written "partition/offset"."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Read "partition/offset".

        Raises:
            MotorcadeError: the text has another form.
        """
        partition, _, offset = text.partition("/")
        if not (partition.isdecimal() and offset.isdecimal()):
            raise MotorcadeError(
                f"{text!r} is not the place of a message, PARTITION/OFFSET such as 3/120.",
                "`motorcade dlq list` shows the places.",
            )
        return cls(int(partition), int(offset))


class Letter(NamedTuple):
    """A refused message: the payload as the car sent it, and what is known about it."""

    place: Place
    #: Wall-clock milliseconds since 1970 at which it was refused.
    refused: int
    vehicle_id: str
    rule: str
    reason: str
    #: Where it lies in telemetry.raw.
    raw: Place
    #: Which sample of the raw record, from 0.
    sample: int
    #: MQTT topic name, where it is not the canonical one of the vehicle.
    mqtt_topic: str | None
    payload: bytes

    @property
    def remedy(self) -> str:
        """What to do about messages that this rule refused; empty for a rule of another version."""
        return REMEDY[Rule(self.rule)] if self.rule in list(Rule) else ""

    def document(self) -> dict[str, str | int | None]:
        """The letter for a script; bytes that are not UTF-8 are shown as escapes."""
        return {
            "place": str(self.place),
            "refused": self.refused,
            "vehicle_id": self.vehicle_id,
            "rule": self.rule,
            "reason": self.reason,
            "remedy": self.remedy,
            "raw": str(self.raw),
            "sample": self.sample,
            "mqtt_topic": self.mqtt_topic,
            "payload": self.payload.decode("utf-8", "backslashreplace"),
        }


def letter(record: Record) -> Letter:
    """Read a record of `telemetry.dlq`."""
    headers = {name: str(value, "utf-8", "replace") for name, value in record.headers}
    source = source_of(record.headers)
    return Letter(
        Place(record.partition, record.offset),
        record.timestamp,
        str(record.key or b"", "utf-8", "replace"),
        headers.get(dlq_headers.CLASS, ""),
        headers.get(dlq_headers.MESSAGE, ""),
        Place(
            int(headers.get(dlq_headers.PARTITION, -1)), int(headers.get(dlq_headers.OFFSET, -1))
        ),
        source.index if source else 0,
        headers.get(MQTT_TOPIC_HEADER),
        record.value or b"",
    )


async def newest(
    settings: ProcessSettings, limit: int = 20, rule: str | None = None
) -> list[Letter]:
    """The newest letters, newest first; of one rule where it is given.

    Raises:
        MotorcadeError: no rule has that name, or Kafka does not answer.
    """
    _known(rule)
    found: list[tuple[int, Place, Letter]] = []
    async for record in _records(settings, None if rule else limit):
        one = letter(record)
        if rule is None or one.rule == rule:
            entry = (one.refused, one.place, one)
            if len(found) < limit:
                heapq.heappush(found, entry)
            elif found:
                heapq.heappushpop(found, entry)
    return [one for _, _, one in sorted(found, reverse=True)]


async def counts(settings: ProcessSettings) -> dict[str, int]:
    """How many letters each rule has, the most frequent first."""
    found = Counter([letter(record).rule async for record in _records(settings)])
    return dict(found.most_common())


async def fetch(settings: ProcessSettings, places: Iterable[Place]) -> list[Letter]:
    """Letters by their places.

    Raises:
        MotorcadeError: nothing lies at a place.
    """
    found = []
    for place in places:
        tp = TopicPartition(DLQ, place.partition)
        if place.partition not in await _partitions(settings):
            raise MotorcadeError(f"{DLQ} has no partition {place.partition}.")
        record = (await records_before(settings, {tp: place.offset + 1})).get(tp)
        if record is None or record.offset != place.offset:
            raise MotorcadeError(
                f"Nothing lies at {place} of {DLQ}.", "`motorcade dlq list` shows what does."
            )
        found.append(letter(record))
    return found


async def replay(settings: ProcessSettings, letters: Iterable[Letter]) -> int:
    """Send payloads again, untouched, to `telemetry.raw` under their vehicle's key.

    Refine judges them anew: with a corrected catalogue they pass, otherwise they come back.
    What was let through meanwhile is an exact repeat and is suppressed.
    """
    sent = 0
    async with started(producer(settings), settings) as client:
        count = len(await client.partitions_for(RAW))
        waiting = []
        for one in letters:
            key = one.vehicle_id.encode()
            headers = [(MQTT_TOPIC_HEADER, one.mqtt_topic.encode())] if one.mqtt_topic else []
            waiting.append(
                await client.send(
                    RAW,
                    value=one.payload,
                    key=key,
                    partition=partition_of(key, count),
                    headers=headers,
                )
            )
            if len(waiting) >= _IN_FLIGHT:
                sent += len(await asyncio.gather(*waiting))
                waiting.clear()
        sent += len(await asyncio.gather(*waiting))
    return sent


async def of_rule(settings: ProcessSettings, rule: str | None) -> list[Letter]:
    """Every letter of a rule, or every one, in the order of each partition.

    Raises:
        MotorcadeError: no rule has that name.
    """
    _known(rule)
    found = [letter(record) async for record in _records(settings)]
    return [one for one in found if rule is None or one.rule == rule]


def _known(rule: str | None) -> None:
    if rule is not None and rule not in list(Rule):
        raise MotorcadeError(f"No rule is called {rule!r}.", f"The rules are: {', '.join(Rule)}.")


async def _partitions(settings: ProcessSettings) -> list[int]:
    async with started(consumer(settings), settings) as client:
        return await partitions_of(client, DLQ)


async def _records(settings: ProcessSettings, last: int | None = None) -> AsyncIterator[Record]:
    """Records of the queue, of each partition all or the last so many."""
    starts: dict[TopicPartition, int] = {}
    if last is not None:
        async with started(consumer(settings), settings) as client:
            wanted = [TopicPartition(DLQ, n) for n in await partitions_of(client, DLQ)]
            ends = await client.end_offsets(wanted)
        starts = {tp: end - last for tp, end in ends.items()}
    async for batch in read_all(settings, [DLQ], starts=starts):
        for record in batch:
            yield record
