"""Scorers with windows on real Kafka: one more, one killed, one gone; no score differs by a bit."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np
import pytest

from motorcade.fleet.avro import PREDICTIONS_SUBJECT, TELEMETRY_SUBJECT
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.messages import ModelSlot
from motorcade.fleet.predictions import PredictionAvro
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.source import Source, source_of
from motorcade.fleet.telemetry import TelemetryAvro
from motorcade.fleet.topics import PARTITIONS, PREDICTIONS, TELEMETRY
from motorcade.ml.announce import announce
from motorcade.ml.engine import tensorflow
from motorcade.ml.models.catalogue import load_model
from motorcade.ml.models.gradient import weights_of
from motorcade.ml.models.lstm_autoencoder import NAME, build
from motorcade.ml.reading.columnar import registry_lookup
from motorcade.ml.scoring.records import TelemetryRecords
from motorcade.ml.scoring.slot import Slot
from motorcade.ml.scoring.step import ScoreStep
from motorcade.ml.store import FORMAT, Manifest, ModelStore, Origin, Weights
from motorcade.ml.windows import WindowSpec
from motorcade.runtime.kafka import Record, read_all
from motorcade.runtime.registry import schema_id

from .driven import DrivenFleet, TelemetryWriter
from .pipeline import Process, until

CATALOGUE = load_catalogue()
CARS = 30
#: Longest wait for anything, seconds.
PATIENCE_S = 120.0
#: Cars send every two minutes: three messages in a sample, so that restarts fall within one.
WINDOW = WindowSpec(rows=4, every_ms=360_000)


def model(version: int) -> tuple[Manifest, Weights]:
    """An untrained LSTM autoencoder, standardised by the catalogue's ranges."""
    n = len(CATALOGUE.features)
    tensorflow().keras.utils.set_random_seed(version)
    low, high = CATALOGUE.low[CATALOGUE.feature_columns], CATALOGUE.high[CATALOGUE.feature_columns]
    manifest = Manifest(
        format=FORMAT,
        name=NAME,
        version=version,
        architecture=NAME,
        created=0,
        catalogue=CATALOGUE.name,
        features=list(CATALOGUE.features),
        mean=((low + high) / 2).tolist(),
        std=(high - low).tolist(),
        learnt=[True] * n,
        residual=[1.0] * n,
        threshold=1e9,
        minimum_coverage=0.5,
        origin=Origin([], [], "", {}, {}, 0),
        metrics={},
        libraries={},
        window=WINDOW,
        minimum_filled=2,
    )
    return manifest, weights_of(build(WINDOW.rows, n))


@dataclass
class Bench:
    settings: ProcessSettings
    fleet: DrivenFleet
    writer: TelemetryWriter
    telemetry: TelemetryAvro
    predictions: PredictionAvro
    first: Process
    second: Process

    async def drive(self, messages: int) -> None:
        await self.writer.write(self.fleet.drive(messages))

    async def records(self, topic: str) -> dict[int, list[Record]]:
        found: dict[int, list[Record]] = defaultdict(list)
        async for batch in read_all(self.settings, [topic]):
            found[batch[0].partition] += batch
        return found

    async def all_predicted(self) -> dict[int, list[Record]]:
        """Predictions by partition, once there is one for each message."""
        telemetry = await self.records(TELEMETRY)
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            found = await self.records(PREDICTIONS)
            if all(len(found[p]) >= len(records) for p, records in telemetry.items()):
                return found
            assert asyncio.get_running_loop().time() < deadline, self.first.log + self.second.log
            await asyncio.sleep(0.2)

    def holds(self, process: Process) -> list[int]:
        """Partitions that a process was assigned last."""
        said = [line for line in process.log.splitlines() if '"assigned"' in line]
        text = said[-1].split("[", 1)[1].split("]", 1)[0] if said else ""
        return [int(part) for part in text.split(",") if part.strip()]

    def expected(self, telemetry: dict[int, list[Record]]) -> dict[int, list[bytes]]:
        """The predictions of a scorer that was there all the time, in one batch a partition."""
        manifest, weights = model(1)
        step = ScoreStep(
            TelemetryRecords(CATALOGUE, self.telemetry, registry_lookup(self.settings)),
            self.predictions,
        )
        step.live[ModelSlot.CHAMPION] = Slot(
            load_model(manifest, weights, CATALOGUE), "", CATALOGUE, 600_000
        )
        return {p: [o.value for o in step.process(rs)] for p, rs in telemetry.items()}


