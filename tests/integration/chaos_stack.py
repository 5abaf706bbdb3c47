"""A whole stack to kill processes of: real servers, a fleet that wears, senders of bad input."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from motorcade.fleet import topics
from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.settings import ProcessSettings
from motorcade.simulator.settings import SimulatorSettings
from motorcade.stack import bringup, plan, processes, program
from motorcade.stack.demo import training
from motorcade.stack.options import StackOptions
from motorcade.stack.pipeline import Pipeline, look
from motorcade.stack.ports import free_ports
from motorcade.stack.screen import Stage
from motorcade.stack.settings import StackSettings
from motorcade.stack.simulation import Simulation
from motorcade.stack.state import StackState, StateFolder

from .pipeline import Messages, Publisher

CARS = 100
INTERVAL_S = 0.5
SPEEDUP = 60.0
HEALTHY_S = 20.0
READY_S = 180.0
#: A command lives shorter than by default, so that a test need not wait for one whose car is gone;
#: the grace is longer than any process is away, so that no answer comes after TIMED_OUT.
COMMANDS = {"MOTORCADE_COMMAND_LIFETIME_S": "45", "MOTORCADE_COMMAND_GRACE_S": "30"}

_POLL_S = 0.05


@dataclass
class ChaosStack:
    """A stack with its fleet, and the ways to hurt it."""

    folder: StateFolder
    state: StackState
    settings: ProcessSettings
    simulation: Simulation
    pipeline: Pipeline

    @property
    def environment(self) -> dict[str, str]:
        return plan.environment(self.state, self.folder)

    @property
    def values(self) -> dict[str, str]:
        """The stack's variables as fields of any process's settings."""
        return {n.removeprefix("MOTORCADE_").lower(): v for n, v in self.environment.items()}

    def pid(self, name: str) -> int | None:
        assert not self.folder.keeper.given_up(name), self.log(name)
        return next(s.pid for s in self.folder.keeper.statuses() if s.name == name)

    def log(self, name: str) -> str:
        return f"{name}:\n{self.folder.keeper.last_words(name, 30)}"

    def arm(self, name: str, failpoint: str) -> None:
        """Let the next start of a process have a failpoint; "" for none."""
        variables = plan.environment(self.state, self.folder, name)
        if failpoint:
            variables["MOTORCADE_FAILPOINT"] = failpoint
        one = processes.program(name, variables, plan.process_data(self.folder))
        program.write_spec(one, self.folder.keeper.folder / "programs")

    async def until(
        self, reached: Callable[[], bool], what: str, name: str, timeout_s: float = READY_S
    ) -> None:
        """Poll; fails with the end of a process's log."""
        deadline = time.monotonic() + timeout_s
        while not reached():
            if time.monotonic() > deadline:
                pytest.fail(f"not in {timeout_s:g} s: {what}\n{self.log(name)}")
            await asyncio.sleep(_POLL_S)

    async def until_ready(self, name: str) -> None:
        deadline = time.monotonic() + READY_S
        while missing := await processes.waiting_for(self.state.http[name]):
            if time.monotonic() > deadline:
                pytest.fail(f"{name} waits for {missing}\n{self.log(name)}")
            await asyncio.sleep(_POLL_S)

    async def wear(self, cars: int, minutes: float, *kinds: str) -> None:
        """Let wear begin in some cars, failing after so many simulated minutes."""
        await self.simulation.begin_wear(cars, kinds, minutes * 60, minutes * 10)


