"""Refine on a real Kafka: each raw record is refined, quarantined or a repeat, through any kill."""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from motorcade.fleet import topics
from motorcade.fleet.avro import TELEMETRY_SUBJECT
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.source import source_of
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryJson
from motorcade.fleet.topics import LATE_HEADER, partition_of
from motorcade.runtime.kafka import Record, producer
from motorcade.runtime.kafka import started as kafka_started
from motorcade.runtime.registry import schema_id
from motorcade.streaming import dlq

from .pipeline import Messages, Process, Watermark, environment, until


@pytest.fixture
async def refine(kafka_alone: str, registry_schemas: str, tmp_path: Path) -> AsyncIterator[Process]:
    """Refine, ready to start."""
    process = Process("refine", environment(kafka_alone, (), registry_schemas), tmp_path)
    yield process
    if process.running:
        process.kill()


@pytest.fixture
async def mark(kafka_alone: str) -> Watermark:
    found = Watermark(kafka_alone)
    await found.take(topics.RAW, topics.TELEMETRY, topics.DLQ)
    return found


async def put(kafka: str, messages: list[tuple[str, bytes]]) -> None:
    """Write (vehicle id, payload) to telemetry.raw, in order."""
    settings = ProcessSettings(kafka=kafka)
    async with kafka_started(producer(settings), settings) as client:
        sends = [
            await client.send(
                topics.RAW, payload, key=vin.encode(), partition=partition_of(vin.encode())
            )
            for vin, payload in messages
        ]
        await asyncio.gather(*sends)


def places(records: list[Record]) -> list[tuple[int, int]]:
    """Sources of derived records."""
    found = []
    for record in records:
        source = source_of(record.headers)
        assert source is not None
        assert source.partition == record.partition
        found.append((source.partition, source.offset))
    return found


async def audit(mark: Watermark, repeats: int) -> tuple[list[Record], list[Record]]:
    """Wait until every raw record is accounted for; checks it is so exactly once, in order.

    Args:
        repeats: raw records that must have come to nothing, being exact repeats.

    Returns:
        The new records of telemetry and of the DLQ.
    """
    raw = {(r.partition, r.offset): r for r in await mark.since(topics.RAW)}
    for _ in range(600):
        refined = await mark.since(topics.TELEMETRY)
        letters = await mark.since(topics.DLQ)
        if len(refined) + len(letters) + repeats >= len(raw):
            break
        await asyncio.sleep(0.1)
    sources = places(refined)
    assert sources == sorted(sources), "telemetry has the order of telemetry.raw"
    covered = sources + places(letters)
    assert len(covered) == len(set(covered)), "nothing is there twice"
    missing = set(raw) - set(covered)
    assert len(missing) == repeats
    passed = {raw[place].value: place for place in sources}
    for place in missing:
        assert passed[raw[place].value] < place, (
            "only an exact repeat of an earlier one is left out"
        )
    return refined, letters


def rules_of(letters: list[Record]) -> list[str]:
    return sorted(dlq.letter(record).rule for record in letters)


async def test_refined_records_hold_what_the_car_sent_and_name_their_source(
    refine: Process, kafka_alone: str, registry_schemas: str, mark: Watermark
) -> None:
    fleet = Messages(seed=101, cars=20)
    await refine.started()
    sent = [(vin, fleet.payload(i, s)) for s in (1, 2, 3) for i, vin in enumerate(fleet.vins)]
    await put(kafka_alone, sent)
    refined, letters = await audit(mark, repeats=0)
    assert letters == []
    settings = ProcessSettings(kafka=kafka_alone, registry_url=registry_schemas)
    catalogue = load_catalogue()
    codec = TelemetryAvro(catalogue, await schema_id(settings, catalogue, TELEMETRY_SUBJECT))
    columns = codec.decode([record.value for record in refined])
    found = {
        (vin.decode(), seq): values
        for vin, seq, values in zip(
            columns.vin.tolist(), columns.seq.tolist(), columns.values.tolist(), strict=True
        )
    }
    assert len(found) == 60
    for vin, payload in sent:
        document = json.loads(payload)
        expected = [document[name] for name in catalogue.names]
        assert found[vin, document["seq"]] == pytest.approx(expected, rel=1e-6)
    assert all(record.key in {vin.encode() for vin in fleet.vins} for record in refined)


