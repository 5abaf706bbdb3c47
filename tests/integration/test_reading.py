"""Recorded ranges: read straight from Kafka, the same every time, or refused with the reason.

Every test of reading runs with both readers.
"""

import asyncio
import struct
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as ConfluentPartition
from confluent_kafka.admin import AdminClient

from motorcade.fleet.avro import TELEMETRY_SUBJECT, telemetry_schema
from motorcade.fleet.catalogue import Catalogue, load_catalogue
from motorcade.fleet.errors import DecodeError, MotorcadeError, UnreachableError
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns
from motorcade.fleet.topics import Topic
from motorcade.ml.errors import RangeError
from motorcade.ml.reading.columnar import ColumnarReader, registry_lookup
from motorcade.ml.reading.frames import frame
from motorcade.ml.reading.ranges import OffsetRange, record_ranges
from motorcade.ml.reading.reader import Reader
from motorcade.ml.reading.recording import survey
from motorcade.ml.reading.tensorflow_io import TensorflowReader, require_readable
from motorcade.ml.reading.tf_data import tf_dataset
from motorcade.runtime.kafka import producer, started
from motorcade.runtime.registry import schema_id
from motorcade.stack import topics

CATALOGUE = load_catalogue()
ROWS = 500


def rows(first: int, n: int, catalogue: Catalogue = CATALOGUE) -> TelemetryColumns:
    """Rows whose first signal is their number."""
    number = np.arange(first, first + n)
    values = np.ones((n, len(catalogue.names)))
    values[:, 0] = number
    vins = np.array([b"VIN%014d" % (k % 7) for k in number], dtype="S17")
    return TelemetryColumns(vins, values, number, number, number, number)


async def write(settings: ProcessSettings, topic: str, partition: int, values: list[bytes]) -> None:
    async with started(producer(settings), settings) as client:
        for value in values:
            await client.send(topic, value, key=b"k", partition=partition)
        await client.flush()


@pytest.fixture(scope="module")
async def settings(kafka: str, registry_schemas: str) -> ProcessSettings:
    return ProcessSettings(kafka=kafka, registry_url=registry_schemas)


@pytest.fixture(scope="module")
async def codec(settings: ProcessSettings) -> TelemetryAvro:
    return TelemetryAvro(CATALOGUE, await schema_id(settings, CATALOGUE, TELEMETRY_SUBJECT))


@pytest.fixture
async def topic(settings: ProcessSettings, codec: TelemetryAvro, unique: str) -> str:
    """A topic of two partitions: rows 0–499 in the first, 500–999 in the second."""
    name = f"telemetry-{unique}"
    await topics.create(settings.kafka, [Topic(name, 2)])
    for partition in (0, 1):
        await write(settings, name, partition, codec.encode(rows(ROWS * partition, ROWS)))
    return name


READERS: dict[str, Callable[..., Reader]] = {
    "columnar": ColumnarReader,
    "tensorflow-io": TensorflowReader,
}


@pytest.fixture(params=READERS)
def reader_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


def numbers(reader: Reader) -> list[int]:
    return [int(n) for batch in reader for n in batch.values[:, 0]]


def reader_of(
    kind: str, settings: ProcessSettings, ranges: list[OffsetRange], **more: int
) -> Reader:
    return READERS[kind](settings, ranges, CATALOGUE, registry_lookup(settings), **more)


async def test_a_range_is_read_in_order_and_as_often_as_asked(
    reader_kind: str, settings: ProcessSettings, topic: str
) -> None:
    ranges = record_ranges(settings, topic)
    assert ranges == [OffsetRange(topic, 0, 0, ROWS), OffsetRange(topic, 1, 0, ROWS)]
    reader = reader_of(reader_kind, settings, ranges[::-1], batch=64)
    assert len(reader) == 2 * ROWS
    assert numbers(reader) == list(range(2 * ROWS))
    assert numbers(reader) == list(range(2 * ROWS))


async def test_what_arrives_later_is_not_part_of_the_range(
    reader_kind: str, settings: ProcessSettings, codec: TelemetryAvro, topic: str
) -> None:
    ranges = record_ranges(settings, topic)
    await write(settings, topic, 0, codec.encode(rows(9000, 10)))
    assert numbers(reader_of(reader_kind, settings, ranges)) == list(range(2 * ROWS))


async def test_part_of_a_partition_is_read_to_the_record(
    reader_kind: str, settings: ProcessSettings, topic: str
) -> None:
    reader = reader_of(reader_kind, settings, [OffsetRange(topic, 1, 3, 8)])
    assert numbers(reader) == [503, 504, 505, 506, 507]


