"""The derive loop writes every output exactly once, wherever SIGKILL strikes."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.source import Source, source_of
from motorcade.fleet.topics import Topic
from motorcade.runtime.kafka import TopicPartition, consumer, producer, read_all, started
from motorcade.stack import topics

PARTITIONS = 2
RECORDS = 200
STEP = Path(__file__).with_name("derive_step.py")


def start(kafka: str, base: str, failpoint: str = "") -> subprocess.Popen[bytes]:
    env = os.environ | {"MOTORCADE_KAFKA": kafka, "MOTORCADE_FAILPOINT": failpoint}
    return subprocess.Popen([sys.executable, str(STEP), base], env=env, stderr=subprocess.DEVNULL)


async def read(settings: ProcessSettings, topic: str) -> dict[int, list[tuple[Source, bytes]]]:
    """(source, value) of every record, by partition."""
    found: dict[int, list[tuple[Source, bytes]]] = defaultdict(list)
    async for batch in read_all(settings, [topic]):
        for record in batch:
            source = source_of(record.headers)
            assert source is not None
            assert source.partition == record.partition
            found[record.partition].append((source, record.value or b""))
    return found


async def fill(settings: ProcessSettings, base: str, first: int, count: int) -> None:
    async with started(producer(settings), settings) as client:
        for value in range(first, first + count):
            for partition in range(PARTITIONS):
                await client.send(base, b"%d" % value, key=b"k", partition=partition)
        await client.flush()


async def until_copied(
    settings: ProcessSettings, base: str, count: int, partitions: int = PARTITIONS
) -> None:
    while True:
        found = await read(settings, f"{base}.copy")
        if all(len({source for source, _ in found[p]}) >= count for p in range(partitions)):
            return
        await asyncio.sleep(0.2)


def expected_copies(partition: int, count: int) -> list[tuple[Source, bytes]]:
    values = [b"%d %d" % (v, sum(range(max(0, v - 4), v + 1))) for v in range(count)]
    return [(Source(partition, offset), value) for offset, value in enumerate(values)]


@pytest.fixture
async def base(kafka: str, unique: str) -> str:
    name = f"derive-{unique}"
    await topics.create(kafka, [Topic(name + end, PARTITIONS) for end in ("", ".copy", ".marks")])
    return name


@pytest.mark.parametrize(
    "failpoint",
    [
        "copy.before-produce:2",
        "copy.between-batches:5",
        "copy.between-outputs:3",
        "copy.after-produce:2",
    ],
)
async def test_killed_at_a_failpoint_it_loses_and_repeats_nothing(
    kafka: str, base: str, failpoint: str
) -> None:
    settings = ProcessSettings(kafka=kafka)
    await fill(settings, base, 0, RECORDS)
    dying = start(kafka, base, failpoint)
    assert await asyncio.to_thread(dying.wait, 60) == -signal.SIGKILL
    process = start(kafka, base)
    try:
        await asyncio.wait_for(until_copied(settings, base, RECORDS), 60)
    finally:
        process.terminate()
    assert await asyncio.to_thread(process.wait, 30) == 0
    copies, marks = await read(settings, f"{base}.copy"), await read(settings, f"{base}.marks")
    for partition in range(PARTITIONS):
        assert copies[partition] == expected_copies(partition, RECORDS)
        assert [source for source, _ in marks[partition]] == [
            Source(partition, offset, index) for offset in range(0, RECORDS, 3) for index in (0, 1)
        ]


async def test_physical_repeats_of_a_derived_source_are_dropped(kafka: str, base: str) -> None:
    settings = ProcessSettings(kafka=kafka)
    from motorcade.fleet.source import source_header

    async with started(producer(settings), settings) as client:
        # A writer died and wrote the last two samples again.
        for value, source in enumerate([(0, 0), (1, 0), (1, 1), (1, 0), (1, 1), (1, 2)]):
            headers = [source_header(0, *source)]
            await client.send_and_wait(base, b"%d" % value, key=b"k", partition=0, headers=headers)
    process = start(kafka, base)
    try:
        await asyncio.wait_for(until_copied(settings, base, 4, partitions=1), 60)
    finally:
        process.terminate()
    assert await asyncio.to_thread(process.wait, 30) == 0
    values = [value.split()[0] for _, value in (await read(settings, f"{base}.copy"))[0]]
    assert values == [b"0", b"1", b"2", b"5"]


async def test_an_offset_committed_beyond_the_topics_end_is_refused_and_not_skipped(
    kafka: str, base: str
) -> None:
    settings = ProcessSettings(kafka=kafka)
    await fill(settings, base, 0, 10)
    async with started(consumer(settings, group=base), settings) as client:
        client.assign([TopicPartition(base, 0)])
        await client.commit({TopicPartition(base, 0): 50})
    env = os.environ | {"MOTORCADE_KAFKA": kafka}
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, str(STEP), base], env=env, capture_output=True, timeout=60
    )
    assert done.returncode == 1
    assert b"committed offset 50" in done.stderr
