"""From recorded telemetry to a live model, on real Kafka: every record gets one prediction."""

import asyncio
import json
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest

from motorcade.fleet.avro import PREDICTIONS_SUBJECT, TELEMETRY_SUBJECT
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.predictions import PredictionAvro, PredictionColumns
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.source import Source, source_of
from motorcade.fleet.telemetry import TelemetryAvro
from motorcade.fleet.topics import PREDICTIONS, TELEMETRY
from motorcade.ml.announce import announce
from motorcade.ml.errors import ModelRefusedError
from motorcade.ml.scoring import roster
from motorcade.ml.scoring.comparison import compare_live
from motorcade.ml.store import ModelStore
from motorcade.ml.training.checkpoints import Progress
from motorcade.ml.training.run import Request, Trained, train
from motorcade.runtime.kafka import Record, read_all
from motorcade.runtime.registry import schema_id
from motorcade.simulator.wear import WearKind

from .driven import DrivenFleet, TelemetryWriter
from .pipeline import Process, until

CATALOGUE = load_catalogue()
CARS = 60


@dataclass
class Bench:
    """What the tests of this module go on with, one after the other."""

    settings: ProcessSettings
    fleet: DrivenFleet
    writer: TelemetryWriter
    predictions: PredictionAvro
    scorer: Process

    async def records(self, topic: str) -> dict[int, list[Record]]:
        """Every record of a topic by partition."""
        found: dict[int, list[Record]] = defaultdict(list)
        async for batch in read_all(self.settings, [topic]):
            found[batch[0].partition] += batch
        return found

    async def until_all_predicted(self, timeout_s: float = 60) -> dict[int, list[Record]]:
        """Wait until the last record of each partition has its prediction."""
        telemetry = await self.records(TELEMETRY)
        deadline = time.monotonic() + timeout_s
        while True:
            found = await self.records(PREDICTIONS)
            waiting = [p for p, records in telemetry.items() if len(found[p]) < len(records)]
            if not waiting:
                return found
            assert time.monotonic() < deadline, f"partitions {waiting}:\n{self.scorer.log[-2000:]}"
            await asyncio.sleep(0.1)

    async def until_log(self, text: str, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while text not in self.scorer.log:
            assert time.monotonic() < deadline, self.scorer.log[-2000:]
            await asyncio.sleep(0.05)

    async def check_one_prediction_each(self) -> None:
        """Exactly one prediction for each telemetry record, in order, of the same car."""
        predictions = await self.until_all_predicted()
        for partition, records in (await self.records(TELEMETRY)).items():
            sources = [source_of(p.headers) for p in predictions[partition]]
            assert sources == [Source(partition, r.offset) for r in records]
            assert [p.key for p in predictions[partition]] == [r.key for r in records]


@pytest.fixture(scope="module")
async def bench(
    kafka_alone: str, registry_schemas: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bench]:
    folder = tmp_path_factory.mktemp("score")
    settings = ProcessSettings(kafka=kafka_alone, registry_url=registry_schemas, data_dir=folder)
    codec = TelemetryAvro(CATALOGUE, await schema_id(settings, CATALOGUE, TELEMETRY_SUBJECT))
    environment = {
        "MOTORCADE_KAFKA": kafka_alone,
        "MOTORCADE_REGISTRY_URL": registry_schemas,
        "MOTORCADE_DATA_DIR": str(folder),
    }
    made = Bench(
        settings,
        DrivenFleet(seed=11, cars=CARS),
        TelemetryWriter(settings, codec),
        PredictionAvro(CATALOGUE, await schema_id(settings, CATALOGUE, PREDICTIONS_SUBJECT)),
        Process("score", environment, folder),
    )
    yield made
    if made.scorer.running:
        made.scorer.stop()


def trained_on(settings: ProcessSettings) -> tuple[Trained, list[Progress]]:
    told: list[Progress] = []
    return train(settings, Request(epochs=15), told.append), told


async def test_before_any_model_every_record_is_predicted_as_not_scored(bench: Bench) -> None:
    await bench.writer.write(bench.fleet.drive(40))
    await bench.scorer.started()
    predictions = await bench.until_all_predicted()
    await bench.check_one_prediction_each()
    for records in predictions.values():
        columns = bench.predictions.decode([r.value for r in records])
        assert np.isnan(columns.score).all()
        assert (columns.version == 0).all()
        assert bench.predictions.decode_one(records[0].value)["reason"] == "no model is live yet"


async def test_a_model_trained_from_kafka_goes_live_without_a_restart(bench: Bench) -> None:
    assert bench.scorer.popen is not None
    pid = bench.scorer.popen.pid
    trained, told = await asyncio.to_thread(trained_on, bench.settings)
    assert trained.manifest.version == 1
    assert sum(end - start for *_, start, end in trained.manifest.origin.ranges) == 40 * CARS
    assert {"recording", "reading", "training", "announcing"} <= {p.phase for p in told}
    await bench.until_log("model is live")
    bench.fleet.begin_wear(4, [WearKind.COOLANT_LEAK, WearKind.BEARING_WEAR])
    await bench.writer.write(bench.fleet.drive(62))
    predictions = await bench.until_all_predicted()
    assert bench.scorer.popen.pid == pid
    assert bench.scorer.running
    await bench.check_one_prediction_each()
    for records in predictions.values():
        columns = bench.predictions.decode([r.value for r in records])
        # Version 0 up to the activation, 1 after it: nothing goes back.
        assert (np.diff(columns.version) >= 0).all()
        assert columns.version[-1] == 1
        assert np.isfinite(columns.score[columns.version == 1]).all()


async def test_worn_cars_score_above_the_threshold_and_name_the_worn_signal(bench: Bench) -> None:
    records = [r for rs in (await bench.until_all_predicted()).values() for r in rs]
    columns = bench.predictions.decode([r.value for r in records])
    late = columns.version == 1
    for vin, failure_ms in bench.fleet.failures.items():
        mine = late & (columns.vin == vin) & (columns.time > failure_ms - 30 * 60_000)
        mine &= columns.time <= failure_ms
        above = columns.score[mine] > columns.threshold[mine]
        assert above.mean() > 0.8, vin
        named = [
            bench.predictions.decode_one(records[row].value)["contributions"][0]["signal"]
            for row in np.flatnonzero(mine)
        ]
        worn = {"coolant_temp", "engine_vibration_amplitude"}
        assert sum(name in worn for name in named) > 0.8 * len(named)
    healthy = late & ~np.isin(columns.vin, list(bench.fleet.failures))
    assert (columns.score[healthy] > columns.threshold[healthy]).mean() < 0.01


async def test_a_sparse_message_is_published_as_not_scored_with_its_coverage(bench: Bench) -> None:
    columns = bench.fleet.drive(1)
    columns.values[:, CATALOGUE.feature_columns[5:]] = np.nan
    await bench.writer.write(columns)
    predictions = await bench.until_all_predicted()
    last = bench.predictions.decode_one(next(r for r in predictions.values() if r)[-1].value)
    # Some cars lack a signal of their own besides those that are missing here.
    mine = columns.values[columns.vin == last["vin"].encode()][-1]
    coverage = np.mean(~np.isnan(mine[CATALOGUE.feature_columns]))
    assert coverage <= 5 / 18
    assert last["reason"] == f"coverage {coverage:.2f} is below the model's minimum 0.50"
    assert last["version"] == 1
    assert np.isnan(last["score"])


async def test_a_record_that_is_not_telemetry_stops_nothing(bench: Bench) -> None:
    vin = bench.fleet.drive(1).vin[0]
    await bench.writer.write_values([vin] * 2, [b"hello", b"\0\0\1\2\3 unknown schema"])
    await bench.writer.write(bench.fleet.drive(1))
    await bench.check_one_prediction_each()
    assert bench.scorer.metric("motorcade_predictions_total") > 0
    assert 'outcome="undecodable"} 2.0' in bench.scorer.get("/metrics")


async def test_killed_before_and_after_a_produce_it_repeats_and_loses_nothing(bench: Bench) -> None:
    bench.scorer.stop()
    writing = asyncio.create_task(_write_on(bench))
    # Each life finds what the one before it left behind.
    for failpoint in ("score.before-produce:2", "score.after-produce:2"):
        bench.scorer.start(failpoint)
        assert bench.scorer.popen is not None
        assert await asyncio.to_thread(bench.scorer.popen.wait, 60) == -signal.SIGKILL
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await bench.scorer.started()
    await bench.check_one_prediction_each()
    # The model that was live before a kill was live before the first prediction after it.
    for records in (await bench.records(PREDICTIONS)).values():
        versions = bench.predictions.decode([r.value for r in records]).version
        assert (np.diff(versions) >= 0).all()


@pytest.mark.chaos
async def test_killed_at_random_under_load_it_repeats_and_loses_nothing(
    bench: Bench, moments: int
) -> None:
    rng = np.random.default_rng(3)
    writing = asyncio.create_task(_write_on(bench))
    for _ in range(moments):
        await asyncio.sleep(rng.uniform(0, 1.5))  # the moment of the kill, not a synchronisation
        bench.scorer.kill()
        await bench.scorer.started()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await bench.check_one_prediction_each()


async def _write_on(bench: Bench, pace_s: float = 0.1) -> None:
    """Cars go on driving, until cancelled between two messages.

    Without a pace the cars would take the cores from the scorer that starts.
    """
    stop = False
    while not stop:
        write = asyncio.ensure_future(bench.writer.write(bench.fleet.drive(1)))
        try:
            await asyncio.shield(write)
            await asyncio.sleep(pace_s)
        except asyncio.CancelledError:
            stop = True
            await write


def _corrupt_weights(folder: Path) -> None:
    path = folder / "weights.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _drop_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _rewrite_threshold(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"threshold": 1e9}))


@pytest.mark.parametrize("harm", [_corrupt_weights, _drop_manifest, _rewrite_threshold])
async def test_a_model_that_is_not_what_was_announced_is_refused_and_the_old_one_stays(
    bench: Bench, harm: Callable[[Path], None]
) -> None:
    store = ModelStore.of(bench.settings)
    old = bench.predictions.decode(
        [r.value for rs in (await bench.until_all_predicted()).values() for r in rs[-1:]]
    ).version.max()
    refused = bench.scorer.metric("motorcade_models_refused_total")
    live = store.root / "autoencoder" / str(old)
    manifest, weights = store.read(store.announcement("autoencoder", int(old), 0))
    version = store.next_version("autoencoder")
    announcement = store.write(msgspec.structs.replace(manifest, version=version), weights, 1)
    harm(store.root / announcement.path)
    await announce(bench.settings, announcement)
    deadline = time.monotonic() + 30
    while bench.scorer.metric("motorcade_models_refused_total") == refused:
        assert time.monotonic() < deadline, bench.scorer.log[-2000:]
        await asyncio.sleep(0.05)
    await bench.writer.write(bench.fleet.drive(1))
    predictions = await bench.until_all_predicted()
    versions = {
        int(bench.predictions.decode([rs[-1].value]).version[0]) for rs in predictions.values()
    }
    assert versions == {old}
    assert live.is_dir()


async def test_a_restart_skips_the_refused_announcements(bench: Bench) -> None:
    bench.scorer.kill()
    await bench.scorer.started()
    await bench.writer.write(bench.fleet.drive(1))
    predictions = await bench.until_all_predicted()
    for records in predictions.values():
        assert bench.predictions.decode([records[-1].value]).version[0] == 1


async def _drive_and_read(bench: Bench, messages: int = 1) -> PredictionColumns:
    """The predictions of some more messages of every car."""
    before = {p: len(rs) for p, rs in (await bench.until_all_predicted()).items()}
    await bench.writer.write(bench.fleet.drive(messages))
    after = await bench.until_all_predicted()
    return bench.predictions.decode(
        [r.value for p, rs in after.items() for r in rs[before.get(p, 0) :]]
    )


def _store_another(bench: Bench, threshold: float) -> int:
    """A new version of the model that differs in its threshold."""
    store = ModelStore.of(bench.settings)
    manifest, weights = store.read(store.announcement("autoencoder", 1, 0))
    version = store.next_version("autoencoder")
    other = msgspec.structs.replace(manifest, version=version, threshold=threshold)
    store.write(other, weights, 0)
    return version


async def test_a_challenger_scores_the_same_stream_and_is_compared_live(bench: Bench) -> None:
    # What was announced last is one that every scorer refuses.
    await roster.promote(bench.settings, "autoencoder:1")
    version = _store_another(bench, threshold=1e-9)
    with pytest.raises(ModelRefusedError, match="is the champion"):
        await roster.challenge(bench.settings, "autoencoder:1")
    await roster.challenge(bench.settings, f"autoencoder:{version}")
    await bench.until_log('"slot": "challenger"')
    found = await _drive_and_read(bench, 3)
    assert set(found.version.tolist()) == {1}, "the champion decides"
    assert found.challenger_score is not None
    assert found.challenger_threshold is not None
    assert np.array_equal(found.challenger_score, found.score, equal_nan=True)
    assert found.challenger_threshold == pytest.approx(1e-9)
    champion, challenger, comparison = await compare_live(bench.settings, 100_000)
    assert (champion.version, challenger.version) == (1, version)
    assert comparison.messages == 3 * CARS
    assert comparison.challenger.anomalous == 1.0
    assert comparison.champion.anomalous < 0.5
    assert comparison.rank_correlation == pytest.approx(1.0)
    assert bench.scorer.metric("motorcade_compared_total") >= 3 * CARS


async def test_the_challenger_is_promoted_and_one_command_goes_back(bench: Bench) -> None:
    version = ModelStore.of(bench.settings).next_version("autoencoder") - 1
    announced = await roster.promote(bench.settings, "autoencoder")
    assert announced.version == version
    assert announced.replaces is not None
    await until(lambda: bench.scorer.metric("motorcade_model_version") == version)
    await until(lambda: bench.scorer.metric("motorcade_challenger_version") == 0)
    found = await _drive_and_read(bench)
    assert set(found.version.tolist()) == {version}
    assert found.challenger_score is not None
    assert np.isnan(found.challenger_score).all()
    was, now = await roster.go_back(bench.settings)
    assert (was.version, now.version) == (version, announced.replaces.version)
    await until(lambda: bench.scorer.metric("motorcade_model_version") == now.version)
    assert set((await _drive_and_read(bench)).version.tolist()) == {now.version}
    await bench.check_one_prediction_each()


async def test_a_model_that_scorers_would_refuse_is_not_even_announced(bench: Bench) -> None:
    version = _store_another(bench, threshold=2.0)
    folder = ModelStore.of(bench.settings).root / "autoencoder" / str(version)
    weights = folder / "weights.npz"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(ModelRefusedError, match="not the announced file"):
        await roster.promote(bench.settings, f"autoencoder:{version}")
    with pytest.raises(ModelRefusedError, match="no model 'nonesuch'"):
        await roster.promote(bench.settings, "nonesuch")


async def test_the_command_lists_shows_and_says_what_is_missing(bench: Bench) -> None:
    async def motorcade(*words: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "motorcade.stack.cli", "models", *words),
            env=os.environ | dict(bench.scorer.environment),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    listed, shown, compared = await asyncio.gather(
        motorcade("list", "--json"), motorcade("show", "autoencoder:1"), motorcade("compare")
    )
    assert listed[0] == 0, listed[2]
    slots = {(one["name"], one["version"]): one["slot"] for one in json.loads(listed[1])}
    assert slots["autoencoder", 1] == "champion"
    assert list(slots.values()).count("champion") == 1
    assert shown[0] == 0, shown[2]
    assert "the message alone" in shown[1]
    assert compared[0] == 1
    assert "There is no challenger." in compared[2]
