"""Motorcade's simulator as in `cars`, and where its CPU time goes."""

import tempfile
from pathlib import Path

import uvloop

from bench.generator.clients.cars import main
from bench.generator.clients.parts import Parts
from motorcade.runtime.mqtt_connection import Connection
from motorcade.simulator.block import FleetBlock
from motorcade.simulator.talk import Talk
from motorcade.simulator.worker_fleet import WorkerFleet

#: What is watched: the bench's table names the parts.
_WATCHED = (
    (FleetBlock, "step", "physics"),
    (Talk, "prepare", "samples"),
    (Talk, "_samples", "samples"),
    (Talk, "send", "send"),
    (Connection, "write", "write"),
    (Connection, "data_received", "puback"),
    (WorkerFleet, "_tick", "tick"),
    (WorkerFleet, "_report", "reports"),
    (WorkerFleet, "write_ledger", "reports"),
)

if __name__ == "__main__":
    parts = Parts()
    for owner, name, part in _WATCHED:
        parts.watch(owner, name, part)
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(main(Path(folder), parts))
