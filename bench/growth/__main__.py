"""Cost as work grows: CPU against messages a second, memory against cars, and how linear both are.

motorcade bench growth [--only rates|cars] [--seconds 60] [--plot growth.html] [--json growth.json]

Each point is a run of `motorcade load steady` on a stack of its own, the whole pipeline behind it.
First the same 10,000 cars send 1,000, 5,000 and 10,000 messages a second; then 1,000, 10,000 and
100,000 cars send 1,000 a second. Figures are of the stage after the ramp: CPU as cores, memory as
resident MiB, by process. A straight line is fitted to each; its worst deviation is printed.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench import arguments
from bench.growth.lines import ALL, Growth, growth
from bench.growth.page import Shown, write
from bench.growth.points import Point, run, total

FULL = {"cars": (1_000, 10_000, 100_000), "rates": (1_000, 5_000, 10_000)}
QUICK = {"cars": (50, 150, 300), "rates": (50, 150, 300)}


def show_rates(points: Sequence[Point]) -> Growth:
    """CPU by part at each rate: cores, and µs a message."""
    found = growth(points, lambda p: p.measured_rate, lambda p: p.cores, least=0.005)
    print(f"\nCPU, {points[0].cars:,} cars: cores (µs a message)")
    head = "".join(f"{rate:>14,.0f}/s" for rate in found.x)
    print(f"{'':12}{head}   µs more a message   worst deviation")
    for part, cores in found.by_part.items():
        line = found.lines[part]
        each = [c / max(1.0, rate) * 1e6 for c, rate in zip(cores, found.x, strict=True)]
        cells = "".join(f"{c:8.3f} ({e:5.1f})" for c, e in zip(cores, each, strict=True))
        print(f"{part:12}{cells}   {line.slope * 1e6:17.1f}   {line.worst:15.0%}")
    return found


def show_cars(points: Sequence[Point]) -> Growth:
    """Memory by part for each fleet."""
    found = growth(points, lambda p: p.cars, lambda p: p.mib)
    print(f"\nMemory, {points[0].rate:,.0f} messages/s: MiB")
    head = "".join(f"{p.cars:>11,} cars" for p in points)
    print(f"{'':12}{head}   KB more a car   worst deviation")
    for part, mib in found.by_part.items():
        line = found.lines[part]
        cells = "".join(f"{m:16,.0f}" for m in mib)
        print(f"{part:12}{cells}   {line.slope * 1024:13.2f}   {line.worst:15.0%}")
    each = "".join(f"{p.mib['simulator'] * 1024 / p.cars:16.1f}" for p in points)
    print(f"{'KB each':12}{each}   of the simulator, its workers' own memory included")
    return found


def shown(name: str, points: Sequence[Point], found: Growth) -> Shown:
    """A growth as its page has it."""
    if name == "rates":
        title = f"CPU against messages/s, {points[0].cars:,} cars"
        return Shown(title, found, "messages/s", "cores", "µs a message", 1e6, 3)
    title = f"Memory against cars, {points[0].rate:,.0f} messages/s"
    return Shown(title, found, "cars", "MiB", "KB a car", 1024.0, 0)


def main() -> int:
    parser = arguments.parser("growth", __doc__)
    parser.add_argument("--quick", action="store_true", help="small fleets, short stages")
    parser.add_argument("--seconds", type=float, help="length of each stage; 60, or 15 when quick")
    parser.add_argument("--only", choices=("rates", "cars"), help="only this growth")
    parser.add_argument(
        "--plot", type=Path, default=Path("growth.html"), help="where the plot goes"
    )
    parser.add_argument("--json", type=Path, help="write every figure to this file, too")
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
    found = {name: show[name](chosen) for name, chosen in wanted.items()}
    write([shown(name, wanted[name], one) for name, one in found.items()], options.plot)
    print(f"\nPlot: {options.plot}")
    if options.json:
        document = {
            name: {
                "points": [asdict(p) for p in chosen],
                "lines": {part: asdict(one) for part, one in found[name].lines.items()},
            }
            for name, chosen in wanted.items()
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    crooked = {n: one.lines[ALL].worst for n, one in found.items() if not one.lines[ALL].linear}
    for name, worst in crooked.items():
        print(f"{name}: the growth is not linear, {worst:.0%} off the line")
    return 1 if crooked or any(p.outcome != "PASS" for p in points) else 0


if __name__ == "__main__":
    sys.exit(main())
