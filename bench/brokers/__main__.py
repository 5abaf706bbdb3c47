"""Every broker beside the others: what it does, what it costs, what it loses when a node is killed.

motorcade bench brokers [--broker NAME …] [--nodes N] [--cars N] [--rate N] [--json FILE]

About a minute a broker. RMQTT takes part where its program is.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvloop

from bench import arguments
from bench.brokers.conformance import Finding, examine
from bench.brokers.load import Cost, Loss, measure
from bench.brokers.nodes import BROKERS, missing, running
from bench.brokers.tables import conformance_table, load_table
from motorcade.fleet.errors import MotorcadeError
from motorcade.stack.checks import raise_descriptor_limit


def run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One broker, from start to end."""
    with (
        tempfile.TemporaryDirectory(prefix=f"motorcade-bench-{name}-") as folder,
        running(name, options.nodes, Path(folder)) as (nodes, ready_s),
    ):
        findings = examine(nodes.broker.endpoints, clustered=nodes.broker.clustered)
        found: dict[str, Any] = {
            "nodes": options.nodes,
            "clustered": nodes.broker.clustered,
            "durability": nodes.broker.durability,
            "ready_s": ready_s,
            "conformance": [asdict(finding) for finding in findings],
        }
        if options.cars:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
                cost, loss = loop.run(measure(nodes, options.cars, options.rate, options.seconds))
            found |= {"cost": asdict(cost), "loss": asdict(loss)}
        return found


def main() -> None:
    parser = arguments.parser("brokers", __doc__)
    parser.add_argument("--broker", action="append", choices=BROKERS, help="only this one; again")
    parser.add_argument("--nodes", type=int, default=3, help="nodes of each")
    parser.add_argument("--cars", type=int, default=300, help="connections; 0: no load")
    parser.add_argument("--rate", type=float, default=300, help="messages a second")
    parser.add_argument("--seconds", type=float, default=8, help="seconds of measuring")
    parser.add_argument("--json", type=Path, help="write every figure to this file, too")
    options = parser.parse_args()
    raise_descriptor_limit()
    results: dict[str, dict[str, Any]] = {}
    for name in options.broker or BROKERS:
        if why := missing(name):
            print(f"{name} is left out: {why}.", file=sys.stderr)
            continue
        print(f"{name}, {options.nodes} nodes …", file=sys.stderr, flush=True)
        results[name] = run(name, options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    print(
        conformance_table(
            {
                name: [Finding(**one) for one in result["conformance"]]
                for name, result in results.items()
            }
        )
    )
    loads = {
        name: (Cost(**result["cost"]), Loss(**result["loss"]))
        for name, result in results.items()
        if "cost" in result
    }
    if loads:
        print(f"\n{options.cars} cars, {options.rate:g} messages/s of 650 B, {options.nodes} nodes")
        print(f"\n{load_table(loads)}")


if __name__ == "__main__":
    try:
        main()
    except MotorcadeError as error:
        sys.exit(str(error))
