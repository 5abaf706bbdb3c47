"""Models trained, judged and promoted on real Kafka: the command, the page, the stored comparison.

What the figures are is proven by tests/unit/ml; here the parts are joined.
"""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from motorcade.fleet import messages
from motorcade.fleet.messages import DiagnosticTroubleCode, ModelSlot
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.topics import DTC, partition_of
from motorcade.ml.announce import empty, live
from motorcade.ml.reading.recording import record_dataset
from motorcade.ml.store import COMPARISON
from motorcade.ml.training.run import Request, Trained, train
from motorcade.runtime.kafka import producer, started
from motorcade.simulator.wear import CODES, WearKind

from .driven import EVENT_START_MS, DrivenFleet, TelemetryWriter, command_environment
from .servers import run_async

HOUR_MS = 3_600_000
DATASET = "worn"
KIND = WearKind.TIRE_LEAK


@pytest.fixture(scope="module")
async def settings(
    kafka_topics: str, registry_schemas: str, tmp_path_factory: pytest.TempPathFactory
) -> ProcessSettings:
    """A recorded data set of 60 cars, 24 of which lose air until they report it."""
    settings = ProcessSettings(
        kafka=kafka_topics,
        registry_url=registry_schemas,
        data_dir=tmp_path_factory.mktemp("evaluate"),
    )
    fleet = DrivenFleet(seed=77, cars=60)
    before = time.time_ns() // 1_000_000
    writer = await TelemetryWriter.registered(settings)
    await writer.write(fleet.drive(40))
    fleet.begin_wear(24, [KIND])
    await writer.write(fleet.drive(65))
    async with started(producer(settings), settings) as client:
        for vin, failed in fleet.failures.items():
            code = DiagnosticTroubleCode(
                vin.decode(), EVENT_START_MS, CODES[KIND].code, str(KIND), failed, failed
            )
            await client.send_and_wait(
                DTC, messages.encode(code), key=vin, partition=partition_of(vin)
            )
    await empty(settings, ModelSlot.CHAMPION)
    await asyncio.to_thread(record_dataset, settings, DATASET, since_ms=before)
    return settings


@pytest.fixture(scope="module")
def trained(settings: ProcessSettings) -> dict[str, Trained]:
    """Two models, one after the other, each promoted if it is better."""
    found = {}
    for model in ("pca", "mahalanobis"):
        request = Request(model=model, dataset=DATASET, promote="auto", horizon_ms=HOUR_MS)
        found[model] = train(settings, request, lambda _: None)
    return found


def evaluate(settings: ProcessSettings, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "motorcade.stack.cli", "evaluate", *words],
        env=command_environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )


def comparison(settings: ProcessSettings, model: str) -> dict[str, Any]:
    path = settings.data_dir / "models" / model / "1" / COMPARISON
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_the_better_model_is_live_and_the_comparison_lies_beside_it(
    settings: ProcessSettings, trained: dict[str, Trained]
) -> None:
    first, second = trained["pca"].decision, trained["mahalanobis"].decision
    assert first is not None
    assert second is not None
    assert first.winner == ("pca", 1)
    standing = run_async(live(settings))[ModelSlot.CHAMPION]
    order = second.comparison["order"]
    assert set(order) == {"pca:1", "mahalanobis:1"}
    assert f"{standing.name}:{standing.version}" == order[0]
    assert (trained["mahalanobis"].announcement is not None) == (order[0] == "mahalanobis:1")
    stored = comparison(settings, "mahalanobis")
    assert stored["why"] == second.why
    assert stored["champion_before"] == "pca:1"
    # A fifth of 60 cars, none of which taught either of them.
    assert {one["vehicles"] for one in stored["models"].values()} == {12}
    assert stored["notes"] == []


def test_evaluate_tells_what_promotion_saw_and_draws_it(
    settings: ProcessSettings, trained: dict[str, Trained], tmp_path: Path
) -> None:
    done = evaluate(
        settings,
        "mahalanobis",
        "pca:1",
        f"--dataset={DATASET}",
        f"--json={tmp_path / 'all.json'}",
        f"--report={tmp_path / 'report.html'}",
    )
    assert done.returncode == 0, done.stderr
    assert "Next:" in done.stdout
    found = json.loads((tmp_path / "all.json").read_text())["models"]
    assert [one["model"] for one in found] == ["mahalanobis", "pca"]
    assert found[0] == comparison(settings, "mahalanobis")["models"]["mahalanobis:1"]
    assert found[0]["scored"] == found[0]["messages"] > 1000
    assert found[0]["failures"] > 0
    page = (tmp_path / "report.html").read_text()
    assert "mahalanobis:1" in page
    assert "src=" not in page.split("<script>")[0]


def test_what_cannot_be_judged_is_said_in_one_line(settings: ProcessSettings) -> None:
    for words, said in (
        (("pca", "--dataset=nonesuch"), "no data set nonesuch"),
        (("pca", f"--dataset={DATASET}", "--part=best"), "no part 'best'"),
    ):
        done = evaluate(settings, *words)
        assert done.returncode != 0
        assert said in done.stderr
        assert "Traceback" not in done.stderr