async def test_exact_repeats_are_suppressed_late_ones_pass_marked_and_conflicts_are_quarantined(
    refine: Process, kafka_alone: str, mark: Watermark
) -> None:
    fleet = Messages(seed=102, cars=1)
    vin = fleet.vins[0]
    old = Messages(seed=102, cars=1, boot=fleet.boot - 60_000)
    await refine.started()
    await put(
        kafka_alone,
        [
            (vin, fleet.payload(0, 1)),
            (vin, fleet.payload(0, 3)),
            (vin, fleet.payload(0, 3)),  # exact repeat
            (vin, fleet.payload(0, 2)),  # late
            (vin, fleet.payload(0, 2)),  # exact repeat of a late one
            (vin, fleet.payload(0, 1, speed=1.5)),  # other content
            (vin, old.payload(0, 9)),  # an older boot
            (vin, fleet.payload(0, 4)),
        ],
    )
    refined, letters = await audit(mark, repeats=2)
    late = [(LATE_HEADER, b"1") in record.headers for record in refined]
    assert late == [False, False, True, True, False]
    assert rules_of(letters) == ["identity-conflict"]
    assert dlq.letter(letters[0]).payload == fleet.payload(0, 1, speed=1.5)
    assert await asyncio.to_thread(refine.metric, "motorcade_refine_repeats_total") == 2
    assert await asyncio.to_thread(refine.metric, "motorcade_refine_late_total") == 2


async def test_a_repeat_is_still_known_after_a_kill(
    refine: Process, kafka_alone: str, mark: Watermark
) -> None:
    fleet = Messages(seed=103, cars=5)
    await refine.started()
    first = [(vin, fleet.payload(i, s)) for s in range(1, 21) for i, vin in enumerate(fleet.vins)]
    await put(kafka_alone, first)
    await audit(mark, repeats=0)
    refine.kill()
    await put(kafka_alone, [*first[40:60], (fleet.vins[0], fleet.payload(0, 7, speed=2.25))])
    await refine.started()
    _, letters = await audit(mark, repeats=20)
    assert rules_of(letters) == ["identity-conflict"]


def mixed(rng: random.Random, fleet: Messages, first: int, rounds: int) -> list[tuple[str, bytes]]:
    """Good messages with bad ones and repeats of good ones among them; about one in ten each."""
    messages: list[tuple[str, bytes]] = []
    for seq in range(first, first + rounds):
        for car, vin in enumerate(fleet.vins):
            good = fleet.payload(car, seq)
            messages.append((vin, good))
            dice = rng.random()
            if dice < 0.1:
                messages.append((vin, good[: rng.randrange(len(good))]))
            elif dice < 0.2:
                messages.append((vin, fleet.payload(car, 10**6 + seq, speed=-1)))
            elif dice < 0.3:
                messages.append((vin, good))
    return messages


def repeats_in(messages: list[tuple[str, bytes]]) -> int:
    good = [
        message for message in messages if message[1].endswith(b"}") and b"-1" not in message[1]
    ]
    return len(good) - len(set(good))