@pytest.fixture(scope="module")
async def bench(
    kafka_alone: str, registry_schemas: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bench]:
    folder = tmp_path_factory.mktemp("score-windows")
    settings = ProcessSettings(kafka=kafka_alone, registry_url=registry_schemas, data_dir=folder)
    codec = TelemetryAvro(CATALOGUE, await schema_id(settings, CATALOGUE, TELEMETRY_SUBJECT))
    environment = {
        "MOTORCADE_KAFKA": kafka_alone,
        "MOTORCADE_REGISTRY_URL": registry_schemas,
        "MOTORCADE_DATA_DIR": str(folder),
    }
    made = Bench(
        settings,
        DrivenFleet(seed=5, cars=CARS),
        TelemetryWriter(settings, codec),
        codec,
        PredictionAvro(CATALOGUE, await schema_id(settings, CATALOGUE, PREDICTIONS_SUBJECT)),
        Process("score", environment, folder / "first"),
        Process("score", environment | {"MOTORCADE_INSTANCE": "1"}, folder / "second"),
    )
    await announce(settings, ModelStore.of(settings).write(*model(1), 0))
    yield made
    for process in (made.first, made.second):
        if process.running:
            process.stop()


async def test_scorers_come_go_and_are_killed_and_every_score_is_as_if_one_had_been_there_always(
    bench: Bench,
) -> None:
    await bench.drive(8)
    await bench.first.started(timeout_s=PATIENCE_S)
    await bench.all_predicted()
    # One more: half of the partitions move, with windows half full.
    await bench.second.started(timeout_s=PATIENCE_S)
    await until(
        lambda: len(bench.holds(bench.first)) == PARTITIONS // 2, PATIENCE_S, "a share each"
    )
    assert sorted(bench.holds(bench.first) + bench.holds(bench.second)) == list(range(PARTITIONS))
    await bench.drive(5)
    await bench.all_predicted()
    # One is killed in the middle, and comes back.
    await bench.drive(3)
    bench.first.kill()
    await bench.drive(3)
    await bench.first.started(timeout_s=PATIENCE_S)
    await bench.drive(2)
    await bench.all_predicted()
    # One goes for good: the other takes its cars over, in the middle of a sample.
    bench.second.kill()
    await bench.drive(4)
    await until(lambda: len(bench.holds(bench.first)) == PARTITIONS, PATIENCE_S, "all partitions")
    found = await bench.all_predicted()
    telemetry = await bench.records(TELEMETRY)
    expected = bench.expected(telemetry)
    filling = 0
    for partition, records in telemetry.items():
        sources = [source_of(r.headers) for r in found[partition]]
        assert sources == [Source(partition, r.offset) for r in records]
        assert [r.value for r in found[partition]] == expected[partition]
        score = bench.predictions.decode(expected[partition]).score
        filling += int(np.isnan(score).sum())
    # Only the first sample's messages of each car had too short a window: two, as the clock stood.
    assert filling == 2 * CARS


async def test_a_new_model_takes_in_what_cars_did_before_it_and_scores_from_its_first_message_on(
    bench: Bench,
) -> None:
    before = {p: len(rs) for p, rs in (await bench.all_predicted()).items()}
    await announce(bench.settings, ModelStore.of(bench.settings).write(*model(2), 0))
    await until(lambda: bench.first.metric("motorcade_model_version") == 2, 60, "version 2 is live")
    assert "model warms up" in bench.first.log
    await bench.drive(1)
    found = await bench.all_predicted()
    for partition, records in found.items():
        columns = bench.predictions.decode([r.value for r in records[before[partition] :]])
        assert (columns.version == 2).all()
        assert np.isfinite(columns.score).all()
