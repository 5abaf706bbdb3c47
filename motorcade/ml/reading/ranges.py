"""Recorded offset ranges of a topic: naming them, verifying them, reading their values.

A training set is a list of offset ranges: nothing is copied, and reading them again gives the same
rows in the same order for as long as Kafka keeps them.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from motorcade.fleet.errors import UnreachableError
from motorcade.fleet.settings import ProcessSettings
from motorcade.ml.errors import RangeError
from motorcade.runtime.kafka_access import KafkaAccess, require_admission

#: Records per batch.
BATCH = 2000
#: Messages taken from the client at once. More fall out of the processor's cache before they are
#: looked at: 2,000 cost a fifth of the reader's rate (bench/read.py).
_TAKEN = 500
#: A Kafka that sends nothing for this long is reported as unreachable.
_SILENCE_S = 30.0
#: A batch is not full where offsets are no records: longest wait for the rest of it.
_WAIT_S = 0.2
_REQUEST_S = 10.0
_ELECTING = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)


class OffsetRange(NamedTuple):
    """Records of one partition from `start` to before `end`."""

    topic: str
    partition: int
    start: int
    end: int

    @property
    def records(self) -> int:
        """How many records it holds."""
        return self.end - self.start


def record_ranges(
    settings: ProcessSettings,
    topic: str,
    *,
    since_ms: int | None = None,
    until_ms: int | None = None,
) -> list[OffsetRange]:
    """Name what a topic holds now, or took in between two moments.

    Args:
        settings: where Kafka is.
        topic: what to record.
        since_ms: ingest time of the first record, milliseconds since 1970; None begins at the
            earliest record that Kafka still has.
        until_ms: ingest time before which the last record came; None ends at the latest one.

    Returns:
        The non-empty ranges, by partition.

    Raises:
        RangeError: the topic does not exist.
        UnreachableError: Kafka does not answer.
    """
    with range_client(settings) as client:
        numbers = _partitions(client, topic)
        ranges = [[*_watermarks(client, topic, number)] for number in numbers]
        for position, moment in ((0, since_ms), (1, until_ms)):
            if moment is None:
                continue
            wanted = [TopicPartition(topic, number, moment) for number in numbers]
            for tp in _patiently(client.offsets_for_times, wanted):
                bounds = ranges[numbers.index(tp.partition)]
                # -1: no record is as young as that.
                bounds[position] = tp.offset if tp.offset >= 0 else bounds[1]
    return [
        OffsetRange(topic, number, start, end)
        for number, (start, end) in zip(numbers, ranges, strict=True)
        if start < end
    ]


def cluster_id(settings: ProcessSettings) -> str:
    """The identity that a Kafka cluster was given when it was made.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    with range_client(settings) as client:
        found: str = client.list_topics(timeout=_REQUEST_S).cluster_id or ""
        return found


def read_values(
    settings: ProcessSettings, ranges: Sequence[OffsetRange], *, batch: int = BATCH
) -> Iterator[list[bytes]]:
    """Record values of ranges of any topic, in (partition, offset) order.

    Raises:
        RangeError, UnreachableError: as `record_ranges`, and when a range is gone.
    """
    with range_client(settings) as client:
        for one in sorted(ranges):
            check(client, one)
            for found in values_of(client, one, batch):
                yield found.values


def check(client: Any, one: OffsetRange) -> None:
    """Verify that Kafka holds a whole range.

    Raises:
        RangeError: it does not; the message gives the offsets that it has.
    """
    if one.partition not in _partitions(client, one.topic):
        raise RangeError(
            f"The topic {one.topic} has no partition {one.partition}.",
            "The range was recorded on another Kafka, or before the topic was made anew.",
        )
    low, high = _watermarks(client, one.topic, one.partition)
    if one.start < low:
        raise RangeError(
            f"{one.topic}[{one.partition}] no longer holds offset {one.start}: the earliest offset "
            f"available is {low}.",
            "Retention has removed it. Record a newer range, or keep the topic longer.",
        )
    if one.end > high:
        raise RangeError(
            f"{one.topic}[{one.partition}] ends at offset {high}, the range asks for records up "
            f"to offset {one.end}.",
            "The range was recorded on another Kafka, or before the topic was made anew.",
        )


class Values(NamedTuple):
    """Values of records in order; the first lies at offset `first` or after, the last at `last`."""

    first: int
    last: int
    values: list[bytes]