async def test_a_range_between_two_moments_holds_what_was_ingested_between_them(
    settings: ProcessSettings, codec: TelemetryAvro, topic: str
) -> None:
    newest = await ingest_time(settings, topic)
    while await ingest_time(settings, topic) == newest:
        await write(settings, topic, 0, codec.encode(rows(9000, 1)))
    later = await ingest_time(settings, topic)
    (before, second) = record_ranges(settings, topic, until_ms=later)
    (since,) = record_ranges(settings, topic, since_ms=later)
    assert (before.start, second) == (0, OffsetRange(topic, 1, 0, ROWS))
    assert since.start == before.end >= ROWS
    assert since.end == record_ranges(settings, topic)[0].end
    assert record_ranges(settings, topic, since_ms=later + 10**9) == []


async def ingest_time(settings: ProcessSettings, topic: str) -> int:
    """LogAppendTime of the last record of partition 0."""
    from motorcade.runtime.kafka import read_all

    found = 0
    async for batch in read_all(settings, [topic], partitions=[0]):
        found = batch[-1].timestamp
    return found


async def test_an_expired_range_is_refused_with_the_earliest_offset_available(
    reader_kind: str, settings: ProcessSettings, topic: str
) -> None:
    ranges = record_ranges(settings, topic)
    admin = AdminClient({"bootstrap.servers": settings.kafka})
    for future in admin.delete_records([ConfluentPartition(topic, 1, 200)]).values():
        await asyncio.to_thread(future.result)
    with pytest.raises(
        RangeError, match=rf"{topic}\[1\] no longer holds offset 0.*available is 200"
    ):
        numbers(reader_of(reader_kind, settings, ranges))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"end": ROWS + 1}, "ends at offset 500, the range asks for records up to offset 501"),
        ({"partition": 9}, "has no partition 9"),
        ({"topic": "nowhere"}, "no topic 'nowhere'"),
    ],
)
async def test_a_range_of_another_kafka_is_refused(
    reader_kind: str, settings: ProcessSettings, topic: str, change: dict[str, Any], problem: str
) -> None:
    wanted = OffsetRange(topic, 0, 0, ROWS)._replace(**change)
    with pytest.raises(RangeError, match=problem):
        numbers(reader_of(reader_kind, settings, [wanted]))


async def test_a_record_that_is_not_telemetry_is_named_by_its_place(
    reader_kind: str, settings: ProcessSettings, topic: str
) -> None:
    await write(settings, topic, 1, [b"hello"])
    with pytest.raises(DecodeError, match=rf"{topic}\[1\] from offset 0"):
        numbers(reader_of(reader_kind, settings, record_ranges(settings, topic)))


async def test_records_of_an_older_schema_are_read_with_the_new_signal_absent(
    reader_kind: str, settings: ProcessSettings, topic: str
) -> None:
    import json

    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

    document = CATALOGUE.model_dump()
    document["signals"] = [s for s in document["signals"] if s["name"] != "throttle_pos"]
    older = Catalogue.model_validate(document)
    client = SchemaRegistryClient({"url": settings.registry_url})
    number = client.register_schema(
        f"{topic}-value", Schema(json.dumps(telemetry_schema(older)), "AVRO")
    )
    await write(settings, topic, 1, TelemetryAvro(older, number).encode(rows(1000, 10, older)))
    reader = reader_of(reader_kind, settings, record_ranges(settings, topic))
    values = np.concatenate([batch.values for batch in reader])
    assert values[:, 0].tolist() == list(range(1010))
    absent = np.isnan(values[:, CATALOGUE.column("throttle_pos")])
    assert np.flatnonzero(absent).tolist() == list(range(1000, 1010))
    assert number in reader.schemas
    assert len(reader.schemas) == 2


