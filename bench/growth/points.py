"""One point of a growth: a run of `motorcade load steady`, and what its processes took."""

import json
import math
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

#: Cars for one broker node: a process holds 20,000 descriptors at most.
CARS_PER_NODE = 15_000
#: Cars for one worker, the same for every fleet that has so many: what a worker takes by itself
#: is then the same share of a car's memory.
CARS_PER_WORKER = 10_000


@dataclass
class Point:
    """One run: cores and MiB by part, over the stage after the ramp."""

    cars: int
    rate: float
    outcome: str = ""
    broken: list[str] = field(default_factory=list)
    measured_rate: float = 0.0
    cores: dict[str, float] = field(default_factory=dict)
    mib: dict[str, float] = field(default_factory=dict)


def total(by_part: Mapping[str, float]) -> float:
    """Of all parts."""
    return sum(by_part.values())


def part_of(program: str) -> str:
    """Processes of a kind count together."""
    for prefix, part in (
        ("locust-worker", "simulator"),
        ("locust-master", "master"),
        ("mosquitto", "broker"),
        ("artemis", "broker"),
        ("rmqtt", "broker"),
    ):
        if program.startswith(prefix):
            return part
    return program


def run(point: Point, seconds: float) -> None:
    """Play the point's load and take its figures from the run's document."""
    settings = {
        "fleet.cars": point.cars,
        "fleet.workers": math.ceil(point.cars / CARS_PER_WORKER),
        "target.broker": "mosquitto",
        "target.broker_nodes": math.ceil(point.cars / CARS_PER_NODE),
        "ramp.per_s": max(50, min(1000, point.cars / 10)),
        "mqtt.keepalive_s": 300,
        "publish.interval_s": point.cars / point.rate,
        "stages.0.seconds": seconds,
    }
    with tempfile.TemporaryDirectory(prefix="motorcade-growth-") as folder:
        document = Path(folder) / "run.json"
        argv = [sys.executable, "-m", "motorcade.stack.cli", "load", "steady"]
        argv += ["--json", str(document), "--state", str(Path(folder) / "state")]
        for name, value in settings.items():
            argv += ["--set", f"{name}={value}"]
        ran = subprocess.run(argv, capture_output=True, text=True, check=False)
        if not document.exists():
            print(f"no verdict: {ran.stderr[-600:].strip()}")
            return
        read(point, json.loads(document.read_text()))


def read(point: Point, document: Mapping[str, Any]) -> None:
    """Take a run's means over the stage after the ramp, without its first fifth."""
    stage = document["stages"][-1]
    begin = stage["from_ms"] + (stage["to_ms"] - stage["from_ms"]) / 5
    series = document["series"]
    inside = [begin <= at <= stage["to_ms"] for at in series["time_ms"]]

    def mean(values: list[float | None]) -> float:
        chosen = [v for v, use in zip(values, inside, strict=True) if use and v is not None]
        return float(np.mean(chosen)) if chosen else 0.0

    cores: dict[str, float] = defaultdict(float)
    mib: dict[str, float] = defaultdict(float)
    for name, values in series["figures"].items():
        kind, _, program = name.partition(".")
        if kind == "cpu":
            cores[part_of(program)] += mean(values)
        elif kind == "rss":
            mib[part_of(program)] += mean(values)
    point.outcome = document["verdict"]["outcome"]
    point.broken = [
        f"{one['name']}: {one['observed']}, not {one['limit']}"
        for one in document["verdict"]["checks"]
        if not one["ok"]
    ]
    point.measured_rate = mean(series["figures"]["rate.sent"])
    point.cores, point.mib = dict(cores), dict(mib)
