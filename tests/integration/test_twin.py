"""The twin equals a twin rebuilt from Kafka, wherever SIGKILL strikes, and a person can ask it."""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import structlog

from motorcade.fleet import topics
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.messages import (
    Alert,
    AlertAction,
    CommandRequest,
    CommandResponse,
    CommandState,
    DiagnosticTroubleCode,
    VehicleStatus,
    encode,
)
from motorcade.fleet.predictions import PredictionAvro, PredictionColumns
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns
from motorcade.fleet.topics import partition_of
from motorcade.fleet.vin import generate_vin
from motorcade.runtime.kafka import producer, started
from motorcade.runtime.registry import schema_id
from motorcade.streaming import twin
from motorcade.streaming.twin_compare import differences
from motorcade.streaming.twin_fold import TOPICS
from motorcade.streaming.twin_store import Store, vehicle
from tests.contributions import contributions

from .groups import until_group_has_read
from .pipeline import Process, environment, until

CARS = 40


class Fleet:
    """Writes everything that a twin reads: repeats, late messages and rubbish among it."""

    def __init__(
        self, settings: ProcessSettings, telemetry: TelemetryAvro, scores: PredictionAvro, seed: int
    ) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._scores = scores
        self._random = random.Random(seed)
        self.vins = [generate_vin(seed, index) for index in range(CARS)]
        self.boot = time.time_ns() // 1_000_000
        self._seq = 0

    async def write(self, rounds: int, pace_s: float = 0.01) -> None:
        """A message of every car in each round, and a few of the other kinds."""
        async with started(producer(self._settings), self._settings) as client:
            for _ in range(rounds):
                self._seq += 1
                written = [*self._telemetry_round(), *self._others()]
                written += self._random.choices(written, k=5)
                for topic, vin, value in written:
                    key = vin.encode()
                    await client.send(topic, value, key=key, partition=partition_of(key))
                await asyncio.sleep(pace_s)
            await client.flush()

    def _telemetry_round(self) -> list[tuple[str, str, bytes]]:
        ones = np.ones(CARS, dtype=np.int64)
        late = np.array([self._random.choice([0, 0, 0, 0, 3]) for _ in self.vins])
        vins = np.array(self.vins, dtype="S17")
        seq = np.maximum(1, ones * self._seq - late)
        low, high = self._telemetry.catalogue.low, self._telemetry.catalogue.high
        values = low + (high - low) * np.array([[self._random.random()] for _ in self.vins])
        clocks = (ones * self.boot, seq, seq * 1000, seq * 1000)
        messages = self._telemetry.encode(TelemetryColumns(vins, values, *clocks))
        score = np.array([self._random.random() * 2 for _ in self.vins])
        columns = PredictionColumns(
            vins, score, *(np.ones(CARS),) * 2, *clocks, ones, ones * self._seq, ones
        )
        shares = contributions(CARS, [("coolant_temp", 0.8), ("speed", 0.1)])
        scored = self._scores.encode(columns, "autoencoder", [""] * CARS, shares)
        return [
            *zip([topics.TELEMETRY] * CARS, self.vins, messages, strict=True),
            *zip([topics.PREDICTIONS] * CARS, self.vins, scored, strict=True),
        ]

    def _others(self) -> list[tuple[str, str, bytes]]:
        dice = self._random
        vin, seq = dice.choice(self.vins), self._seq
        states = list(CommandState)
        status = VehicleStatus(vin, self.boot, dice.randint(1, seq), dice.random() < 0.7, "a:1")
        code = DiagnosticTroubleCode(vin, self.boot, "P0217", "coolant_leak", seq, seq)
        request = CommandRequest(f"c{seq % 50}", vin, "driver_warning", seq, seq + 9)
        response = CommandResponse(f"c{seq % 50}", vin, dice.choice(states), seq)
        rubbish = dice.choice([b"", b"{", b"[]", b'{"vin":1}', b"\xff\xfe"])
        topic = dice.choice([topics.STATUS, topics.DTC, topics.COMMANDS_STATUS, topics.TELEMETRY])
        return [
            (topics.STATUS, vin, encode(status)),
            (topics.DTC, vin, encode(code)),
            (topics.COMMANDS, vin, encode(request)),
            (topics.COMMANDS_STATUS, vin, encode(response)),
            (topics.ALERTS, vin, encode(self._alert(vin, seq))),
            (topic, vin, rubbish),
        ]

    def _alert(self, vin: str, seq: int) -> Alert:
        return Alert(
            id=f"a{seq // 2}", vin=vin, kind="cooling", action=list(AlertAction)[seq % 2],
            severity="critical", advice="Stop.", evidence_partition=0, evidence_offset=seq,
            boot=self.boot, seq=seq, time=seq, due=seq, score=2.0, threshold=1.0,
            model="autoencoder", version=1, signals=["coolant_temp"],
        )  # fmt: skip


@pytest.fixture
def settings(kafka_topics: str, registry_schemas: str, tmp_path: Path) -> twin.Settings:
    return twin.Settings(kafka=kafka_topics, registry_url=registry_schemas, data_dir=tmp_path)


@pytest.fixture
async def codecs(settings: twin.Settings) -> tuple[TelemetryAvro, PredictionAvro]:
    catalogue = load_catalogue()
    return (
        TelemetryAvro(catalogue, await schema_id(settings, catalogue, "telemetry-value")),
        PredictionAvro(catalogue, await schema_id(settings, catalogue, "predictions-value")),
    )


