"""A data set is a name for recorded ranges: the same rows whenever it is read, or refused."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from motorcade.fleet import messages
from motorcade.fleet.avro import TELEMETRY_SUBJECT, telemetry_schema
from motorcade.fleet.catalogue import Catalogue, load_catalogue
from motorcade.fleet.errors import SettingsError, UnreachableError
from motorcade.fleet.messages import DiagnosticTroubleCode
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns
from motorcade.fleet.topics import TELEMETRY, Topic
from motorcade.ml.errors import DatasetError, RangeError
from motorcade.ml.labels.failures import Failures
from motorcade.ml.reading.ranges import OffsetRange
from motorcade.ml.reading.reader import open_reader
from motorcade.ml.reading.recording import record_dataset, trouble_codes, verify_dataset
from motorcade.ml.reading.records import DatasetStore
from motorcade.runtime.kafka import producer, started
from motorcade.runtime.registry import schema_id
from motorcade.stack.commands import app
from motorcade.stack.topics import create

from .driven import command_environment

CATALOGUE = load_catalogue()
CARS, ROWS = 12, 600


def rows(first: int, n: int, catalogue: Catalogue = CATALOGUE) -> TelemetryColumns:
    """Rows of `CARS` cars, one after the other; event time is the number of the row."""
    number = np.arange(first, first + n)
    values = np.random.default_rng(first).normal(50, 10, (n, len(catalogue.names)))
    values[::5, 3] = np.nan
    vins = np.array([b"VIN%014d" % (k % CARS) for k in number], dtype="S17")
    return TelemetryColumns(vins, values, np.ones(n, int), number, number, number)


async def write(settings: ProcessSettings, topic: str, partition: int, values: list[bytes]) -> None:
    async with started(producer(settings), settings) as client:
        for value in values:
            await client.send(topic, value, key=b"k", partition=partition)
        await client.flush()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def settings(kafka_topics: str, registry_schemas: str, tmp_path: Path) -> ProcessSettings:
    return ProcessSettings(kafka=kafka_topics, registry_url=registry_schemas, data_dir=tmp_path)


@pytest.fixture
async def codec(settings: ProcessSettings) -> TelemetryAvro:
    return TelemetryAvro(CATALOGUE, await schema_id(settings, CATALOGUE, TELEMETRY_SUBJECT))


@pytest.fixture
async def topics(settings: ProcessSettings, codec: TelemetryAvro, unique: str) -> tuple[str, str]:
    """A topic with telemetry in two of its partitions, and an empty one for trouble codes."""
    names = (f"telemetry-{unique}", f"dtc-{unique}")
    await create(settings.kafka, [Topic(names[0], 3), Topic(names[1], 1)])
    await write(settings, names[0], 0, codec.encode(rows(0, ROWS)))
    await write(settings, names[0], 2, codec.encode(rows(1000, ROWS)))
    return names


async def test_a_data_set_is_the_same_rows_whenever_it_is_read(
    settings: ProcessSettings, codec: TelemetryAvro, topics: tuple[str, str]
) -> None:
    told: list[tuple[int, int]] = []
    made = record_dataset(settings, "one", topics=topics, told=lambda *one: told.append(one))
    assert (made.records, made.vehicles) == (2 * ROWS, CARS)
    assert (made.event_from, made.event_to) == (0, 1000 + ROWS - 1)
    assert [(one.partition, one.records) for one in made.telemetry] == [(0, ROWS), (2, ROWS)]
    assert told[0] == (0, 2 * ROWS)
    assert told[-1] == (2 * ROWS, 2 * ROWS)

    kept = DatasetStore.of(settings).read("one")
    assert kept == made
    await write(settings, topics[0], 0, codec.encode(rows(5000, 3)))
    read = TelemetryColumns.joined(list(open_reader(settings, kept, CATALOGUE)))
    assert read.seq.tolist() == [*range(ROWS), *range(1000, 1000 + ROWS)]
    assert verify_dataset(settings, kept).rows_sha256 == made.rows_sha256
    by_tensorflow = verify_dataset(settings, kept, "tensorflow-io")
    assert by_tensorflow == verify_dataset(settings, kept)


async def test_its_labels_are_the_trouble_codes_that_had_been_reported(
    settings: ProcessSettings, topics: tuple[str, str]
) -> None:
    vin = f"VIN{1:014d}"
    one = DiagnosticTroubleCode(vin, 1, "P0217", "coolant_leak", 400, 400)
    await write(settings, topics[1], 0, [b"not a code", messages.encode(one)])
    made = record_dataset(settings, "labelled", topics=topics)
    await write(settings, topics[1], 0, [messages.encode(msgspec.structs.replace(one, time=300))])
    codes = trouble_codes(settings, made.dtc)
    assert len(codes) == made.codes == 1
    asked = np.array([vin.encode()], dtype="S17"), np.array([1]), np.array([100])
    failures = Failures.of(codes)
    assert (failures.kinds, failures.ahead(*asked).tolist()) == (("P0217",), [[300]])


async def test_rows_that_are_others_are_found_out(
    settings: ProcessSettings, topics: tuple[str, str]
) -> None:
    made = record_dataset(settings, "one", topics=topics)
    first, second = made.telemetry
    shifted = msgspec.structs.replace(made, telemetry=(first._replace(end=first.end - 1), second))
    with pytest.raises(DatasetError, match=f"no longer what was recorded: {2 * ROWS - 1} records"):
        verify_dataset(settings, shifted)


@pytest.mark.parametrize(
    ("lost", "problem"),
    [
        ({"end": 10**9}, "asks for records up to offset 1000000000"),
        ({"partition": 99}, "has no partition 99"),
        ({"topic": "gone"}, "no topic 'gone'"),
    ],
)
async def test_a_range_that_kafka_does_not_hold_is_refused_before_anything_is_read(
    settings: ProcessSettings, topics: tuple[str, str], lost: dict[str, Any], problem: str
) -> None:
    made = record_dataset(settings, "one", topics=topics)
    telemetry = (made.telemetry[0], made.telemetry[1]._replace(**lost))
    with pytest.raises(RangeError, match=problem):
        open_reader(settings, msgspec.structs.replace(made, telemetry=telemetry), CATALOGUE)
    codes = (OffsetRange("no-codes", 0, 0, 1),)
    with pytest.raises(RangeError, match="no topic 'no-codes'"):
        open_reader(settings, msgspec.structs.replace(made, dtc=codes), CATALOGUE)


async def test_a_schema_that_lacks_a_feature_is_refused(
    settings: ProcessSettings, topics: tuple[str, str]
) -> None:
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

    document = CATALOGUE.model_dump()
    document["signals"] = [s for s in document["signals"] if s["name"] != "coolant_temp"]
    older = Catalogue.model_validate(document)
    text = json.dumps(telemetry_schema(older))
    number = SchemaRegistryClient({"url": settings.registry_url}).register_schema(
        f"{topics[0]}-value", Schema(text, "AVRO")
    )
    made = record_dataset(settings, "new", topics=topics)
    await write(settings, topics[0], 0, TelemetryAvro(older, number).encode(rows(5000, 3, older)))
    problem = f"schema {number} lacks the feature coolant_temp"
    with pytest.raises(DatasetError, match=problem):
        record_dataset(settings, "mixed", topics=topics)
    assert [one.name for one in DatasetStore.of(settings).list()] == ["new"]
    mixed = msgspec.structs.replace(made, schema_ids=(*made.schema_ids, number))
    with pytest.raises(DatasetError, match=problem):
        open_reader(settings, mixed, CATALOGUE)


async def test_what_cannot_be_recorded_or_opened_is_said_at_once(
    settings: ProcessSettings, topics: tuple[str, str]
) -> None:
    made = record_dataset(settings, "one", topics=topics, test_vehicles=r"VIN0{13}[01]")
    with pytest.raises(DatasetError, match="There is a data set one already"):
        record_dataset(settings, "one", topics=topics)
    assert record_dataset(settings, "one", topics=topics, replace=True).test_vehicles == ""
    with pytest.raises(DatasetError, match="no name of a data set"):
        record_dataset(settings, "../one", topics=topics)
    with pytest.raises(DatasetError, match=r"0 of 12 vehicles match 'BUS\.\*'"):
        record_dataset(settings, "two", topics=topics, test_vehicles="BUS.*")
    with pytest.raises(SettingsError, match="no regular expression"):
        record_dataset(settings, "two", topics=topics, test_vehicles="(")
    with pytest.raises(DatasetError, match="holds no records in the time asked for"):
        record_dataset(settings, "two", since_ms=now_ms() + 10**7, topics=topics)
    with pytest.raises(DatasetError, match=r"no data set two .*there are: one"):
        DatasetStore.of(settings).read("two")
    with pytest.raises(SettingsError, match="no reader 'spark'"):
        open_reader(settings, made, CATALOGUE, "spark")
    other = CATALOGUE.model_copy(update={"name": "trams"})
    with pytest.raises(DatasetError, match="not with 'trams'"):
        open_reader(settings, made, other)
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        open_reader(settings.model_copy(update={"kafka": "127.0.0.1:9"}), made, CATALOGUE)


async def test_the_command_records_lists_shows_and_verifies(
    settings: ProcessSettings, codec: TelemetryAvro
) -> None:
    began = now_ms()
    while now_ms() <= began:  # what came before is no part of it
        pass
    since = datetime.fromtimestamp((began + 1) / 1000, UTC).isoformat()
    await write(settings, TELEMETRY, 0, codec.encode(rows(0, ROWS)))

    def run(*words: str) -> str:
        done = CliRunner(env=command_environment(settings)).invoke(
            app, ["dataset", *words], catch_exceptions=False
        )
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "Record one: motorcade dataset record NAME" in run("list")
    said = run("record", "morning", "--since", since, "--test-vehicles", r"VIN0{13}[01]")
    assert f"morning: {ROWS} records of {CARS} vehicles" in said
    assert "Next: motorcade train autoencoder --dataset morning" in said
    assert "morning" in run("list")
    shown = json.loads(run("show", "morning", "--json"))
    assert (shown["records"], shown["vehicles"]) == (ROWS, CARS)
    parts = shown["split"]["parts"]
    assert parts["test"]["vehicles"] == 2
    assert sum(part["vehicles"] for part in parts.values()) == CARS
    text = run("show", "morning")
    assert parts["test"]["sha256"][:8] in text
    assert shown["rows_sha256"] in text
    assert "morning is what was recorded" in run("verify", "morning")
    with pytest.raises(DatasetError, match="no data set evening"):
        run("verify", "evening")
