"""Motorcade's simulator as in `cars`, but due in random order: what it saves that neighbours follow
one another."""

import tempfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import uvloop

from bench.generator.clients.cars import main
from bench.generator.clients.lines import Order
from motorcade.fleet.arrays import Ints
from motorcade.simulator.schedule import Schedule

_SEED = 1


def _scatter(cars: int) -> None:
    """Let each car take the place of another in the schedule."""
    grow = Schedule.grow
    place = np.random.default_rng(_SEED).permutation(cars)

    def scattered(schedule: Schedule, indices: Ints) -> None:
        grow(schedule, place[indices])

    setattr(Schedule, "grow", scattered)  # noqa: B010 - mypy forbids to assign to a method


if __name__ == "__main__":
    _scatter(Order.read().clients)
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(main(Path(folder), nullcontext()))
