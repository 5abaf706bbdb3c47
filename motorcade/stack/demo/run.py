"""The demo, stage by stage, on a stack of its own."""

import asyncio
import json
import time
from dataclasses import dataclass

from rich.console import Console

from motorcade.fleet import topics
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.errors import SettingsError
from motorcade.fleet.settings import ProcessSettings
from motorcade.simulator.audit.run import Surroundings, audit
from motorcade.simulator.audit.verdict import Verdict
from motorcade.simulator.recorded import load_drives
from motorcade.simulator.settings import SimulatorSettings
from motorcade.stack import bringup, plan, stages
from motorcade.stack.demo import training
from motorcade.stack.demo.options import FAULT_KINDS, DemoOptions
from motorcade.stack.demo.watch import Watch
from motorcade.stack.options import StackOptions
from motorcade.stack.pipeline import look
from motorcade.stack.ports import free_ports
from motorcade.stack.screen import Screen, Stage
from motorcade.stack.settings import StackSettings
from motorcade.stack.simulation import Simulation
from motorcade.stack.state import StackState, StateFolder
from motorcade.stack.usage import UsageMeter

_RAMP_S = 120
_DRAIN_S = 60
_POLL_S = 0.25
#: Wear of the faulty cars begins within this share of the time to failure.
_SPREAD = 0.15
#: How long after the last failure was due the demo waits for its DTC, wall-clock seconds.
_PATIENCE_S = 30.0

_TITLES = (
    "start Kafka, registry, broker and our processes",
    "start the simulator and ramp the fleet",
    "drive without wear",
    "train the autoencoder straight from Kafka",
    "swap the model into the running scorer",
    "wear begins; watch for alerts, answers and failures",
    "stop the cars and drain",
    "audit every message in the topics",
)


@dataclass(frozen=True)
class Finished:
    """What a demo leaves: its verdict, and the stack that still runs."""

    verdict: Verdict
    state: StackState
    simulation: Simulation


