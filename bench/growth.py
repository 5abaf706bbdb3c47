"""Cost as work grows: CPU against messages a second, memory against cars, and how linear both are.

motorcade bench growth [--only rates|cars] [--seconds 60] [--plot growth.html] [--json growth.json]

Each point is a run of `motorcade load steady` on a stack of its own, the whole pipeline behind it.
First the same 10,000 cars send 1,000, 5,000 and 10,000 messages a second; then 1,000, 10,000 and
100,000 cars send 1,000 a second. Figures are of the stage after the ramp: CPU as cores, memory as
resident MiB, by process. A straight line is fitted to each; its worst deviation is printed.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

#: Cars for one broker node: a process holds 20,000 descriptors at most.
CARS_PER_NODE = 15_000
#: Cars for one worker, the same for every fleet that has so many: what a worker takes by itself
#: is then the same share of a car's memory.
CARS_PER_WORKER = 10_000
#: How far from the line a point may lie for the growth to count as linear.
LINEAR = 0.15
FULL = {"cars": (1_000, 10_000, 100_000), "rates": (1_000, 5_000, 10_000)}
QUICK = {"cars": (50, 150, 300), "rates": (50, 150, 300)}


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


@dataclass
class Line:
    """y = base + slope × x, and the worst relative deviation of a point from it."""

    base: float
    slope: float
    worst: float

    @property
    def linear(self) -> bool:
        return self.worst <= LINEAR


def fit(x: Sequence[float], y: Sequence[float]) -> Line:
    """The line with the least squares of relative deviations: a small point counts like a large.

    Its base is not negative: work that costs less than nothing at rest would hide a curve.
    """
    at, found = np.array(x, dtype=float), np.array(y, dtype=float)
    weight = 1 / np.maximum(found, 1e-9)
    design = np.stack([np.ones_like(at), at], axis=1)
    base, slope = np.linalg.lstsq(design * weight[:, None], found * weight, rcond=None)[0]
    if base < 0:
        base, slope = 0.0, np.sum(at * weight) / np.sum((at * weight) ** 2)
    worst = float(np.max(np.abs(design @ [base, slope] - found) * weight))
    return Line(float(base), float(slope), worst)


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
    nodes = math.ceil(point.cars / CARS_PER_NODE)
    settings = {
        "fleet.cars": point.cars,
        "fleet.workers": math.ceil(point.cars / CARS_PER_WORKER),
        "target.broker": "mosquitto",
        "target.broker_nodes": nodes,
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


def read(point: Point, document: dict[str, Any]) -> None:
    """Means over the stage after the ramp, without its first fifth."""
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


def show_rates(points: Sequence[Point]) -> dict[str, Line]:
    """CPU by part at each rate: cores, and µs a message."""
    print(f"\nCPU, {points[0].cars:,} cars: cores (µs a message)")
    head = "".join(f"{p.measured_rate:>14,.0f}/s" for p in points)
    print(f"{'':12}{head}   µs more a message   worst deviation")
    lines = {}
    for part in [*sorted(points[-1].cores), "all"]:
        cores = [total(p.cores) if part == "all" else p.cores.get(part, 0.0) for p in points]
        if max(cores) < 0.005:
            continue
        lines[part] = line = fit([p.measured_rate for p in points], cores)
        each = [c / max(1.0, p.measured_rate) * 1e6 for c, p in zip(cores, points, strict=True)]
        cells = "".join(f"{c:8.3f} ({e:5.1f})" for c, e in zip(cores, each, strict=True))
        print(f"{part:12}{cells}   {line.slope * 1e6:17.1f}   {line.worst:15.0%}")
    return lines


def show_cars(points: Sequence[Point]) -> dict[str, Line]:
    """Memory by part for each fleet."""
    print(f"\nMemory, {points[0].rate:,.0f} messages/s: MiB")
    head = "".join(f"{p.cars:>11,} cars" for p in points)
    print(f"{'':12}{head}   KB more a car   worst deviation")
    lines = {}
    for part in [*sorted(points[-1].mib), "all"]:
        mib = [total(p.mib) if part == "all" else p.mib.get(part, 0.0) for p in points]
        lines[part] = line = fit([p.cars for p in points], mib)
        cells = "".join(f"{m:16,.0f}" for m in mib)
        print(f"{part:12}{cells}   {line.slope * 1024:13.2f}   {line.worst:15.0%}")
    each = "".join(f"{p.mib['simulator'] * 1024 / p.cars:16.1f}" for p in points)
    print(f"{'KB each':12}{each}   of the simulator, its workers' own memory included")
    return lines


def total(by_part: dict[str, float]) -> float:
    return sum(by_part.values())


def plot(rates: Sequence[Point], cars: Sequence[Point], path: Path) -> None:
    """Both growths as one self-contained page."""
    from plotly.subplots import make_subplots

    figure = make_subplots(
        1, 2, subplot_titles=("CPU against messages/s", "Memory against cars"), shared_xaxes=False
    )
    for column, x, y, chosen in ((1, "measured_rate", "cores", rates), (2, "cars", "mib", cars)):
        for part in [*sorted(getattr(chosen[-1], y)), "all"] if chosen else []:
            by_part = [getattr(p, y) for p in chosen]
            figure.add_scatter(
                x=[getattr(p, x) for p in chosen],
                y=[total(one) if part == "all" else one.get(part, 0.0) for one in by_part],
                name=part,
                legendgroup=part,
                showlegend=column == 1 or not rates,
                row=1,
                col=column,
            )
    figure.update_xaxes(title="messages/s", row=1, col=1)
    figure.update_xaxes(title="cars", row=1, col=2)
    figure.update_yaxes(title="cores", row=1, col=1)
    figure.update_yaxes(title="MiB", row=1, col=2)
    figure.write_html(path, include_plotlyjs=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="motorcade bench growth",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="small fleets, short stages")
    parser.add_argument("--seconds", type=float, help="length of each stage; 60, or 15 when quick")
    parser.add_argument("--only", choices=("rates", "cars"), help="only this growth")
    parser.add_argument(
        "--plot", type=Path, default=Path("growth.html"), help="where the plot goes"
    )
    parser.add_argument("--json", type=Path, help="write every figure here")
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL
    seconds = options.seconds or (15 if options.quick else 60)
    middle, slow = plan["cars"][1], plan["rates"][0]
    rates = [Point(middle, rate) for rate in plan["rates"]]
    # The middle fleet at the slow rate is a point of both.
    cars = [rates[0] if count == middle else Point(count, slow) for count in plan["cars"]]
    wanted = {"rates": rates, "cars": cars}
    if options.only:
        wanted = {options.only: wanted[options.only]}
    points = list({id(p): p for chosen in wanted.values() for p in chosen}.values())
    for point in points:
        print(f"{point.cars:,} cars, {point.rate:,.0f} messages/s …", end=" ", flush=True)
        run(point, seconds)
        if point.outcome:
            print(f"{point.outcome}, {total(point.cores):.2f} cores, {total(point.mib):,.0f} MiB")
        for check in point.broken:
            print(f"   {check}")
    wanted = {name: [p for p in chosen if p.outcome] for name, chosen in wanted.items()}
    if min(map(len, wanted.values())) < 2:
        print("Too few points for a line.")
        return 1
    show = {"rates": show_rates, "cars": show_cars}
    lines = {name: show[name](chosen) for name, chosen in wanted.items()}
    plot(wanted.get("rates", []), wanted.get("cars", []), options.plot)
    print(f"\nPlot: {options.plot}")
    if options.json:
        document = {
            name: {
                "points": [asdict(p) for p in chosen],
                "lines": {part: asdict(one) for part, one in lines[name].items()},
            }
            for name, chosen in wanted.items()
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    crooked = {name: found["all"].worst for name, found in lines.items() if not found["all"].linear}
    for name, worst in crooked.items():
        print(f"{name}: the growth is not linear, {worst:.0%} off the line")
    return 1 if crooked or any(p.outcome != "PASS" for p in points) else 0


if __name__ == "__main__":
    sys.exit(main())