@pytest.fixture(scope="module")
async def gaps(settings: ProcessSettings, codec: TelemetryAvro) -> list[OffsetRange]:
    """Ranges of every length and place, also over offsets that are no records.

    The first partition holds 1025 records, the second rows in transactions of 1 to 40 records, each
    followed by the offset of its marker, and in the end three markers of transactions that wrote to
    it nothing that stayed.
    """
    name = f"gaps-{uuid.uuid4().hex[:8]}"
    await topics.create(settings.kafka, [Topic(name, 2)])
    await write(settings, name, 0, codec.encode(rows(0, 1025)))
    client = Producer({"bootstrap.servers": settings.kafka, "transactional.id": name})
    client.init_transactions()
    first = 2000
    for size in (1, 40, 2, 7, 1, 1, 30, 64, 3):
        client.begin_transaction()
        for value in codec.encode(rows(first, size)):
            client.produce(name, value, b"k", 1)
        client.commit_transaction()
        first += size
    for _ in range(3):
        client.begin_transaction()
        client.produce(name, codec.encode(rows(9999, 1))[0], b"k", 1)
        client.flush()
        client.abort_transaction()
    whole = record_ranges(settings, name)
    end = whole[1].end
    chance = np.random.default_rng(0)
    starts = [*chance.integers(0, end - 1, 12).tolist(), end - 5, end - 1, 0, 1]
    ends = [min(end, one + 1 + int(chance.integers(0, 50))) for one in starts]
    parts = [OffsetRange(name, 1, a, b) for a, b in zip(starts, ends, strict=True)]
    return [*whole, OffsetRange(name, 0, 1024, 1025), OffsetRange(name, 0, 0, 1), *parts]


async def test_both_readers_give_the_same_records_in_the_same_order(
    settings: ProcessSettings, gaps: list[OffsetRange]
) -> None:
    lookup = registry_lookup(settings)
    for one in gaps:
        columnar = ColumnarReader(settings, [one], CATALOGUE, lookup, batch=50)
        expected = survey(columnar, 0, lambda *_: None)
        for piece in (2, 64, 1 << 16):
            if piece == 2 and one.records > 60:
                continue
            other = TensorflowReader(settings, [one], CATALOGUE, lookup, batch=33, piece=piece)
            assert survey(other, 0, lambda *_: None) == expected, (one, piece)
    everything = ColumnarReader(settings, gaps[:2], CATALOGUE, lookup)
    assert numbers(everything) == [*range(1025), *range(2000, 2149)]


async def test_ranges_in_pieces_end_where_they_were_recorded(
    reader_kind: str, settings: ProcessSettings, gaps: list[OffsetRange]
) -> None:
    whole = gaps[1]
    cuts = list(range(whole.start, whole.end, 17))
    pieces = [
        whole._replace(start=a, end=b) for a, b in zip(cuts, [*cuts[1:], whole.end], strict=True)
    ]
    assert numbers(reader_of(reader_kind, settings, pieces)) == list(range(2000, 2149))


async def test_a_kafka_that_no_longer_knows_its_requests_is_refused_for_tensorflow_io(
    settings: ProcessSettings,
) -> None:
    require_readable(settings)

    async def kafka_4(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Tells what it knows, as Kafka 4.1: no error, then (request, oldest, newest)."""
        while length := int.from_bytes(await reader.read(4), "big"):
            correlation = (await reader.readexactly(length))[4:8]
            known = [(0, 0, 13), (1, 4, 17), (3, 0, 13), (18, 0, 0)]
            answer = correlation + struct.pack(">hi", 0, len(known))
            answer += b"".join(struct.pack(">hhh", *one) for one in known)
            writer.write(struct.pack(">i", len(answer)) + answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(kafka_4, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(MotorcadeError, match=r"cannot read from Kafka .*--reader columnar"):
            await asyncio.to_thread(
                require_readable, ProcessSettings(kafka=f"127.0.0.1:9,127.0.0.1:{port}")
            )


async def test_telemetry_is_a_pandas_frame_and_a_tensorflow_dataset(
    settings: ProcessSettings, topic: str
) -> None:
    reader = reader_of("columnar", settings, record_ranges(settings, topic), batch=64)
    found = frame(reader, CATALOGUE, lambda batch: batch.seq % 2 == 1)
    assert found["seq"].tolist() == list(range(1, 2 * ROWS, 2))
    assert found[CATALOGUE.names[0]].tolist() == found["seq"].tolist()
    assert found["vin"].astype(str).tolist()[:2] == [f"VIN{1:014d}", f"VIN{3:014d}"]
    assert found["time"].iloc[0] == pd.Timestamp(1, unit="ms", tz="UTC")

    records = tf_dataset(reader, CATALOGUE).unbatch()
    epochs = [[int(one["seq"]) for one in records] for _ in range(2)]
    assert epochs == [list(range(2 * ROWS))] * 2
    shuffled = records.shuffle(2 * ROWS, seed=1).batch(128)
    batch = next(iter(shuffled))
    assert batch["features"].shape == (128, len(CATALOGUE.features))
    assert batch["seq"].numpy().tolist() != sorted(batch["seq"].numpy().tolist())


async def test_a_kafka_that_is_not_there_is_named() -> None:
    with pytest.raises(UnreachableError, match=r"Kafka at 127\.0\.0\.1:9"):
        record_ranges(ProcessSettings(kafka="127.0.0.1:9"), "telemetry")