def values_of(client: Any, one: OffsetRange, batch: int) -> Iterator[Values]:
    """Values of a range's records, at most `batch` at a time.

    Raises:
        RangeError: the range went while it was being read.
        UnreachableError: Kafka falls silent.
    """
    client.assign([TopicPartition(one.topic, one.partition, one.start)])
    first = position = one.start
    last = -1
    values: list[bytes] = []
    while position < one.end:
        count = min(_TAKEN, batch - len(values), one.end - position)
        messages = _messages(client, one, position, count)
        found = [message.value() for message in messages if message.error() is None]
        ended = len(found) < len(messages)
        if ended:
            del found[_before_end(one, position, messages) :]
        # Offsets that are no records make room for records behind the range.
        while found and messages[len(found) - 1].offset() >= one.end:
            found.pop()
        if found:
            values += found
            last = messages[len(found) - 1].offset()
        position = one.end if ended else messages[-1].offset() + 1
        if values and (len(values) >= batch or position >= one.end):
            yield Values(first, last, values)
            first, values = position, []


def _messages(client: Any, one: OffsetRange, position: int, count: int) -> list[Any]:
    """At most `count` messages, at least one."""
    deadline = time.monotonic() + _SILENCE_S
    while time.monotonic() < deadline:
        if messages := client.consume(count, _WAIT_S):
            found: list[Any] = messages
            return found
    raise UnreachableError(
        f"Kafka sent nothing of {one.topic}[{one.partition}] from offset {position} on "
        f"for {_SILENCE_S:.0f} s.",
        "Check that it runs, and its log.",
    )


def _before_end(one: OffsetRange, position: int, messages: list[Any]) -> int:
    """How many messages there are before the one that tells that there are no more."""
    at, error = next(
        (at, message.error()) for at, message in enumerate(messages) if message.error() is not None
    )
    if error.code() != KafkaError._PARTITION_EOF:
        raise RangeError(
            f"{one.topic}[{one.partition}] at offset {position}: {error.str()}.",
            "Was the range removed while it was being read?",
        )
    # The range ends in offsets that are no records, such as a transaction's marker.
    return at


def last_record(client: Any, one: OffsetRange) -> int | None:
    """Offset of the last record of a range; None when none of its offsets is a record.

    An offset is no record where a transaction ended or compaction removed one. So the search
    begins at the last offset, and goes further back, twice as far each time.

    Raises:
        RangeError: as `values_of`.
    """
    step = 1
    while True:
        start = max(one.start, one.end - step)
        last = None
        for found in values_of(client, one._replace(start=start), BATCH):
            last = found.last
        if last is not None or start == one.start:
            return last
        step *= 2


def earliest(client: Any, one: OffsetRange) -> int:
    """The earliest offset that Kafka has of a range's partition."""
    return _watermarks(client, one.topic, one.partition)[0]


def _watermarks(client: Any, topic: str, partition: int) -> tuple[int, int]:
    """Earliest offset, and the one after the latest."""
    low, high = _patiently(client.get_watermark_offsets, TopicPartition(topic, partition))
    return low, high


def _patiently(ask: Callable[..., Any], about: Any) -> Any:
    """Ask again while a partition's leader is only being elected, as when its topic is new."""
    deadline = time.monotonic() + _REQUEST_S
    while True:
        try:
            return ask(about, timeout=_REQUEST_S)
        except KafkaException as error:
            code = error.args[0].code()
            if code not in _ELECTING or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def _partitions(client: Any, topic: str) -> list[int]:
    found = client.list_topics(topic, timeout=_REQUEST_S).topics.get(topic)
    if found is None or found.error is not None:
        raise RangeError(
            f"Kafka has no topic {topic!r}.", "Start the pipeline first: motorcade up."
        )
    return sorted(found.partitions)


@contextmanager
def range_client(settings: ProcessSettings) -> Iterator[Any]:
    """A Kafka client that reads ranges and belongs to no group.

    Raises:
        UnreachableError: Kafka does not answer.
        KafkaRefused: it does not let us in.
    """
    access = KafkaAccess.of(settings)
    require_admission(settings.kafka, access)
    client = Consumer(
        {
            "bootstrap.servers": settings.kafka,
            # Never used: partitions are assigned by hand and nothing is committed.
            "group.id": "motorcade-range-reader",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            # A fetch left over from the partition before must not hold the next one up.
            "fetch.wait.max.ms": 10,
            "fetch.message.max.bytes": 4 << 20,
            "queued.min.messages": 20000,
            "log_level": 0,
            **access.librdkafka(),
        }
    )
    try:
        yield client
    except KafkaException as error:
        raise UnreachableError(
            f"Kafka at {settings.kafka}: {error.args[0].str()}.",
            "Check that it runs, and MOTORCADE_KAFKA or --kafka.",
        ) from error
    finally:
        client.close()
