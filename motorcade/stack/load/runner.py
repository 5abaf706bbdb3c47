"""A load run, stage by stage: target, simulator, scenario, drain, audit."""

import asyncio
import math
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import yaml
from rich.console import Console

from motorcade.fleet.avro import telemetry_schema
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.columns import RecordLayout
from motorcade.simulator.audit import read
from motorcade.simulator.audit.payloads import ForeignPayloads, OwnPayloads, Payloads, Places
from motorcade.simulator.audit.read import Since
from motorcade.simulator.audit.run import Extent, Surroundings, audit
from motorcade.simulator.audit.verdict import Check, Scope, Verdict, also
from motorcade.simulator.scenarios import uses
from motorcade.simulator.scenarios.model import Scenario
from motorcade.simulator.settings import SimulatorSettings
from motorcade.stack import checks, stages
from motorcade.stack.brokers.external import parse_endpoints
from motorcade.stack.load import target
from motorcade.stack.load.course import Course, Recovered, StoppedByHandError, state_of
from motorcade.stack.load.disturbance import Disturber
from motorcade.stack.load.excuses import excuses
from motorcade.stack.load.options import LoadOptions
from motorcade.stack.load.outages import followed
from motorcade.stack.load.rate import rate_share
from motorcade.stack.load.seek import Seeker
from motorcade.stack.load.target import Target
from motorcade.stack.load.watch import KafkaWatch, Sample, Watch
from motorcade.stack.ports import free_ports
from motorcade.stack.screen import Screen
from motorcade.stack.simulation import Simulation
from motorcade.stack.state import StateFolder
from motorcade.stack.usage import UsageMeter

#: Seconds that a drain may take at least, and records that at least drain in a second.
_DRAIN_S, _DRAINED_PER_S = 60.0, 2_000


@dataclass(frozen=True)
class Finished:
    """What a run leaves.

    Args:
        verdict: of the audit.
        settings: of the simulator.
        samples: looks at the run, one a second.
        recoveries: what happened.
        spans: stages as they were, each {name, from_ms, to_ms}.
        seeker: of the limit, where one was searched for.
        started_ms, ended_ms: wall clock, from the first connect to the last car's stop.
    """

    verdict: Verdict
    settings: SimulatorSettings
    samples: list[Sample]
    recoveries: list[Recovered]
    spans: list[dict[str, Any]]
    seeker: Seeker | None
    started_ms: int
    ended_ms: int


