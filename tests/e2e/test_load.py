"""`motorcade load` as a person runs it: on a stack of its own, to its verdict or to Ctrl-C."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from motorcade.stack.brokers.base import QueueBound
from motorcade.stack.brokers.mosquitto import Mosquitto, find
from motorcade.stack.keeper import Keeper
from motorcade.stack.ports import free_ports

from .driven import end, left_running, motorcade, start, until_said

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(find() is None, reason="mosquitto is not installed"),
]

CARS = 30
SMALL = (
    f"--set=fleet.cars={CARS}",
    "--set=ramp.per_s=100",
    "--set=publish.interval_s=0.5",
    "--set=thresholds.generator_lag_p99_ms=10000",
    "--set=thresholds.due_to_puback_p99_ms=null",
    "--set=thresholds.due_to_kafka_p99_ms=null",
)


@pytest.mark.parametrize(("broker", "nodes"), [("mosquitto", 2), ("artemis", 3)])
def test_a_run_on_a_stack_of_its_own_passes_keeps_its_record_and_leaves_nothing(
    broker: str, nodes: int, tmp_path: Path
) -> None:
    state, run, report = tmp_path / "state", tmp_path / "run.json", tmp_path / "run.html"
    record = (f"--json={run}", f"--report={report}")
    said = motorcade(
        "load",
        "steady",
        *SMALL,
        f"--set=target.broker={broker}",
        f"--set=target.broker_nodes={nodes}",
        "--set=stages.0.seconds=4",
        *record,
        f"--state={state}",
        timeout_s=350,
    )
    assert said.returncode == 0, said.stdout[-3000:] + said.stderr[-3000:]
    lines = said.stdout.splitlines()
    assert "PASS" in lines
    assert lines.index("PASS") < next(n for n, x in enumerate(lines) if x.startswith("Thresholds"))
    assert any("see the report" in line and str(report) in line for line in lines)
    document = json.loads(run.read_text())
    assert document["verdict"]["outcome"] == "PASS"
    assert document["verdict"]["accounts"]["acknowledged"] > 4 * CARS
    assert document["manifest"]["scenario"]["target"]["broker_nodes"] == nodes
    usage = {one["name"]: one for one in document["verdict"]["usage"]}
    processes = {"locust-master", "locust-worker-0", "bridge", "kafka", f"{broker}-{nodes}"}
    assert usage.keys() >= processes
    assert all(one["cpu_us_per_message"] >= 0 for one in usage.values())
    assert not state.exists()
    assert left_running(tmp_path) == []


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """Somebody's own broker."""
    keeper = Keeper(tmp_path / "broker")
    keeper.start()
    mosquitto = Mosquitto(tmp_path / "data", tuple(free_ports(1)), QueueBound(100, 60))
    for program in mosquitto.programs():
        keeper.add(program)
    yield f"mqtt://{mosquitto.endpoints[0]}"
    keeper.shut_down()


def external(broker: str, *more: str) -> tuple[str, ...]:
    target = ("stack=external", f"broker_url={broker}", "kafka=none")
    return ("load", "steady", *SMALL, *(f"--set=target.{one}" for one in target), *more)


def test_a_run_that_fails_says_so_and_exits_2(broker: str, tmp_path: Path) -> None:
    impossible = "--set=thresholds.connect_p99_ms=0.0001"
    said = motorcade(
        *external(broker, impossible, "--set=stages.0.seconds=2", f"--state={tmp_path / 'state'}")
    )
    assert said.returncode == 2, said.stdout + said.stderr
    assert "FAIL" in said.stdout.splitlines()


def test_ctrl_c_stops_the_cars_and_leaves_nothing(broker: str, tmp_path: Path) -> None:
    state, output = tmp_path / "state", tmp_path / "output"
    process = start(
        *external(broker, "--set=stages.0.seconds=10m", f"--state={state}"), output=output
    )
    until_said("… hold for", process, output, 120)
    assert end(process, output) == 130
    assert "there is no verdict" in output.read_text()
    assert left_running(state) == []


def test_what_cannot_be_is_said_before_anything_starts(tmp_path: Path) -> None:
    here = f"--state={tmp_path / 'state'}"
    said = motorcade("load", "stady", here)
    assert said.returncode == 1
    assert "Did you mean steady?" in said.stderr
    said = motorcade("load", "steady", "--set=target.stack=running", here)
    assert said.returncode == 1
    assert "no stack runs in" in said.stderr
    said = motorcade("load", "steady", "--set=fleet.cars=9000000", "--set=fleet.workers=1", here)
    assert said.returncode == 1
    assert "9,000,000 cars" in said.stderr
    assert not (tmp_path / "state").exists()
