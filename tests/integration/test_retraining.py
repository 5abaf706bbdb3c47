"""Retraining on real Kafka goes on where it was and keeps the better model; drift shows."""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from motorcade.fleet.avro import TELEMETRY_SUBJECT
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.messages import ModelAnnouncement, ModelSlot
from motorcade.fleet.predictions import Contributions, PredictionColumns
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.source import source_header
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns
from motorcade.fleet.topics import PREDICTIONS, partition_of
from motorcade.ml.announce import live
from motorcade.ml.drift.recent import prediction_codec
from motorcade.ml.models.catalogue import load_model
from motorcade.ml.reading.records import DatasetStore
from motorcade.ml.retraining.journal import Journal, Plan, Retraining
from motorcade.ml.retraining.run import StoppedError, retrain
from motorcade.ml.store import ModelStore
from motorcade.runtime.kafka import producer, started
from motorcade.runtime.registry import schema_id
from motorcade.stack.commands import app
from motorcade.stack.ports import free_ports

from .driven import DrivenFleet, TelemetryWriter
from .servers import run_async

CATALOGUE = load_catalogue()
MODEL = "mahalanobis"
#: Longest wait for a retraining to end, seconds.
PATIENCE_S = 200.0


@dataclass(frozen=True)
class Place:
    """A data folder, and a stream to learn from that began at `began_ms`."""

    settings: ProcessSettings
    writer: TelemetryWriter
    began_ms: int
    said: list[str]

    def plan(self) -> Plan:
        """All of the stream, and nothing that other tests sent before it."""
        window = time.time_ns() // 1_000_000 - self.began_ms
        return Plan((MODEL,), window_ms=window, minimum_records=500)

    def retrain(self, plan: Plan, stop_after: str = "") -> Retraining:
        def say(step: str, /, **_: object) -> None:
            self.said.append(step)

        return retrain(
            self.settings,
            plan,
            "asked for",
            say,
            lambda: bool(stop_after) and self.said[-1:] == [stop_after],
        )

    def announced(self) -> ModelAnnouncement:
        found: ModelAnnouncement = run_async(live(self.settings))[ModelSlot.CHAMPION]
        return found

    def champion(self) -> tuple[str, int]:
        return self.announced().name, self.announced().version

    def drive(self, seed: int, warmer: float = 0.0) -> TelemetryColumns:
        columns = DrivenFleet(seed=seed, cars=40).drive(40)
        columns.values[:, CATALOGUE.column("coolant_temp")] += warmer
        run_async(self.writer.write(columns))
        return columns

    def predict(self, columns: TelemetryColumns) -> None:
        """Predictions by the champion, as the scorer writes them."""
        manifest, weights = ModelStore.of(self.settings).read(self.announced())
        model = load_model(manifest, weights, CATALOGUE)
        features = columns.values[:, None, CATALOGUE.feature_columns].astype(np.float32)
        scores = model.score(features)
        n = len(columns)
        offset = time.time_ns() // 1000 + np.arange(n)
        predictions = PredictionColumns(
            columns.vin,
            scores.score,
            np.full(n, manifest.threshold),
            scores.coverage,
            columns.boot,
            columns.seq,
            columns.time,
            columns.due,
            np.fromiter(map(partition_of, columns.vin.tolist()), np.int64, n),
            offset,
            np.full(n, manifest.version),
        )

        async def write() -> None:
            codec = await prediction_codec(self.settings, CATALOGUE)
            values = codec.encode(predictions, MODEL, [""] * n, Contributions.none(n))
            async with started(producer(self.settings), self.settings) as client:
                for vin, value, at in zip(
                    columns.vin.tolist(), values, offset.tolist(), strict=True
                ):
                    number = partition_of(vin)
                    headers = [source_header(number, at)]
                    await client.send(
                        PREDICTIONS, value, key=vin, partition=number, headers=headers
                    )
                await client.flush()

        run_async(write())