class Demo:
    """One run of the demo.

    Args:
        options: what it shows.
        stack: how its stack is to be.
        console: where it shows it.
    """

    def __init__(self, options: DemoOptions, stack: StackOptions, console: Console) -> None:
        self._options = options
        self._stack = stack
        self._console = console
        self._folder = StateFolder(stack.state)
        self._screen = Screen(console)
        self._meter = UsageMeter(self._folder.keeper)

    async def run(self) -> Finished:
        """Run every stage; the stack is left running.

        Raises:
            MotorcadeError: a stage cannot be done; the caller stops the stack.
        """
        # What cannot be is said now and not after a minute of starting.
        web_port = stages.web_port(self._options.web_port)
        _check_drives(self._options, self._stack)
        screen = self._screen
        screen.plan(*_TITLES)
        with screen:
            with screen.stage(0) as stage:
                state = await self._start(stage)
            settings = _settings(plan.environment(state, self._folder))
            broker = plan.broker_of(state, self._folder)
            async with look(settings) as pipeline, broker.counting() as drops:
                keeper = self._folder.keeper
                watch = Watch(settings, keeper, pipeline, screen, self._meter, drops)
                try:
                    async with asyncio.TaskGroup() as group:
                        watching = [group.create_task(watch.figures())]
                        watching.append(group.create_task(watch.events()))
                        finished = await self._stages(state, watch, web_port)
                        for task in watching:
                            task.cancel()
                except BaseExceptionGroup as failures:
                    raise failures.exceptions[0] from None
        if self._options.report is not None:
            document = json.dumps(finished.verdict.to_json(), indent=1)
            self._options.report.write_text(document + "\n", encoding="utf-8")
        return finished

    async def _stages(self, state: StackState, watch: Watch, web_port: int) -> Finished:
        screen, settings = self._screen, watch.settings
        environment = plan.environment(state, self._folder)
        with screen.stage(1) as stage:
            simulation = await self._ramp(stage, state, watch, web_port)
        with screen.stage(2) as stage:
            await self._drive(stage, watch)
        with screen.stage(3) as stage:
            model = await training.train(environment, stage, epochs=self._options.epochs)
            records = sum(end - start for _, _, start, end in model["origin"]["ranges"])
            stage.detail = f"version {model['version']} from {records:,} records"
        with screen.stage(4):
            await training.until_live(state.http["score"], int(model["version"]))
        with screen.stage(5) as stage:
            await self._wear(stage, simulation, settings, watch)
        with screen.stage(6) as stage:
            await stages.stop_cars(simulation)
            await stages.drain(settings, stage, _DRAIN_S)
        with screen.stage(7) as stage:
            verdict = await self._audit(stage, settings, state, simulation, watch)
        return Finished(verdict, state, simulation)

    async def _start(self, stage: Stage) -> StackState:
        state = await bringup.start(self._stack, StackSettings(), stages.bars(stage))
        stage.detail = stages.addresses(state)
        return state

    async def _ramp(
        self, stage: Stage, state: StackState, watch: Watch, web_port: int
    ) -> Simulation:
        options = self._options
        own = {
            "cars": options.cars,
            "interval_s": options.interval_s,
            "seed": options.seed,
            "workers": options.workers,
            "run_dir": self._folder.data / "run",
            "drives": options.drives,
            "ramp_per_s": options.ramp_per_s,
            "wait_for": (f"http://127.0.0.1:{state.http['bridge']}/readyz",),
            "master_port": free_ports(1, frozenset({web_port}))[0],
            "web_port": web_port,
        }
        environment = _values(plan.environment(state, self._folder))
        settings = SimulatorSettings.model_validate({**environment, **own})
        simulation = Simulation(settings, self._folder.keeper)
        await simulation.start()
        watch.simulation = simulation
        self._screen.event(f"Locust UI: {simulation.web_url}", "bold")
        await simulation.ramp(options.cars, options.ramp_per_s)
        stage.total = options.cars
        deadline = time.monotonic() + _RAMP_S + options.cars / options.ramp_per_s
        while watch.connected < options.cars and time.monotonic() < deadline:
            stage.done = watch.connected
            await asyncio.sleep(_POLL_S)
        stage.detail = f"{watch.connected:,} cars, Locust UI {simulation.web_url}"
        return simulation

    async def _drive(self, stage: Stage, watch: Watch) -> None:
        began, stage.total = time.monotonic(), self._options.healthy_s
        while stage.done < stage.total:
            await asyncio.sleep(_POLL_S)
            stage.done = time.monotonic() - began
        stage.detail = f"{watch.counts[topics.TELEMETRY]:,} messages refined"

    async def _wear(
        self, stage: Stage, simulation: Simulation, settings: ProcessSettings, watch: Watch
    ) -> None:
        options = self._options
        if not options.faulty:
            return
        duration_s = options.wear_minutes * 60
        spread_s = duration_s * _SPREAD
        faults = await simulation.begin_wear(options.faulty, FAULT_KINDS, duration_s, spread_s)
        for fault in faults:
            self._screen.event(f"wear begins: car {fault['index']} {fault['kind']}", "magenta")
        clock = settings.run_clock
        last = max(fault["onset_ms"] + fault["duration_s"] * 1000 for fault in faults)
        began, until = _wall_ms(), clock.wall_ms(round(last))
        stage.total = until - began
        while watch.failures < options.faulty and _wall_ms() < until + _PATIENCE_S * 1000:
            await asyncio.sleep(_POLL_S)
            stage.done = _wall_ms() - began
            stage.detail = (
                f"{watch.failures} of {options.faulty} failed, {watch.alerts} alerts, "
                f"{watch.answers} drivers warned"
            )

    async def _audit(
        self,
        stage: Stage,
        settings: ProcessSettings,
        state: StackState,
        simulation: Simulation,
        watch: Watch,
    ) -> Verdict:
        stage.total = sum(
            watch.counts[t] for t in (topics.RAW, topics.TELEMETRY, topics.DLQ, topics.PREDICTIONS)
        )

        def on_read(topic: str, count: int) -> None:
            stage.done += count
            stage.detail = topic

        self._meter.sample()
        surroundings = Surroundings(
            durability=state.durability,
            broker=state.broker,
            broker_drops=await watch.drops(),
            usage=tuple(self._meter.report()),
        )
        run_dir = simulation.settings.run_dir
        verdict = await audit(settings, run_dir, surroundings, on_read=on_read)
        stage.detail = f"{verdict.accounts.raw_records:,} records of telemetry.raw accounted for"
        return verdict


def _settings(environment: dict[str, str]) -> ProcessSettings:
    return ProcessSettings.model_validate(_values(environment))


def _values(environment: dict[str, str]) -> dict[str, str]:
    """MOTORCADE_* variables as the fields that they set."""
    return {name.removeprefix("MOTORCADE_").lower(): value for name, value in environment.items()}


def _check_drives(options: DemoOptions, stack: StackOptions) -> None:
    """Recordings can be replayed, and leave enough cars that can wear."""
    if options.drives is None:
        return
    recorded = len(load_drives(options.drives, load_catalogue(stack.signals)))
    if options.faulty > options.cars - recorded:
        raise SettingsError(
            f"--faulty {options.faulty} cannot be met: {recorded} of {options.cars} cars replay "
            "recordings, which do not wear.",
            "Take more --cars, or fewer --faulty.",
        )


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