@dataclass
class LoadRun:
    """One run of a scenario.

    Args:
        scenario: what is played.
        options: how.
        folder: state folder of the stack that is started or used.
        console: where it is shown.
    """

    scenario: Scenario
    options: LoadOptions
    folder: StateFolder
    console: Console
    _screen: Screen = field(init=False)

    def __post_init__(self) -> None:
        self._screen = Screen(self.console)

    async def run(self) -> Finished:
        """Run it; a stack that was started for it is left to the caller.

        Raises:
            MotorcadeError: it cannot be run, or breaks off; says why.
        """
        self._check()
        web_port = stages.web_port(self.options.web_port)
        name = f"{self.scenario.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        self._screen.plan(*self._titles())
        async with AsyncExitStack() as held:
            held.enter_context(self._screen)
            with self._screen.stage(0) as stage:
                opening = target.opened(
                    self.scenario,
                    self.folder,
                    name,
                    stages.bars(stage),
                    tied=not self.options.keep,
                )
                aim = await held.enter_async_context(opening)
                stage.detail = aim.words
            return await self._load(aim, web_port)

    def _check(self) -> None:
        """What the machine lacks is said before anything starts."""
        scenario = self.scenario
        found = checks.check(
            self.folder.path,
            cars=scenario.fleet.cars,
            broker_nodes=scenario.target.broker_nodes,
            load_workers=scenario.workers,
            messages=scenario.most_per_s * scenario.total_s,
            servers=target.stack_options(scenario, self.folder) is not None,
            spread="--set target.broker_nodes=… and --set fleet.workers=…",
        )
        wanted = scenario.target
        if wanted.broker_url is not None:
            hosts = [one.host for one in parse_endpoints(wanted.broker_url, wanted.ca)]
            own = SimulatorSettings().source_addresses
            found.append(checks.check_ports(scenario.fleet.cars, hosts, len(own)))
        checks.require(found)
        checks.raise_descriptor_limit()

    def _titles(self) -> list[str]:
        wanted = self.scenario.target
        first = {
            "own": "start Kafka, registry, broker and our processes",
            "running": "find the stack that runs",
            "external": "reach the broker",
        }[wanted.stack]
        workers = self.scenario.workers
        course = [f"{one.name} for {_span(one.seconds)}" for one in self.scenario.stages]
        if self.scenario.limit is not None:
            course = ["search for the limit"]
        return [
            first,
            f"start the simulator with {workers} worker{'s' if workers > 1 else ''}",
            f"ramp to {self.scenario.ramp_cars:,} cars",
            *course,
            "stop the cars" if wanted.kafka == "none" else "stop the cars and drain",
            "audit every message",
        ]

    @property
    def _after(self) -> int:
        """Position of the stage that comes after the scenario's own."""
        return 3 + (len(self.scenario.stages) or 1)

    async def _load(self, aim: Target, web_port: int) -> Finished:
        settings = self._simulator_settings(aim, web_port)
        simulation = Simulation(settings, aim.keeper)
        since = {} if aim.scope is Scope.CARS else await read.ends(aim.settings, aim.topics)
        meter = UsageMeter(aim.keeper)
        kafka = self._kafka_watch(aim)
        started_ms = _wall_ms()
        async with AsyncExitStack() as held:
            held.push_async_callback(asyncio.to_thread, simulation.remove)
            drops = await held.enter_async_context(aim.broker.counting())
            ports = {} if aim.state is None else aim.state.http
            watch = Watch(simulation, meter, kafka, ports=ports)
            await held.enter_async_context(watch)
            disturber = Disturber(aim.keeper, aim.broker_programs, self._tell)
            course = Course(self.scenario, watch, disturber, drops, self._screen)
            course.require_parts()
            with self._screen.stage(1) as stage:
                await simulation.start()
                stage.detail = f"Locust UI {simulation.web_url}"
            seeker = None
            if self.scenario.limit is not None:
                names = aim.broker_programs
                seeker = Seeker(self.scenario, simulation, watch, names, self._tell)
            stopped = await self._play(aim, simulation, course, seeker)
            ended_ms = _wall_ms()
            recoveries = course.recoveries(ended_ms)
            last = watch.samples[-1]
            verdict = await self._judge(aim, settings, meter, since, watch.samples, recoveries)
            if seeker is not None:
                for check in seeker.checks():
                    verdict = also(verdict, check)
            if stopped is not None:
                why = Check("the scenario", stopped, "played to its end", False, generator=True)
                verdict = also(verdict, why)
        spans = list(state_of(last).get("stages", []))
        return Finished(
            verdict, settings, watch.samples, recoveries, spans, seeker, started_ms, ended_ms
        )

    def _kafka_watch(self, aim: Target) -> KafkaWatch | None:
        if aim.scope is Scope.CARS:
            return None
        if aim.scope is Scope.RAW:
            payloads: Payloads = ForeignPayloads(self._places)
            return KafkaWatch(aim.settings, aim.raw, payloads, pipeline=False)
        layout = RecordLayout(telemetry_schema(load_catalogue(aim.settings.signals)))
        own = OwnPayloads(lambda _schema_id: layout)
        return KafkaWatch(aim.settings, aim.raw, own, pipeline=True)

    @property
    def _places(self) -> Places:
        return Places(vin=self.scenario.target.vin_at, seq=self.scenario.target.seq_at)

    def _simulator_settings(self, aim: Target, web_port: int) -> SimulatorSettings:
        aim.data.mkdir(parents=True, exist_ok=True)
        path = aim.data / f"{self.scenario.name}.yaml"
        path.write_text(yaml.safe_dump(self.scenario.model_dump(mode="json", exclude_unset=True)))
        own = {
            "run_dir": aim.data,
            "scenario": path,
            "wait_for": aim.gates,
            # Without a Kafka nobody needs to have subscribed either.
            "consumed": aim.scope is not Scope.CARS,
            "master_port": free_ports(1, frozenset({web_port}))[0],
            "web_port": web_port,
        }
        return SimulatorSettings(**{**aim.values, **uses.settings(self.scenario), **own})

    async def _play(
        self, aim: Target, simulation: Simulation, course: Course, seeker: Seeker | None
    ) -> str | None:
        """Ramp, play all stages, stop the cars; look on meanwhile.

        Returns:
            When somebody stopped it by hand; None when it was played to its end.
        """
        scenario, screen = self.scenario, self._screen
        stopped = None
        try:
            async with asyncio.TaskGroup() as group:
                looking = group.create_task(course.look_on())
                try:
                    await self._follow(simulation, course, seeker)
                except StoppedByHandError as stop:
                    stopped = stop.what
                    self._tell(stopped)
                with screen.stage(self._after) as stage:
                    await stages.stop_cars(simulation)
                    if aim.scope is Scope.PIPELINE:
                        patience_s = _DRAIN_S + scenario.most_per_s * 60 / _DRAINED_PER_S
                        await stages.drain(aim.settings, stage, patience_s)
                    elif aim.scope is Scope.RAW:
                        await stages.quiet(aim.settings, aim.raw, _DRAIN_S)
                looking.cancel()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return stopped

    async def _follow(self, simulation: Simulation, course: Course, seeker: Seeker | None) -> None:
        """Through ramp and stages; disturb what is due meanwhile, and no longer."""
        scenario, screen = self.scenario, self._screen
        with screen.stage(2) as stage:
            if self.options.ui:
                self._tell(f"press Start in the Locust UI: {simulation.web_url}")
            else:
                await simulation.ramp(scenario.ramp_cars, scenario.ramp.per_s)
            await course.ramped(stage)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(course.disturb())
                if seeker is not None:
                    with screen.stage(3) as stage:
                        await seeker.run(stage)
                for position in range(len(scenario.stages)):
                    with screen.stage(3 + position) as stage:
                        await course.stage(position, stage)
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _judge(
        self,
        aim: Target,
        settings: SimulatorSettings,
        meter: UsageMeter,
        since: Since,
        samples: list[Sample],
        recoveries: list[Recovered],
    ) -> Verdict:
        await asyncio.to_thread(meter.sample)
        last = samples[-1]
        state = state_of(last)
        ramp = state.get("ramp", {})
        disturber = Disturber(aim.keeper, aim.broker_programs, self._tell)
        slowest = [r.seconds for r in recoveries if r.happening.recovers]
        servers = () if aim.state is None else aim.state.servers
        happenings = [r.happening for r in recoveries]
        asked = disturber.asked_restarts(self.scenario.events)
        asked += followed(aim.keeper.restarts(), happenings, servers, samples)
        surroundings = Surroundings(
            durability=aim.broker.durability,
            broker_drops=last.drops,
            usage=tuple(meter.report()),
            broker=aim.broker.name,
            cars=self.scenario.ramp_cars,
            connected=ramp.get("connected"),
            recovered_s=max((math.inf if s is None else s for s in slowest), default=None),
            rate_share=rate_share(self.scenario, state.get("stages", []), samples),
            asked_restarts=asked,
            excuses=tuple(excuses(aim, recoveries)),
        )
        places = self._places if aim.scope is Scope.RAW else None
        with self._screen.stage(self._after + 1) as stage:

            def on_read(topic: str, count: int) -> None:
                stage.done += count
                stage.detail = topic

            verdict = await audit(
                aim.settings,
                settings.run_dir,
                surroundings,
                limits=uses.limits(self.scenario),
                extent=Extent(aim.scope, aim.raw, places, since),
                on_read=on_read,
            )
            stage.detail = f"{verdict.accounts.sent:,} messages accounted for"
        return verdict

    def _tell(self, what: str) -> None:
        self._screen.event(what, "magenta")


def _span(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{seconds:g} s"


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