async def consumed(refine: Process, mark: Watermark) -> None:
    """Wait until refine has taken all that lies in telemetry.raw, or has died."""
    last = {record.partition: record.offset for record in await mark.since(topics.RAW)}

    async def behind() -> bool:
        done = await mark.committed(refine.name)
        return any(done.get(partition, 0) <= offset for partition, offset in last.items())

    deadline = time.monotonic() + 60
    while refine.running and await behind():
        assert time.monotonic() < deadline, refine.log[-2000:]
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    "failpoint",
    ["refine.before-produce:3", "refine.between-outputs:3", "refine.after-produce:3"],
)
async def test_a_kill_at_each_failpoint_loses_nothing_and_doubles_nothing(
    refine: Process, kafka_alone: str, mark: Watermark, failpoint: str
) -> None:
    fleet = Messages(seed=random.Random(failpoint).randrange(500), cars=40)
    messages = mixed(random.Random(1), fleet, 1, 30)
    refine.start(failpoint)
    chunks = [messages[start : start + 150] for start in range(0, len(messages), 150)]
    while chunks and refine.running:
        await put(kafka_alone, chunks.pop(0))
        await consumed(refine, mark)  # so that every chunk is a batch of its own, or several
    await until(lambda: not refine.running, what="the failpoint's kill")
    for chunk in chunks:
        await put(kafka_alone, chunk)
    assert refine.popen is not None
    assert refine.popen.returncode == -9
    await refine.started()
    await audit(mark, repeats_in(messages))


def batch_of(fleet: Messages, codec: TelemetryAvro, car: int, first: int) -> bytes:
    """Ten samples in one payload, the fifth out of range: in JSON or, of odd cars, in Avro."""
    low = {"speed": -5.0}
    seqs = range(first, first + 10)
    samples = [fleet.payload(car, seq, **(low if seq == first + 4 else {})) for seq in seqs]
    if car % 2:
        columns, rows, bad = TelemetryJson(codec.catalogue).decode(samples)
        assert (len(rows), bad) == (10, [])
        return b"".join(codec.encode(columns))
    return b"[" + b",".join(samples) + b"]"


@pytest.mark.parametrize("failpoint", ["", "refine.between-batches:1", "refine.between-outputs:1"])
async def test_a_batchs_samples_each_come_to_one_record_whenever_refine_is_killed(
    refine: Process, kafka_alone: str, registry_schemas: str, mark: Watermark, failpoint: str
) -> None:
    settings = ProcessSettings(kafka=kafka_alone, registry_url=registry_schemas)
    catalogue = load_catalogue()
    codec = TelemetryAvro(catalogue, await schema_id(settings, catalogue, TELEMETRY_SUBJECT))
    fleet = Messages(seed=105 + len(failpoint), cars=2)
    batches = 300  # of ten samples: more than one Kafka batch of telemetry for each car
    sent = [
        (vin, batch_of(fleet, codec, car, 1 + 10 * n))
        for n in range(batches)
        for car, vin in enumerate(fleet.vins)
    ]
    await put(kafka_alone, sent)
    refine.start(failpoint)
    if failpoint:
        await until(lambda: not refine.running, what="the failpoint's kill")
        await refine.started()
    refined = await mark.until_count(topics.TELEMETRY, batches * 2 * 9)
    letters = await mark.until_count(topics.DLQ, batches * 2)
    sources = [source_of(record.headers) for record in refined]
    assert [record.partition for record in refined] == [s.partition for s in sources if s]
    columns = codec.decode([record.value for record in refined])
    by_car: dict[bytes, list[int]] = {}
    for vin, seq, source in zip(columns.vin.tolist(), columns.seq.tolist(), sources, strict=True):
        assert source is not None
        assert source.index == (seq - 1) % 10
        by_car.setdefault(vin, []).append(seq)
    good = [seq for seq in range(1, 1 + 10 * batches) if seq % 10 != 5]
    assert by_car == {vin.encode(): good for vin in fleet.vins}
    bad = [source_of(record.headers) for record in letters]
    assert {source and source.index for source in bad} == {4}
    assert len(set(bad)) == len(bad) == 2 * batches
    assert set(rules_of(letters)) == {"out-of-range"}
    raw = {(r.partition, r.offset): r.value for r in await mark.since(topics.RAW)}
    for record, source in zip(letters, bad, strict=True):
        assert source is not None
        assert record.value != raw[source.partition, source.offset], "the sample's own bytes"
        assert record.value in raw[source.partition, source.offset]


