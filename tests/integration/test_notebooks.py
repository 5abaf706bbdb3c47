"""Every notebook runs top to bottom on real Kafka and refine, at a small scale."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from motorcade.simulator.wear import WearKind
from motorcade.stack.notebook_runs import execute
from motorcade.stack.ports import free_ports

from .pipeline import Process, environment

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SCALE = {
    "CARS": "40",
    "HOURS": "2",
    "INTERVAL_S": "60",
    "WEAR_SHARE": "0.5",
    "WEAR_MINUTES": "40",
    "HORIZON_MINUTES": "30",
    "LIFE_CAP_MINUTES": "60",
    "EPOCHS": "3",
    "MODELS": '["pca", "mahalanobis"]',
}


@pytest.fixture(scope="module")
async def stack(
    kafka_alone: str, registry_schemas: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, str]]:
    """Kafka, the registry and refine, and what tells a process where they are."""
    folder = tmp_path_factory.mktemp("notebooks")
    found = environment(kafka_alone, (), registry_schemas)
    refine = Process("refine", found, folder)
    await refine.started()
    yield found | {
        "MOTORCADE_DATA_DIR": str(folder),
        "MOTORCADE_STATE": str(folder / "no-stack"),
        "OMP_NUM_THREADS": "1",
    }
    refine.kill()


@pytest.fixture
def here(stack: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stack.items():
        monkeypatch.setenv(name, value)


def run(name: str) -> tuple[str, int]:
    """A notebook's printed outputs, and how many plots it drew."""
    notebook = execute(NOTEBOOKS / f"{name}.ipynb", SCALE)
    outputs: list[Any] = [
        one for cell in notebook.cells if cell.cell_type == "code" for one in cell.outputs
    ]
    data = [one["data"] for one in outputs if "data" in one]
    texts = [one["text"] for one in outputs if "text" in one]
    texts += [one["text/plain"] for one in data if "text/plain" in one]
    return "\n".join(texts), sum("image/png" in one for one in data)


def figure(text: str, row: str) -> list[float]:
    """The numbers of a table's row."""
    (line,) = re.findall(rf"^ *{re.escape(row)} +(.*)$", text, flags=re.MULTILINE)
    return [float(word) for word in line.split()]


def test_the_stream_shows_what_cars_send_and_what_moves_before_each_failure(here: None) -> None:
    text, plots = run("01-live-stream")
    assert "messages of 40 cars" in text
    assert all(kind in text for kind in WearKind)
    assert plots == 7


def test_the_autoencoder_learns_from_kafka_and_parts_failing_messages(here: None) -> None:
    text, plots = run("02-autoencoder")
    assert "autoencoder:1" in text
    (area,) = figure(text, "ROC-AUC of messages")
    assert area > 0.6
    assert plots == 6


def test_sequence_models_tell_failures_and_remaining_life(here: None) -> None:
    text, plots = run("03-sequences")
    assert "forecaster:1" in text
    assert all(0 < area <= 1 for area in figure(text, "PR-AUC of messages"))
    assert plots == 6


def test_models_are_compared_and_only_a_shifted_signal_drifts(here: None) -> None:
    text, plots = run("04-comparison-and-drift")
    assert "is live" in text or "is the champion" in text
    assert re.search(r"^drift: coolant_temp$", text, flags=re.MULTILINE)
    assert plots == 5


def notebook(*words: str) -> list[str]:
    return [sys.executable, "-m", "motorcade.stack.cli", "notebook", *words]


def test_without_a_stack_it_is_said_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        notebook("--state", str(tmp_path / "none")),
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "no stack runs" in done.stderr
    assert "motorcade up" in done.stderr


def test_jupyterlab_answers_on_loopback_to_its_token_only(
    stack: dict[str, str], tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    log = tmp_path / "jupyter.log"
    home = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    with log.open("wb") as file:
        lab = subprocess.Popen(
            notebook("--no-browser", f"--port={port}"),
            env=home | stack,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/lab\?token=\w+", log.read_text())):
            assert lab.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        assert f":{port}/" in found[0]
        contents = f"http://127.0.0.1:{port}/api/contents"
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(contents, timeout=20)
        assert refused.value.code == 403
        token = found[0].rpartition("=")[2]
        with urllib.request.urlopen(f"{contents}?token={token}", timeout=20) as answer:
            assert "01-live-stream.ipynb" in answer.read().decode()
    finally:
        lab.send_signal(signal.SIGTERM)
        lab.wait(30)
