"""Load generators side by side: our cars, a bare protocol, and other MQTT clients, on one broker.

motorcade bench generator [--peer NAME …] [--clients N] [--interval S] [--seconds S] [--json FILE]
motorcade bench generator --profile [--clients N] [--interval S] [--seconds S] [--json FILE]

Each client program is one process that connects N clients to the same mosquitto, and then lets
each publish once an interval. CPU and memory are read from the kernel. A peer whose tools are
missing says so in its row; those of other languages are installed and built below
~/.cache/motorcade/bench. With --profile: where the CPU time of a car's message goes, by part,
beside the bare protocol and cars whose order is scattered over memory.
"""

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench import arguments
from bench.generator.breakdown import breakdown, breakdown_table
from bench.generator.broker import mosquitto
from bench.generator.measure import Figures, Load, measure
from bench.generator.peers import PEERS
from motorcade.fleet.errors import MotorcadeError
from motorcade.stack.checks import raise_descriptor_limit

_BASE = "cars"
_COLUMNS = ("CPU/message", "", "CPU/connect", "", "connects/s", "memory/conn.", "", "clients")


def _row(found: Figures, base: Figures | None) -> list[str]:
    def ratio(ours: float, theirs: float) -> str:
        return f"×{theirs / ours:.1f}" if ours > 0 else ""

    return [
        f"{found.message_cpu_us:.1f} µs",
        ratio(base.message_cpu_us, found.message_cpu_us) if base else "",
        f"{found.connect_cpu_us:.0f} µs",
        ratio(base.connect_cpu_us, found.connect_cpu_us) if base else "",
        f"{found.connects_per_s:,.0f}",
        f"{found.connection_bytes / 1000:.1f} kB",
        ratio(base.connection_bytes, found.connection_bytes) if base else "",
        f"{found.clients:,}",
    ]


def table(results: dict[str, Figures | str]) -> str:
    """A row for each peer, with its ratios to our cars."""
    base = results.get(_BASE)
    lines = [["client", *_COLUMNS]]
    for peer in PEERS:
        found = results.get(peer.name)
        if isinstance(found, Figures):
            lines.append([peer.title, *_row(found, base if isinstance(base, Figures) else None)])
        elif found is not None:
            lines.append([peer.title, f"not measured: {found}"])
    widths = [max(len(line[n]) for line in lines if len(line) > 2) for n in range(len(lines[0]))]
    return "\n".join(
        f"{line[0]:<{widths[0]}}  "
        + "  ".join(f"{cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=False))
        for line in lines
    )


def _profile(load: Load, folder: Path, json_file: Path | None) -> None:
    plain, parts = breakdown(load, folder)
    if json_file:
        found = {name: asdict(one) for name, one in plain.items()}
        json_file.write_text(json.dumps({**found, "parts_us": parts}, indent=1))
    print(
        f"{load.clients:,} cars in one process, a message every {load.interval_s:g} s each at "
        f"QoS {load.qos}, one mosquitto\n"
    )
    print(breakdown_table(plain, parts))


def main() -> None:
    parser = arguments.parser("generator", __doc__)
    names = [peer.name for peer in PEERS]
    parser.add_argument("--peer", action="append", choices=names, help="only this one; again")
    parser.add_argument("--profile", action="store_true", help="a car's message, part by part")
    parser.add_argument("--clients", type=int, default=2000, help="connections of each")
    parser.add_argument("--interval", type=float, default=2, help="seconds between messages")
    parser.add_argument("--seconds", type=float, default=20, help="seconds of publishing")
    parser.add_argument("--payload", type=int, default=600, help="bytes a message")
    parser.add_argument("--qos", type=int, choices=(0, 1), default=1, help="of the messages")
    parser.add_argument("--json", type=Path, help="write every figure to this file, too")
    options = parser.parse_args()
    raise_descriptor_limit()
    results: dict[str, Figures | str] = {}
    with (
        tempfile.TemporaryDirectory(prefix="motorcade-bench-generator-") as folder,
        mosquitto(Path(folder)) as endpoint,
    ):
        load = Load(
            endpoint,
            options.clients,
            options.interval,
            options.seconds,
            options.payload,
            options.qos,
        )
        if options.profile:
            _profile(load, Path(folder), options.json)
            return
        for peer in PEERS:
            if options.peer and peer.name not in options.peer:
                continue
            print(f"{peer.title} …", file=sys.stderr, flush=True)
            try:
                log = Path(folder) / f"{peer.name}.log"
                results[peer.name] = measure(peer.prepare(), load, peer.most, log)
            except MotorcadeError as error:
                results[peer.name] = error.what
    if options.json:
        found = {n: asdict(one) if isinstance(one, Figures) else one for n, one in results.items()}
        options.json.write_text(json.dumps(found, indent=1))
    print(
        f"{options.clients:,} clients, a message of {options.payload} B every "
        f"{options.interval:g} s each at QoS {options.qos}, one mosquitto; "
        f"× is the ratio to Motorcade's cars\n"
    )
    print(table(results))


if __name__ == "__main__":
    try:
        main()
    except MotorcadeError as error:
        sys.exit(str(error))