@pytest.mark.chaos
async def test_kills_at_seeded_moments_under_load_lose_nothing_and_double_nothing(
    refine: Process, kafka_alone: str, mark: Watermark, moments: int
) -> None:
    rng = random.Random(11)
    fleet = Messages(seed=104, cars=100)
    everything: list[tuple[str, bytes]] = []
    refine.start()
    for moment in range(moments):
        messages = mixed(rng, fleet, 1 + 20 * moment, 20)
        everything += messages
        if rng.random() < 0.8:  # otherwise the kill comes while it starts
            await refine.until_ready()
        loading = asyncio.create_task(put(kafka_alone, messages))
        await asyncio.sleep(rng.uniform(0.05, 1.0))
        refine.kill()
        refine.start()
        await loading
    await refine.until_ready()
    await audit(mark, repeats_in(everything))


async def test_letters_are_listed_shown_and_replayed(
    refine: Process, kafka_alone: str, mark: Watermark
) -> None:
    settings = ProcessSettings(kafka=kafka_alone)
    fleet = Messages(seed=105, cars=2)
    await refine.started()
    payload = fleet.payload(1, 1, turbo_pressure=2)
    await put(kafka_alone, [(fleet.vins[0], b"?"), (fleet.vins[1], payload)])
    await mark.until_count(topics.DLQ, 2)
    (newest,) = await dlq.newest(settings, 1, "unknown-field")
    assert newest.vehicle_id == fleet.vins[1]
    assert newest.reason == "the field turbo_pressure is not in the signal catalogue"
    assert newest.payload == payload
    assert (await dlq.fetch(settings, [newest.place])) == [newest]
    assert (await dlq.counts(settings))["unknown-field"] >= 1
    (raw,) = [r for r in await mark.since(topics.RAW) if (r.partition, r.offset) == newest.raw]
    assert raw.value == payload
    assert await dlq.replay(settings, [newest]) == 1
    letters = [dlq.letter(r) for r in await mark.until_count(topics.DLQ, 3)]
    again = [one for one in letters if one.payload == payload]
    assert len(again) == 2
    assert again[0].raw.partition == again[1].raw.partition
    assert again[0].raw.offset < again[1].raw.offset


async def test_the_dlq_commands_speak_to_a_person_and_to_a_script(
    refine: Process, kafka_alone: str, mark: Watermark, tmp_path: Path
) -> None:
    fleet = Messages(seed=106, cars=1)
    await refine.started()
    await put(kafka_alone, [(fleet.vins[0], fleet.payload(0, 1, coolant_temp=999))])
    (record,) = await mark.until_count(topics.DLQ, 1)
    place = f"{record.partition}/{record.offset}"

    async def command(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "motorcade.stack.cli", "dlq", *arguments),
            env={
                **os.environ,
                "MOTORCADE_KAFKA": kafka_alone,
                "MOTORCADE_STATE": str(tmp_path),
                "COLUMNS": "300",
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    reason = "coolant_temp is 999 °C, allowed are -50 to 200 °C"
    code, text = await command("list", "--rule", "out-of-range", "--limit", "1")
    assert code == 0, text
    assert place in text
    assert reason in text
    code, text = await command("list", "--rule", "out-of-range", "--limit", "1", "--json")
    assert (code, json.loads(text)[0]["place"]) == (0, place)
    code, text = await command("list", "--counts", "--json")
    assert (code, json.loads(text)["out-of-range"] >= 1) == (0, True)
    code, text = await command("show", place)
    assert code == 0, text
    assert reason in text
    assert '"coolant_temp": 999' in text
    code, text = await command("replay", place)
    assert (code, text) == (0, "1 message was sent again to telemetry.raw.\n")
    await mark.until_count(topics.DLQ, 2)
    for wrong, problem in (
        (("list", "--rule", "nonsense"), "No rule is called 'nonsense'"),
        (("show", "abc"), "is not the place of a message"),
        (("show", "0/99999999"), "Nothing lies at 0/99999999"),
        (("replay",), "Say which messages to send again"),
    ):
        code, text = await command(*wrong)
        assert code == 1, text
        assert problem in " ".join(text.split())
