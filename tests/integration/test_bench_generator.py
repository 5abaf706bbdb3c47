"""The generator benchmark at a tiny size: its programs talk, and its figures are complete."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.generator.peers import PEERS
from motorcade.stack.brokers.mosquitto import find
from motorcade.stack.errors import StackError

BENCH = (sys.executable, "-m", "motorcade.stack.cli", "bench")


@pytest.mark.skipif(find() is None, reason="mosquitto is not installed")
def test_our_cars_and_the_floor_are_measured_on_one_broker(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(*BENCH, "generator", "--clients", "100", "--seconds", "1", "--interval", "0.05"),
            *("--peer", "floor", "--peer", "session", "--peer", "cars"),
            *("--json", tmp_path / "figures.json"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures) == ["floor", "session", "cars"]
    for name, found in figures.items():
        assert isinstance(found, dict), f"{name}: {found}"
        assert found["acknowledged"] == found["sent"] >= 1000
        assert found["message_cpu_us"] > 0
        assert found["connects_per_s"] > 0
    assert "Motorcade's cars" in done.stdout
    assert "×1.0" in done.stdout


@pytest.mark.skipif(find() is None, reason="mosquitto is not installed")
def test_a_profile_shares_out_the_cost_of_a_message(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(*BENCH, "generator", "--profile"),
            *("--clients", "100", "--seconds", "2", "--interval", "0.2"),
            *("--json", tmp_path / "figures.json"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    parts = figures["parts_us"]
    assert len(parts) == 8
    assert all(us > 0 for us in parts.values()), parts
    assert figures["cars"]["message_cpu_us"] > figures["floor"]["message_cpu_us"]
    assert figures["cars"]["message_system_us"] < figures["cars"]["message_cpu_us"]
    assert "TCP on loopback" in done.stdout


@pytest.mark.skipif(find() is None, reason="mosquitto is not installed")
def test_the_ramp_alone_connects_every_car(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    sizes = ("--cars", "200", "--brokers", "2", "--offered", "200")
    done = subprocess.run(
        [*BENCH, "ramp", *sizes, "--json", figures],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert (found["outcome"], found["connected"], found["brokers"]) == ("PASS", 200, 2)
    assert 0 < found["connects_per_s"] <= 1.5 * found["offered_per_s"]
    assert found["simulator_us"] > found["brokers_us"] > 0
    assert "connects" in done.stdout


def test_a_missing_tool_is_said_in_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StackError, match=r"Node\.js is not installed"):
        next(one for one in PEERS if one.name == "mqttjs").prepare()
