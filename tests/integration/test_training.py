"""Training from a recorded data set on real Kafka: killed in the middle, it goes on; it is tracked.

What is learnt is proven by tests/unit/ml; here the parts are joined by real topics and processes.
"""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from motorcade.fleet.settings import ProcessSettings
from motorcade.ml.announce import live
from motorcade.ml.reading.recording import record_dataset
from motorcade.ml.store import Manifest
from motorcade.ml.training.run import Request, train
from motorcade.stack.commands import app

from .driven import DrivenFleet, TelemetryWriter, command_environment
from .servers import run_async

EPOCHS = 14


@dataclass(frozen=True)
class Place:
    """A data folder with a recorded data set."""

    settings: ProcessSettings
    dataset: str

    @property
    def environment(self) -> dict[str, str]:
        return command_environment(self.settings)

    def command(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "motorcade.stack.cli", "train", *words],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture(scope="module")
async def place(
    kafka_topics: str, registry_schemas: str, tmp_path_factory: pytest.TempPathFactory
) -> Place:
    settings = ProcessSettings(
        kafka=kafka_topics,
        registry_url=registry_schemas,
        data_dir=tmp_path_factory.mktemp("training"),
    )
    before = time.time_ns() // 1_000_000
    writer = await TelemetryWriter.registered(settings)
    await writer.write(DrivenFleet(seed=21, cars=40).drive(60))
    await _in_thread(record_dataset, settings, "drive-1", since_ms=before)
    return Place(settings, "drive-1")


async def _in_thread(call: Any, *args: Any, **more: Any) -> Any:
    import asyncio

    return await asyncio.to_thread(call, *args, **more)


def lines_until(process: subprocess.Popen[str], phase: str, done: int) -> list[dict[str, Any]]:
    """Progress up to the moment that a phase has come so far, or to the end."""
    assert process.stdout is not None
    found = []
    for line in process.stdout:
        found.append(json.loads(line))
        if found[-1].get("phase") == phase and found[-1]["done"] >= done:
            break
    return found


def weights(folder: Path) -> dict[str, Any]:
    with np.load(folder / "weights.npz") as archive:
        return {name: archive[name] for name in archive.files}


def test_a_training_that_is_killed_goes_on_and_ends_with_the_same_weights(place: Place) -> None:
    words = (
        "autoencoder",
        "--dataset=drive-1",
        "--promote=never",
        f"--epochs={EPOCHS}",
        f"--set=patience={EPOCHS}",
        "--progress-json",
    )
    request = Request(
        dataset="drive-1", promote="never", epochs=EPOCHS, settings={"patience": float(EPOCHS)}
    )
    whole = train(place.settings, request, lambda _: None)
    assert whole.announcement is None
    models = place.settings.data_dir / "models" / "autoencoder"

    first = place.command(*words)
    lines_until(first, "training", 5)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert [one.name for one in models.iterdir()] == ["1"]

    second = place.command(*words)
    out, err = second.communicate(timeout=180)
    assert second.returncode == 0, err
    told = [json.loads(line) for line in out.splitlines()]
    epochs = [one["done"] for one in told if one.get("phase") == "training"]
    assert 5 <= epochs[0] < EPOCHS
    manifest = told[-1]["trained"]
    assert manifest["metrics"]["epochs"] == EPOCHS
    assert not list((place.settings.data_dir / "training").iterdir())

    expected = weights(models / "1")
    found = weights(Path(manifest["folder"]))
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert whole.manifest.threshold == manifest["threshold"]


def test_a_training_is_tracked_with_its_curves_and_its_version_registered(place: Place) -> None:
    folder = place.settings.data_dir / "mlflow"
    with sqlite3.connect(folder / "mlflow.db") as database:
        assert ("drive-1",) in database.execute("select name from experiments").fetchall()
        steps = database.execute(
            "select count(*) from metrics where key = 'curve/validation_loss' group by run_uuid"
        ).fetchall()
        assert steps == [(EPOCHS,), (EPOCHS,)]
        parameters = dict(database.execute("select key, value from params").fetchall())
        assert parameters["dataset"] == "drive-1"
        versions = database.execute("select name, version from model_versions").fetchall()
        assert sorted(versions) == [("autoencoder", 1), ("autoencoder", 2)]
    stored = sorted(folder.glob("artifacts/*/artifacts/model/manifest.json"))
    manifests = [msgspec.json.decode(one.read_bytes(), type=Manifest) for one in stored]
    assert sorted(one.version for one in manifests) == [1, 2]
    assert {one.origin.dataset for one in manifests} == {"drive-1"}


def champion_in_mlflow(place: Place) -> list[tuple[str, int]]:
    with sqlite3.connect(place.settings.data_dir / "mlflow" / "mlflow.db") as database:
        aliases = database.execute(
            "select name, version from registered_model_aliases where alias = 'champion'"
        )
        return aliases.fetchall()


def test_a_baseline_learns_from_the_same_data_set_and_can_go_live(place: Place) -> None:
    request = Request(model="pca", dataset="drive-1", promote="always")
    trained = train(place.settings, request, lambda _: None)
    assert trained.announcement is not None
    standing = run_async(live(place.settings))
    assert [(one.name, one.version) for one in standing.values()] == [("pca", 1)]
    assert champion_in_mlflow(place) == [("pca", 1)]
    assert trained.manifest.threshold > 0


def test_the_champion_in_mlflow_is_who_was_promoted_or_gone_back_to(place: Place) -> None:
    for words, champion in (
        (("promote", "autoencoder:2"), ("autoencoder", 2)),
        (("rollback",), ("pca", 1)),
    ):
        done = CliRunner(env=place.environment).invoke(app, ["models", *words])
        assert done.exit_code == 0, done.output
        assert "Warning" not in done.output
        assert champion_in_mlflow(place) == [champion]


def test_a_promotion_needs_no_mlflow_and_says_so(place: Place) -> None:
    database = place.settings.data_dir / "mlflow" / "mlflow.db"
    database.write_bytes(b"no database" * 1000)
    done = CliRunner(env=place.environment).invoke(app, ["models", "promote", "autoencoder:1"])
    assert done.exit_code == 0, done.output
    assert "Warning: MLflow's alias champion does not stand at autoencoder:1" in done.output
    standing = run_async(live(place.settings))
    assert [(one.name, one.version) for one in standing.values()] == [("autoencoder", 1)]
