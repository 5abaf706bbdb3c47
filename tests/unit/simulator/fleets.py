"""Small fleets for the simulator's tests."""

from typing import Any

import numpy as np

from motorcade.fleet.arrays import Floats, Ints
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.clock import RunClock
from motorcade.simulator.block import FleetBlock
from motorcade.simulator.population import FleetPlan

#: 28 May 2026, 20:26:40 UTC.
START_MS = 1_780_000_000_000
CATALOGUE = load_catalogue()


def plan(seed: int = 1, **other: Any) -> FleetPlan:
    """A fleet on a grid of 5 s unless told otherwise."""
    return FleetPlan(seed, CATALOGUE, RunClock(0, START_MS, 60.0), **{"grid_ms": 5000, **other})


def column(name: str) -> int:
    return CATALOGUE.column(name)


def drive(block: FleetBlock, minutes: float, every_s: float = 60.0) -> Floats:
    """Drive on and sample every car, shape (times, cars, signals)."""
    rows: Ints = np.arange(len(block))
    start = block.event_ms
    times = np.arange(every_s, minutes * 60 + 1e-6, every_s)
    samples = []
    for seconds in times:
        block.step(start + round(seconds * 1000))
        samples.append(block.sample(rows))
    return np.array(samples)
