"""The ramp alone: how fast the load generator connects cars, with nothing behind the brokers.

motorcade bench ramp [--cars 100000] [--brokers 8] [--offered 8000] [--json FILE]

A farm of mosquittos, no Kafka and no pipeline; then `motorcade load demo-100k` against it as
somebody's own broker, with messages so rare that connecting is all the work there is. Brokers and
generator share the machine.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import arguments
from bench.brokers.nodes import Nodes, missing, running
from motorcade.stack.checks import raise_descriptor_limit
from motorcade.stack.errors import StackError

#: Nobody publishes during the ramp: the first message of a car is due within this many seconds.
_INTERVAL_S = 600
_HOLD_S = 5


def ramp(nodes: Nodes, cars: int, offered: float, folder: Path) -> dict[str, Any]:
    """Connect all cars, hold them for some seconds, and return the figures of the ramp."""
    document = folder / "run.json"
    settings = {
        "target.stack": "external",
        "target.broker_url": ",".join(f"mqtt://{one}" for one in nodes.broker.endpoints),
        "target.kafka": "none",
        "fleet.cars": cars,
        "ramp.per_s": offered,
        "publish.interval_s": _INTERVAL_S,
        "stages.0.seconds": _HOLD_S,
        "thresholds.due_to_kafka_p99_ms": "null",
        "thresholds.least_rate_share": "null",
    }
    argv = [sys.executable, "-m", "motorcade.stack.cli", "load", "demo-100k"]
    argv += ["--json", str(document), "--state", str(folder / "state")]
    for name, value in settings.items():
        argv += ["--set", f"{name}={value}"]
    idle_s = nodes.cpu_s()
    ran = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    brokers_s = nodes.cpu_s() - idle_s
    if not document.exists():
        raise StackError("the run ended without a verdict.", ran.stdout[-600:].strip())
    found = json.loads(document.read_text())
    first = next(one for one in found["stages"] if one["name"] == "ramp")
    seconds = (first["to_ms"] - first["from_ms"]) / 1000
    connected = max(found["series"]["figures"]["cars.connected"])
    usage = [one for one in found["verdict"]["usage"] if one["name"].startswith("locust-worker")]
    return {
        "outcome": found["verdict"]["outcome"],
        "cars": cars,
        "connected": connected,
        "brokers": len(nodes.processes),
        "offered_per_s": offered,
        "ramp_s": seconds,
        "connects_per_s": connected / seconds,
        "simulator_us": sum(one["cpu_seconds"] for one in usage) / cars * 1e6,
        "brokers_us": brokers_s / cars * 1e6,
    }


def main() -> int:
    parser = arguments.parser("ramp", __doc__)
    parser.add_argument("--cars", type=int, default=100_000, help="")
    parser.add_argument("--brokers", type=int, default=8, help="mosquittos in the farm")
    parser.add_argument("--offered", type=float, default=8000, help="connects/s offered")
    parser.add_argument("--json", type=Path, help="write every figure to this file, too")
    options = parser.parse_args()
    if why := missing("mosquitto"):
        print(f"The farm cannot run: {why}.", file=sys.stderr)
        return 1
    raise_descriptor_limit()
    with tempfile.TemporaryDirectory(prefix="motorcade-ramp-") as name:
        folder = Path(name)
        (folder / "farm").mkdir()
        with running("mosquitto", options.brokers, folder / "farm") as (nodes, _):
            found = ramp(nodes, options.cars, options.offered, folder)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{found['outcome']}: {found['connected']:,.0f} of {found['cars']:,} cars connected")
    print(f"ramp                         {found['ramp_s']:10.1f} s")
    print(f"connects                     {found['connects_per_s']:10,.0f} /s")
    print(f"CPU a car, simulator         {found['simulator_us']:10.0f} µs, whole run")
    print(f"CPU a car, {found['brokers']:2} brokers        {found['brokers_us']:10.0f} µs")
    return 0 if found["outcome"] == "PASS" else 1


if __name__ == "__main__":
    sys.exit(main())