@pytest.fixture
def process(settings: twin.Settings, tmp_path: Path) -> Iterator[Process]:
    variables = environment(settings.kafka, ("127.0.0.1:1",), settings.registry_url)
    made = Process("twin", variables | {"MOTORCADE_DATA_DIR": str(tmp_path)}, tmp_path)
    yield made
    if made.running:
        made.kill()


async def audit(settings: twin.Settings, fleet: Fleet) -> None:
    """The database holds what a fresh one built from Kafka holds."""
    await until_group_has_read(settings, "twin", *TOPICS)
    lived = settings.open(create=False)
    fresh = Store(f"sqlite:///{settings.data_dir}/fresh.db")
    try:
        read = await twin.rebuild(settings, fresh, structlog.get_logger("test"))
        assert read > 0
        assert differences(lived, fresh) == []
        assert set(fleet.vins) <= set(lived.vins())
    finally:
        lived.close()
        fresh.close()


async def test_killed_between_sql_and_kafka_the_twin_equals_one_rebuilt(
    settings: twin.Settings, codecs: tuple[TelemetryAvro, PredictionAvro], process: Process
) -> None:
    fleet = Fleet(settings, *codecs, seed=200)
    await process.started("twin.before-commit:2")
    writing = asyncio.create_task(fleet.write(250))
    await until(lambda: not process.running, what="the failpoint's kill")
    assert process.popen is not None
    assert process.popen.returncode == -9
    await process.started()
    await writing
    await audit(settings, fleet)


@pytest.mark.chaos
async def test_killed_between_sql_and_kafka_it_tells_how_far_it_is_without_a_new_record(
    settings: twin.Settings, codecs: tuple[TelemetryAvro, PredictionAvro], process: Process
) -> None:
    fleet = Fleet(settings, *codecs, seed=205)
    await fleet.write(20)
    process.start("twin.before-commit:1")
    await until(lambda: not process.running, what="the failpoint's kill")
    await process.started()
    await until_group_has_read(settings, "twin", *TOPICS)


async def test_killed_at_seeded_moments_under_load_the_twin_equals_one_rebuilt(
    settings: twin.Settings,
    codecs: tuple[TelemetryAvro, PredictionAvro],
    process: Process,
    moments: int,
) -> None:
    dice = random.Random(21)
    fleet = Fleet(settings, *codecs, seed=210)
    await process.started()
    for _ in range(moments):
        writing = asyncio.create_task(fleet.write(80))
        await asyncio.sleep(dice.uniform(0.05, 1.2))
        process.kill()
        await process.started()
        await writing
    await audit(settings, fleet)
    assert process.metric("motorcade_malformed_total") > 0
    assert "malformed record passed over" in process.log


async def test_a_database_that_was_lost_is_filled_again_whatever_kafka_has_committed(
    settings: twin.Settings, codecs: tuple[TelemetryAvro, PredictionAvro], process: Process
) -> None:
    fleet = Fleet(settings, *codecs, seed=220)
    await process.started()
    await fleet.write(20)
    await until_group_has_read(settings, "twin", *TOPICS)
    process.kill()
    for file in settings.data_dir.glob("twin.db*"):
        file.unlink()
    await process.started()
    store = settings.open()
    try:
        await until(lambda: set(fleet.vins) <= {row["vin"] for row in store.rows(vehicle)})
    finally:
        store.close()
    await audit(settings, fleet)


async def test_a_rebuild_under_a_running_twin_ends_in_the_same_rows(
    settings: twin.Settings, codecs: tuple[TelemetryAvro, PredictionAvro], process: Process
) -> None:
    fleet = Fleet(settings, *codecs, seed=230)
    await process.started()
    writing = asyncio.create_task(fleet.write(150))
    store = settings.open()
    try:
        await twin.rebuild(settings, store, structlog.get_logger("test"))
    finally:
        store.close()
    await writing
    await audit(settings, fleet)


async def test_the_command_line_shows_a_car_and_suggests_near_ones(
    settings: twin.Settings, codecs: tuple[TelemetryAvro, PredictionAvro], tmp_path: Path
) -> None:
    fleet = Fleet(settings, *codecs, seed=240)
    await fleet.write(5)
    variables = environment(settings.kafka, ("127.0.0.1:1",), settings.registry_url)
    variables |= {"MOTORCADE_DATA_DIR": str(tmp_path), "MOTORCADE_STATE": str(tmp_path / "none")}

    async def motorcade(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "motorcade.stack.cli", "twin", *arguments]
        return await asyncio.to_thread(
            subprocess.run, command, env=variables, capture_output=True, text=True, timeout=60
        )

    rebuilt = await motorcade("rebuild")
    assert rebuilt.returncode == 0, rebuilt.stderr
    shown = await motorcade("show", fleet.vins[0], "--json")
    assert json.loads(shown.stdout)["telemetry"]["boot"] == fleet.boot
    rendered = await motorcade("show", fleet.vins[0])
    assert "coolant_temp" in rendered.stdout
    unknown = await motorcade("show", fleet.vins[0][:-1] + "Z")
    assert unknown.returncode == 1
    assert fleet.vins[0] in unknown.stderr
