"""`motorcade demo` from the first download to the last process that ends, as a person runs it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from motorcade.fleet import mqtt_topics
from motorcade.fleet.vin import generate_vin

from .conftest import DRIVES
from .driven import end, left_running, motorcade, start, until_said

#: So many that one false alert is within the limit: fewer cars drive too few vehicle-days for that.
CARS, FAULTY = 250, 3
DEMO_S = 420
pytestmark = pytest.mark.timeout(DEMO_S + 180)


@dataclass(frozen=True)
class Ran:
    """A demo that ran to its end."""

    code: int
    said: str
    verdict: dict[str, Any]
    state: Path
    left: list[str]


@pytest.fixture(scope="module")
def ran(drives: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("demo")
    state, report, output = folder / "state", folder / "verdict.json", folder / "output"
    options = {
        "cars": CARS,
        "faulty": FAULTY,
        "interval": 1,
        "healthy": 20,
        "wear-minutes": 90,
        "speedup": 120,
        "drives": drives,
        "json": report,
        "state": state,
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    process = start("demo", "--exit", *arguments, output=output)
    try:
        code = process.wait(DEMO_S)
    finally:
        if process.poll() is None:
            process.kill()
    said = output.read_text()
    assert report.exists(), said[-4000:]
    return Ran(code, said, json.loads(report.read_text()), state, left_running(folder))


def test_it_passes_and_says_so_first(ran: Ran) -> None:
    assert ran.code == 0, ran.said[-6000:]
    lines = ran.said.splitlines()
    verdict = lines[[line.startswith("Thresholds") for line in lines].index(True) - 1]
    assert verdict.split()[0] == "PASS"
    assert ran.verdict["outcome"] == "PASS"
    assert all(check["ok"] for check in ran.verdict["checks"])
    assert "Traceback" not in ran.said


def test_every_message_is_accounted_for(ran: Ran) -> None:
    accounts = ran.verdict["accounts"]
    assert accounts["acknowledged"] > 20 * CARS
    assert accounts["sent"] >= accounts["acknowledged"]
    assert accounts["raw"] == accounts["refined"] + accounts["quarantined"]
    assert accounts["refined"] == accounts["scored"] + accounts["not_scored"]
    for lost in ("acknowledged_missing", "unaccounted", "invented", "unpredicted", "reordered"):
        assert accounts[lost] == 0, lost
    assert accounts["quarantined_by_rule"] == {}
    assert ran.verdict["broker"]["drops"] == 0


def test_recorded_drives_are_not_scored_because_they_lack_most_signals(ran: Ran) -> None:
    accounts = ran.verdict["accounts"]
    live = next(check for check in ran.verdict["checks"] if check["name"].startswith("failures"))
    assert live["ok"]
    assert accounts["scored"] > accounts["refined"] / 4
    assert accounts["not_scored"] > DRIVES * 20


def test_failures_are_announced_and_their_drivers_warned(ran: Ran) -> None:
    faults = ran.verdict["faults"]
    assert faults["failures"] == len(faults["announcements"]) == FAULTY
    assert faults["announced"] >= 0.9 * FAULTY
    assert faults["median_lead_minutes"] >= 30
    assert faults["raised"] >= faults["announced"]
    assert faults["answered"] == faults["raised"]
    assert faults["raised_twice"] == 0
    assert {one["kind"] for one in faults["announcements"]} <= {"coolant_leak", "bearing_wear"}


def test_latencies_and_usage_are_measured(ran: Ran) -> None:
    latencies = ran.verdict["latencies"]
    assert latencies["due → Kafka"]["n"] >= ran.verdict["accounts"]["acknowledged"]
    assert latencies["due → alert"]["n"] >= FAULTY
    assert latencies["alert → acknowledged by the car"]["n"] == ran.verdict["faults"]["answered"]
    # Nobody had to come back in this run, so nobody waited for it.
    assert [name for name, latency in latencies.items() if not latency["n"]] == ["reconnect"]
    for latency in filter(itemgetter("n"), latencies.values()):
        assert 0 <= latency["p50"] <= latency["p99"] <= latency["max"]
    usage = {one["name"]: one for one in ran.verdict["usage"]}
    ours = {"bridge", "refine", "score", "alerts", "twin", "dispatch"}
    assert usage.keys() >= ours | {"kafka", "registry", "locust-master", "locust-worker-0"}
    assert all(one["cpu_seconds"] > 0 and one["rss_mib"] > 1 for one in usage.values())
    assert all(one["restarts"] == 0 for one in usage.values())


def test_nothing_stays_of_it(ran: Ran) -> None:
    assert ran.left == []
    assert not ran.state.exists()


@pytest.fixture
def staying(tmp_path: Path) -> Iterator[tuple[Path, Any]]:
    """A short demo without a fault that goes on driving after its verdict."""
    state, output = tmp_path / "state", tmp_path / "output"
    arguments = ("--cars=50", "--faulty=0", "--interval=0.25", "--healthy=8", "--epochs=1")
    process = start("demo", *arguments, f"--state={state}", output=output)
    try:
        until_said("Ctrl-C stops everything.", process, output, DEMO_S)
        yield state, lambda: end(process, output)
    finally:
        if process.poll() is None:
            process.kill()


def test_while_it_runs_it_can_be_asked_and_ctrl_c_ends_it(
    staying: tuple[Path, Any], tmp_path: Path
) -> None:
    state, stop = staying
    here = ("--state", str(state))

    said = motorcade("status", "--json", *here)
    assert said.returncode == 0, said.stdout + said.stderr
    report = json.loads(said.stdout)
    assert report["healthy"]
    parts = {part["name"]: part for part in report["parts"]}
    assert parts.keys() >= {"kafka", "registry", "bridge", "score", "locust-master"}

    vin = generate_vin(1, 7)
    said = motorcade("twin", *here, "show", vin, "--json")
    assert said.returncode == 0, said.stderr
    assert vin in said.stdout

    _publish(report["brokers"][0], vin, b'{"speed": NaN}')
    letters = json.loads(_until_listed("not-json", here))
    assert [letter["rule"] for letter in letters] == ["not-json"]

    said = motorcade("logs", "bridge", *here)
    assert said.returncode == 0
    assert "started" in said.stdout

    assert stop() == 130
    assert left_running(tmp_path) == []
    assert not state.exists()


def _publish(endpoint: str, vin: str, payload: bytes) -> None:
    host, _, port = endpoint.rpartition(":")
    client = paho.Client(CallbackAPIVersion.VERSION2, "stranger", protocol=paho.MQTTv5)
    client.connect(host, int(port))
    client.loop_start()
    sent = client.publish(mqtt_topics.topic(vin, mqtt_topics.TELEMETRY), payload, qos=1)
    sent.wait_for_publish(30)
    client.disconnect()
    client.loop_stop()


def _until_listed(rule: str, here: tuple[str, str]) -> str:
    """Each listing takes about a second; the message is on its way meanwhile."""
    for _ in range(30):
        said = motorcade("dlq", *here, "list", "--json")
        assert said.returncode == 0, said.stderr
        if rule in said.stdout:
            break
    return said.stdout