@pytest.fixture(scope="module")
def place(
    kafka_alone: str, registry_schemas: str, tmp_path_factory: pytest.TempPathFactory
) -> Place:
    settings = ProcessSettings(
        kafka=kafka_alone,
        registry_url=registry_schemas,
        data_dir=tmp_path_factory.mktemp("retraining"),
    )

    async def schema() -> int:
        return await schema_id(settings, CATALOGUE, TELEMETRY_SUBJECT)

    writer = TelemetryWriter(settings, TelemetryAvro(CATALOGUE, run_async(schema())))
    found = Place(settings, writer, time.time_ns() // 1_000_000, [])
    found.drive(seed=51)
    return found


def test_a_retraining_that_is_interrupted_goes_on_and_its_model_goes_live(place: Place) -> None:
    plan = place.plan()
    with pytest.raises(StoppedError):
        place.retrain(plan, stop_after="record")
    begun = Journal.of(place.settings).last(plan)
    assert begun is not None
    assert not begun.ended

    done = place.retrain(plan)
    assert place.said == [
        *("begin", "record"),
        *("resume", "train", "evaluate", "promote", "result", "end"),
    ]
    assert (done.name, done.dataset) == (begun.name, begun.dataset)
    assert [one.name for one in DatasetStore.of(place.settings).list()] == [done.dataset]
    assert done.champion == f"{MODEL}:1"
    assert place.champion() == (MODEL, 1)


@pytest.mark.parametrize(("warmer", "drifted"), [(0.0, []), (25.0, ["coolant_temp"])])
def test_drift_is_told_by_the_exit_status_and_the_file(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warmer: float, drifted: list[str]
) -> None:
    began = time.time_ns()
    place.predict(place.drive(seed=70 + int(warmer), warmer=warmer))
    minutes = (time.time_ns() - began) / 60e9 + 0.1  # the look begins a little later
    for name in ("kafka", "registry_url", "data_dir"):
        monkeypatch.setenv(f"MOTORCADE_{name.upper()}", str(getattr(place.settings, name)))
    file, page = tmp_path / "drift.json", tmp_path / "drift.html"
    words = ["drift", f"--minutes={minutes}", f"--json={file}", f"--report={page}"]
    done = CliRunner().invoke(app, [*words, f"--state={tmp_path / 'none'}"])
    assert done.exit_code == (2 if drifted else 0), done.output
    found = json.loads(file.read_bytes())
    signals = {one["name"]: one for one in found["signals"]}
    assert [n for n, o in signals.items() if o["verdict"] == "drift" and n != "score"] == drifted
    assert found["vehicles"] >= 40
    assert sum(signals["score"]["recent"]["counts"]) >= 1600
    # Four cars calibrate, so only a large shift of the score is beyond chance.
    assert (signals["score"]["psi"] > 1) == bool(drifted)
    assert "plotly" in page.read_text(encoding="utf-8")


def lines_of(process: subprocess.Popen[str], last: str) -> list[dict[str, Any]]:
    """Log lines up to an event; up to the last that was said, when it does not come in time."""
    assert process.stderr is not None
    found = []
    patience = threading.Timer(PATIENCE_S, process.terminate)
    patience.daemon = True
    patience.start()
    for line in process.stderr:
        if line.startswith("{"):
            found.append(json.loads(line))
            if found[-1]["event"] == last:
                break
    patience.cancel()
    return found


def test_unattended_it_retrains_on_drift_and_only_a_better_model_replaces_the_old_one(
    place: Place, tmp_path: Path
) -> None:
    place.drive(seed=90, warmer=25.0)
    minutes = 5 + (time.time() - place.began_ms / 1000) / 60
    (port,) = free_ports(1)
    words = [MODEL, "--on-drift", f"--minutes={minutes}", f"--since={60 * minutes:.0f}s"]
    process = subprocess.Popen(
        [sys.executable, "-m", "motorcade.stack.cli", "retrain", *words],
        env=os.environ
        | {
            "MOTORCADE_KAFKA": place.settings.kafka,
            "MOTORCADE_REGISTRY_URL": place.settings.registry_url,
            "MOTORCADE_DATA_DIR": str(place.settings.data_dir),
            "MOTORCADE_STATE": str(tmp_path / "none"),
            "MOTORCADE_HTTP_PORT": str(port),
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = lines_of(process, "end")
        assert said[-1]["event"] == "end", said
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            metrics = answer.read().decode()
    finally:
        process.terminate()
        _, rest = process.communicate(timeout=120)
    steps = [one["event"] for one in said]
    # What drove decides which of two models of few cars is the better one.
    promoted = "promote" in steps
    expected = ["started", "look", "begin", "record", "train", "evaluate", "result", "end"]
    assert [step for step in steps if step != "promote"] == expected, (said, rest)
    by_step = {one["event"]: one for one in said}
    assert "coolant_temp" in by_step["look"]["drift"]
    assert by_step["begin"]["reason"] == f"drift of {by_step['look']['drift']}"
    assert (by_step["end"]["champion"] == "stays") is not promoted
    assert 'motorcade_drift_psi{signal="coolant_temp"}' in metrics
    assert place.champion() == (MODEL, 2 if promoted else 1)
    comparison = ModelStore.of(place.settings).root / MODEL / "2" / "comparison.json"
    assert json.loads(comparison.read_bytes())["champion_before"] == f"{MODEL}:1"
    assert process.returncode == 0
