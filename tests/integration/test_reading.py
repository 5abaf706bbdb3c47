"""Recorded ranges: read straight from Kafka, the same every time, or refused with the reason."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import TopicPartition as ConfluentPartition
from confluent_kafka.admin import AdminClient

from motorcade.fleet.avro import TELEMETRY_SUBJECT, telemetry_schema
from motorcade.fleet.catalogue import Catalogue, load_catalogue
from motorcade.fleet.errors import DecodeError, UnreachableError
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns
from motorcade.fleet.topics import Topic
from motorcade.ml.errors import RangeError
from motorcade.ml.reading.columnar import ColumnarReader, registry_lookup
from motorcade.ml.reading.ranges import OffsetRange, record_ranges
from motorcade.ml.reading.tf_data import RangeDataset
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


def numbers(reader: ColumnarReader) -> list[int]:
    return [int(n) for batch in reader for n in batch.values[:, 0]]


def reader_of(settings: ProcessSettings, ranges: list[OffsetRange], **more: int) -> ColumnarReader:
    return ColumnarReader(settings, ranges, CATALOGUE, registry_lookup(settings), **more)


async def test_a_range_is_read_in_order_and_as_often_as_asked(
    settings: ProcessSettings, topic: str
) -> None:
    ranges = record_ranges(settings, topic)
    assert ranges == [OffsetRange(topic, 0, 0, ROWS), OffsetRange(topic, 1, 0, ROWS)]
    reader = reader_of(settings, ranges[::-1], batch=64)
    assert len(reader) == 2 * ROWS
    assert numbers(reader) == list(range(2 * ROWS))
    assert numbers(reader) == list(range(2 * ROWS))


async def test_what_arrives_later_is_not_part_of_the_range(
    settings: ProcessSettings, codec: TelemetryAvro, topic: str
) -> None:
    ranges = record_ranges(settings, topic)
    await write(settings, topic, 0, codec.encode(rows(9000, 10)))
    assert numbers(reader_of(settings, ranges)) == list(range(2 * ROWS))


async def test_part_of_a_partition_is_read_to_the_record(
    settings: ProcessSettings, topic: str
) -> None:
    assert numbers(reader_of(settings, [OffsetRange(topic, 1, 3, 8)])) == [503, 504, 505, 506, 507]


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
    settings: ProcessSettings, topic: str
) -> None:
    ranges = record_ranges(settings, topic)
    admin = AdminClient({"bootstrap.servers": settings.kafka})
    for future in admin.delete_records([ConfluentPartition(topic, 1, 200)]).values():
        await asyncio.to_thread(future.result)
    with pytest.raises(
        RangeError, match=rf"{topic}\[1\] no longer holds offset 0.*available is 200"
    ):
        numbers(reader_of(settings, ranges))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"end": ROWS + 1}, "ends at offset 500, the range asks for records up to offset 501"),
        ({"partition": 9}, "has no partition 9"),
        ({"topic": "nowhere"}, "no topic 'nowhere'"),
    ],
)
async def test_a_range_of_another_kafka_is_refused(
    settings: ProcessSettings, topic: str, change: dict[str, object], problem: str
) -> None:
    wanted = OffsetRange(topic, 0, 0, ROWS)._replace(**change)
    with pytest.raises(RangeError, match=problem):
        numbers(reader_of(settings, [wanted]))


async def test_a_record_that_is_not_telemetry_is_named_by_its_place(
    settings: ProcessSettings, topic: str
) -> None:
    await write(settings, topic, 1, [b"hello"])
    with pytest.raises(DecodeError, match=rf"{topic}\[1\] from offset 0"):
        numbers(reader_of(settings, record_ranges(settings, topic)))


async def test_records_of_an_older_schema_are_read_with_the_new_signal_absent(
    settings: ProcessSettings, topic: str
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
    reader = reader_of(settings, record_ranges(settings, topic))
    values = np.concatenate([batch.values for batch in reader])
    assert values[:, 0].tolist() == list(range(1010))
    absent = np.isnan(values[:, CATALOGUE.column("throttle_pos")])
    assert np.flatnonzero(absent).tolist() == list(range(1000, 1010))
    assert number in reader.schemas
    assert len(reader.schemas) == 2


async def test_the_tensorflow_dataset_holds_exactly_the_ranges_rows(
    settings: ProcessSettings, topic: str
) -> None:
    reader = reader_of(settings, record_ranges(settings, topic), batch=64)
    dataset = RangeDataset(
        reader, lambda batch: batch.values[:, :2], 2, size=len(reader), batch=128, seed=0
    )
    epochs = [[int(row[0]) for rows in dataset for row in rows.numpy()] for _ in range(2)]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(2 * ROWS))


async def test_a_kafka_that_is_not_there_is_named() -> None:
    with pytest.raises(UnreachableError, match=r"Kafka at 127\.0\.0\.1:9"):
        record_ranges(ProcessSettings(kafka="127.0.0.1:9"), "telemetry")


def test_the_command_ends_in_one_clear_line_when_there_is_nothing_to_learn(
    kafka_topics: str, registry_schemas: str, tmp_path: Path
) -> None:
    environment = os.environ | {
        "MOTORCADE_KAFKA": kafka_topics,
        "MOTORCADE_REGISTRY_URL": registry_schemas,
        "MOTORCADE_DATA_DIR": str(tmp_path),
        "MOTORCADE_STATE": str(tmp_path / "state"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "motorcade.stack.cli", "train", "autoencoder", "--since", "1s"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "telemetry holds no records in the time asked for" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "models").exists()
