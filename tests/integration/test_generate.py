"""`motorcade generate` against a real Kafka: what refine makes of it equals the block's samples."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from motorcade.fleet import messages, topics
from motorcade.fleet.avro import TELEMETRY_SUBJECT
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.clock import RunClock
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryAvro
from motorcade.fleet.topics import GENERATED_HEADER, partition_of
from motorcade.runtime.kafka import Record
from motorcade.runtime.registry import schema_id
from motorcade.simulator.blocks import block_of
from motorcade.simulator.population import FleetPlan

from .pipeline import Process, Watermark, environment, until
from .servers import alive

CARS, MINUTES, WORN = 60, 20, 6
MARKED = (GENERATED_HEADER, b"1")


@pytest.fixture
async def refine(kafka_alone: str, registry_schemas: str, tmp_path: Path) -> AsyncIterator[Process]:
    process = Process("refine", environment(kafka_alone, (), registry_schemas), tmp_path)
    await process.started()
    yield process
    process.kill()


def generate(folder: Path, kafka: str, registry: str, *options: str) -> dict[str, Any]:
    """Run the command; its JSON."""
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "motorcade.stack.cli", "generate", "--kafka", kafka, "--json"),
            *("--state", str(folder / "none"), *options),
        ],
        env={"PATH": "/usr/bin:/bin", "MOTORCADE_REGISTRY_URL": registry},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("payload", ["json", "avro"])
async def test_a_set_is_refined_whole_and_holds_the_blocks_samples(
    payload: str, refine: Process, kafka_alone: str, registry_schemas: str, tmp_path: Path
) -> None:
    mark = Watermark(kafka_alone)
    await mark.take(topics.RAW, topics.TELEMETRY, topics.DLQ, topics.DTC, topics.STATUS)
    truth_file = tmp_path / "truth.json"
    seed = 2000 + len(payload)
    done = generate(
        tmp_path,
        kafka_alone,
        registry_schemas,
        *("--cars", str(CARS), "--hours", str(MINUTES / 60), "--interval", "10"),
        *("--faults", str(WORN), "--wear-minutes", "5", "--seed", str(seed)),
        *("--payload", payload, "--processes", "2", "--truth", str(truth_file)),
    )
    raw = await mark.since(topics.RAW)
    assert len(raw) == done["messages"] > 0.8 * CARS * MINUTES * 6
    assert all(MARKED in record.headers for record in raw)
    assert all(record.partition == partition_of(record.key) for record in raw)

    refined = await mark.until_count(topics.TELEMETRY, len(raw))
    assert await mark.since(topics.DLQ) == []
    await _equals_the_block(refined, done, kafka_alone, registry_schemas, seed)

    truth = json.loads(truth_file.read_text())
    codes = [
        messages.decode(messages.DiagnosticTroubleCode, record.value)
        for record in await mark.since(topics.DTC)
    ]
    assert {(code.vin, code.kind, code.time) for code in codes} == {
        (fault["vin"], fault["kind"], fault["failure_ms"]) for fault in truth["faults"]
    }
    assert len(codes) == WORN == done["failures"]
    statuses = await mark.since(topics.STATUS)
    assert len(statuses) == CARS
    assert all(MARKED in record.headers for record in statuses)


async def _equals_the_block(
    refined: list[Record], done: dict[str, Any], kafka: str, registry: str, seed: int
) -> None:
    """Every refined sample of a healthy car is what its sensors read at that time."""
    settings = ProcessSettings(kafka=kafka, registry_url=registry)
    catalogue = load_catalogue()
    codec = TelemetryAvro(catalogue, await schema_id(settings, catalogue, TELEMETRY_SUBJECT))
    columns = codec.decode([record.value for record in refined])
    start_ms = done["start_ms"]
    plan = FleetPlan(seed, catalogue, RunClock(), grid_ms=5000)
    block = block_of(plan, np.arange(CARS), start_ms)
    expected = {}
    for event_ms in range(start_ms, done["end_ms"], 5000):
        block.step(event_ms)
        expected[event_ms] = block.sample(np.arange(CARS)).astype(np.float32)
    row_of = {vin: row for row, vin in enumerate(block.vins.tolist())}
    compared = 0
    now_ms = time.time() * 1000
    healthy = {vin for vin in row_of if (columns.vin == vin).sum() == MINUTES * 6}
    assert len(healthy) >= CARS - WORN
    for row, vin in enumerate(columns.vin.tolist()):
        at = int(columns.time[row])
        if vin in healthy and at < start_ms + 120_000:  # before any fault shows
            values = columns.values[row].astype(np.float32)
            np.testing.assert_array_equal(values, expected[at - at % 5000][row_of[vin]])
            compared += 1
        assert columns.boot[row] == done["boot"]
        assert now_ms - 120_000 < columns.due[row] <= now_ms
    assert compared >= 12 * (CARS - WORN)


@pytest.mark.parametrize("victim", ["one process", "the command"])
async def test_killed_it_leaves_no_process_and_says_that_the_set_is_incomplete(
    victim: str, kafka_alone: str, tmp_path: Path
) -> None:
    argv = [
        *(sys.executable, "-m", "motorcade.stack.cli", "generate", "--kafka", kafka_alone),
        *("--state", str(tmp_path / "none"), "--cars", "40", "--days", "60"),
        *("--processes", "2", "--seed", "2100"),
    ]
    command = await asyncio.create_subprocess_exec(*argv, stderr=asyncio.subprocess.PIPE)
    parent = psutil.Process(command.pid)
    children: list[psutil.Process] = []

    def working() -> bool:
        nonlocal children
        found = parent.children()
        children = [one for one in found if "spawn_main" in " ".join(one.cmdline())]
        return len(children) == 2 and all(one.cpu_times().user > 1 for one in children)

    await until(working, 90, "both processes drive")
    (children[0] if victim == "one process" else parent).kill()
    _, complaint = await asyncio.wait_for(command.communicate(), 60)
    if victim == "one process":
        assert command.returncode == 1
        assert "the set is incomplete" in " ".join(complaint.decode().split())
    await until(lambda: not any(alive(one.pid) for one in children), 30, "no process is left")