class Rubbish:
    """Cars of no fleet that publish what must not pass, each message distinct."""

    def __init__(self, endpoint: str) -> None:
        self._publisher = Publisher(endpoint, "rubbish")
        self._cars = Messages(seed=4242, cars=3)
        self._count = 0

    @property
    def acknowledged(self) -> set[bytes]:
        return set(self._publisher.acknowledged)

    async def run(self, pace_s: float) -> None:
        """Publish until cancelled."""
        await self._publisher.session.connect(10)
        while True:
            self._count += 1
            car, topic = self._count % 3, self._cars.topic(self._count % 3)
            for payload in self._bad(car):
                await self._publisher.publish(topic, payload, payload)
            # A good message whose identity another one claims afterwards.
            good = self._cars.payload(car, self._count)
            await self._publisher.publish(topic, good, b"good")
            other = self._cars.payload(car, self._count, speed=1.25)
            await self._publisher.publish(topic, other, other)
            await asyncio.sleep(pace_s)

    def _bad(self, car: int) -> list[bytes]:
        seq = 1_000_000 + self._count
        return [
            b"not JSON, number %d" % self._count,
            self._cars.payload(car, seq, coolant_temp=10_000),
            self._cars.payload(car, seq, vin=self._cars.vins[car - 1]),
            self._cars.payload(car, seq, time=2**50),
            self._cars.payload(car, seq, unheard_of=1),
        ]

    async def settled(self) -> set[bytes]:
        """Every bad payload that the broker acknowledged."""
        await self._publisher.settled()
        await self._publisher.session.disconnect()
        assert not self._publisher.refused
        return self.acknowledged - {b"good"}


@contextlib.asynccontextmanager
async def wearing_fleet(folder: Path) -> AsyncIterator[ChaosStack]:
    """A stack whose fleet drives under a live model; stopped at the end."""
    state_folder = StateFolder(folder / "state")
    options = StackOptions(
        state=state_folder.path,
        broker="mosquitto",
        speedup=SPEEDUP,
        rate_per_s=CARS / INTERVAL_S,
        cars=CARS,
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in COMMANDS.items():
            patch.setenv(name, value)
        state = await bringup.start(options, StackSettings())
    try:
        values = plan.environment(state, state_folder)
        settings = ProcessSettings.model_validate(
            {name.removeprefix("MOTORCADE_").lower(): value for name, value in values.items()}
        )
        simulation = Simulation(_simulator(state, settings, folder / "run"), state_folder.keeper)
        async with look(settings) as pipeline:
            stack = ChaosStack(state_folder, state, settings, simulation, pipeline)
            await _ramp(stack)
            await _train(stack)
            yield stack
    finally:
        await asyncio.to_thread(bringup.stop, state_folder)


def _simulator(state: StackState, settings: ProcessSettings, run_dir: Path) -> SimulatorSettings:
    master_port, web_port = free_ports(2)
    own: dict[str, Any] = {
        "cars": CARS,
        "interval_s": INTERVAL_S,
        "seed": 3,
        "workers": 1,
        "run_dir": run_dir,
        "wait_for": (f"http://127.0.0.1:{state.http['bridge']}/readyz",),
        "master_port": master_port,
        "web_port": web_port,
    }
    return SimulatorSettings.model_validate({**settings.model_dump(), **own})


async def _ramp(stack: ChaosStack) -> None:
    await stack.simulation.start()
    await stack.simulation.ramp(CARS, 50)
    deadline = time.monotonic() + READY_S
    while (fleet := await stack.simulation.fleet())["connected"] < CARS:
        assert time.monotonic() < deadline, json.dumps(fleet)
        await asyncio.sleep(_POLL_S)


async def _train(stack: ChaosStack) -> None:
    """Train on the first seconds of healthy driving, and wait until the model scores."""
    wanted = round(CARS * HEALTHY_S / INTERVAL_S)
    deadline = time.monotonic() + HEALTHY_S + READY_S
    while (counts := await stack.pipeline.counts())[topics.TELEMETRY] < wanted:
        assert time.monotonic() < deadline, counts
        await asyncio.sleep(1)
    try:
        model = await training.train(stack.environment, Stage("train"), epochs=5)
        await training.until_live(stack.state.http["score"], int(model["version"]))
    except MotorcadeError as error:
        pytest.fail(f"{error}\n{stack.log('score')}")
