"""`motorcade bench brokers` finds what a broker does, and what it does not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

#: What the pipeline stands on; a broker that lacks it is of no use.
NEEDED = {
    "QoS 0",
    "QoS 1, with its MQTT 5 properties",
    "order of one publisher",
    "session resumed on its node",
    "will of a lost connection",
    "retained message",
    "message expiry",
    "0x95 for a packet over the limit",
}
#: What one has and the other has not: the suite tells them apart.
APART = {
    "receive-maximum of a subscriber": ("partly", "yes"),
    "0x10 when nobody subscribes": ("yes", "no"),
}


@pytest.mark.timeout(240)
def test_the_suite_tells_brokers_apart(tmp_path: Path) -> None:
    report = tmp_path / "brokers.json"
    motorcade = (sys.executable, "-m", "motorcade.stack.cli")
    options = ("--nodes=1", "--cars=0", "--broker=mosquitto", "--broker=artemis")
    ran = subprocess.run(
        [*motorcade, "bench", "brokers", *options, f"--json={report}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = {
        broker: {one["name"]: one["answer"] for one in result["conformance"]}
        for broker, result in json.loads(report.read_text()).items()
    }
    for broker in ("mosquitto", "artemis"):
        lacking = {name for name in NEEDED if found[broker][name] != "yes"}
        assert not lacking, (broker, lacking, ran.stdout)
    for name, answers in APART.items():
        assert (found["mosquitto"][name], found["artemis"][name]) == answers, ran.stdout
