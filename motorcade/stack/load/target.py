"""What a run loads: a stack started for it, one that is up, or somebody else's broker and Kafka."""

import asyncio
import fcntl
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from motorcade.fleet import topics
from motorcade.fleet.clock import RunClock
from motorcade.fleet.errors import SettingsError, UnreachableError
from motorcade.fleet.settings import ProcessSettings
from motorcade.simulator.audit.verdict import Scope
from motorcade.simulator.population import signals_of
from motorcade.simulator.scenarios.model import Scenario
from motorcade.stack import bringup, plan
from motorcade.stack.bringup import OnUpdate
from motorcade.stack.brokers.base import Broker, Endpoint
from motorcade.stack.brokers.external import External, parse_endpoints
from motorcade.stack.errors import StackError
from motorcade.stack.keeper import Keeper
from motorcade.stack.options import StackOptions
from motorcade.stack.settings import StackSettings
from motorcade.stack.stages import addresses
from motorcade.stack.state import StackState, StateFolder

#: Seconds that a broker's queues must bridge beyond the longest outage of the scenario.
_SPARE_S = 120.0
_REACH_S = 10.0


@dataclass(frozen=True)
class Target:
    """Where cars connect, where the audit reads, and who keeps the processes of the run.

    Args:
        keeper: runs the simulator's processes.
        broker: the adapter of the broker.
        values: fields of a process's settings that let it find the target.
        scope: how far the audit can follow a message.
        topics: what it reads; of a foreign Kafka the one raw topic.
        state: the stack of ours; None where there is none.
        data: folder for what the run writes.
    """

    keeper: Keeper
    broker: Broker
    values: Mapping[str, object]
    scope: Scope
    topics: tuple[str, ...]
    state: StackState | None
    data: Path

    @property
    def settings(self) -> ProcessSettings:
        """Settings with which the audit and the watch find the target."""
        return ProcessSettings.model_validate(dict(self.values))

    @property
    def raw(self) -> str:
        """The topic in which the broker's messages arrive."""
        return topics.RAW if self.state is not None or not self.topics else self.topics[0]

    @property
    def words(self) -> str:
        """Where it is, for people."""
        if self.state is not None:
            return addresses(self.state)
        brokers = ", ".join(map(str, self.broker.endpoints))
        kafka = self.values.get("kafka", "none: the audit ends at the broker")
        return f"broker {brokers}, Kafka {kafka}"

    @property
    def gates(self) -> tuple[str, ...]:
        """URLs that must answer before the first car connects."""
        if self.state is None or "bridge" not in self.state.http:
            return ()
        return (f"http://127.0.0.1:{self.state.http['bridge']}/readyz",)

    @property
    def broker_programs(self) -> tuple[str, ...]:
        """The broker's programs; none for one that runs elsewhere."""
        if self.state is None:
            return ()
        return tuple(n for n in self.state.servers if n not in {"kafka", "registry"})


def decided(scenario: Scenario, folder: StateFolder) -> Scenario:
    """The scenario with `auto` decided: the stack that is up, or else one of its own."""
    if scenario.target.stack != "auto":
        return scenario
    stack = "own" if folder.load() is None else "running"
    aim = scenario.target.model_copy(update={"stack": stack})
    return scenario.model_copy(update={"target": aim})


def stack_options(scenario: Scenario, folder: StateFolder) -> StackOptions | None:
    """The stack that the scenario needs started; None where nothing of ours has to be."""
    target = scenario.target
    if target.stack == "running" or (target.stack == "external" and target.kafka is not None):
        return None
    outages = [float(getattr(event, "seconds", 0.0)) for event in scenario.events]
    external = target.stack == "external"
    return StackOptions(
        state=folder.path,
        broker="external" if external else target.broker,
        broker_nodes=target.broker_nodes,
        broker_url=target.broker_url,
        broker_credentials=target.credentials,
        broker_ca=target.ca,
        broker_cert=target.cert,
        broker_key=target.key,
        broker_clustered=target.clustered,
        broker_tls=scenario.mqtt.tls and not external,
        signals=signals_of(scenario.fleet.car, scenario.fleet.signals),
        speedup=scenario.fleet.speedup,
        rate_per_s=scenario.most_per_s,
        outage_s=max(300.0, max(outages, default=0.0) + _SPARE_S),
        cars=scenario.fleet.cars,
        load_workers=scenario.workers,
    )


@asynccontextmanager
async def opened(
    scenario: Scenario, folder: StateFolder, run: str, on_update: OnUpdate, *, tied: bool
) -> AsyncIterator[Target]:
    """The target, ready to be loaded; a stack that was started for it is left to the caller.

    Args:
        scenario: says which.
        folder: state folder of the stack that is started or used.
        run: name of the run's own folder.
        on_update: told of every part that starts.
        tied: whether a stack that is started ends with this process.

    Raises:
        MotorcadeError: it cannot be started, or is not there; says what to do.
    """
    options = stack_options(scenario, folder)
    if options is not None:
        options = replace(options, tied=tied)
        state = await bringup.start(options, StackSettings(), on_update)
        with _alone(folder.path):
            yield _of_stack(state, folder, run)
    elif scenario.target.stack == "running":
        state = folder.require()
        _check_clock(scenario, state)
        with _alone(folder.path):
            yield _of_stack(state, folder, run)
    else:
        async with _foreign(scenario, folder, run) as target:
            yield target


def _of_stack(state: StackState, folder: StateFolder, run: str) -> Target:
    environment = plan.environment(state, folder)
    return Target(
        keeper=folder.keeper,
        broker=plan.broker_of(state, folder),
        values={n.removeprefix("MOTORCADE_").lower(): v for n, v in environment.items()},
        scope=Scope.PIPELINE,
        topics=tuple(topic.name for topic in topics.TOPICS),
        state=state,
        data=folder.data / "runs" / run,
    )


@asynccontextmanager
async def _foreign(scenario: Scenario, folder: StateFolder, run: str) -> AsyncIterator[Target]:
    """Somebody else's broker, and perhaps Kafka; only the simulator is started."""
    wanted = scenario.target
    assert wanted.broker_url is not None
    endpoints = parse_endpoints(wanted.broker_url, wanted.ca)
    await asyncio.gather(*map(_reach, endpoints))
    broker = External(endpoints, wanted.clustered)
    own = folder.path / "load"
    own.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(own):
        keeper = Keeper(own)
        keeper.shut_down()  # what a run that crashed may have left
        keeper.start(tied=True)
        now = time.time_ns() // 1_000_000
        values: dict[str, object] = {
            "brokers": tuple(str(endpoint) for endpoint in endpoints),
            "brokers_clustered": wanted.clustered,
            "clock": str(RunClock(now, now, scenario.fleet.speedup)),
        }
        scope = Scope.CARS
        read: tuple[str, ...] = ()
        if wanted.kafka != "none":
            values["kafka"] = wanted.kafka
            values["kafka_credentials"] = wanted.kafka_credentials
            values["kafka_ca"] = wanted.kafka_ca
            values["kafka_cert"] = wanted.kafka_cert
            values["kafka_key"] = wanted.kafka_key
            scope, read = Scope.RAW, (wanted.kafka_topic,)
        try:
            yield Target(keeper, broker, values, scope, read, None, own / "runs" / run)
        finally:
            await asyncio.to_thread(keeper.shut_down)
            shutil.rmtree(own, ignore_errors=True)


async def _reach(endpoint: Endpoint) -> None:
    try:
        async with asyncio.timeout(_REACH_S):
            _, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    except (OSError, TimeoutError) as error:
        raise UnreachableError(
            f"the MQTT broker at {endpoint} does not answer: {error!r}.",
            "Check target.broker_url, and that it may be reached from here.",
        ) from error
    writer.close()


def _check_clock(scenario: Scenario, state: StackState) -> None:
    speedup = RunClock.parse(state.clock).speedup
    if speedup != scenario.fleet.speedup:
        raise SettingsError(
            f"the running stack's time runs {speedup:g} times as fast as the wall's, the scenario "
            f"asks for {scenario.fleet.speedup:g}.",
            f"Start it with `motorcade up --speedup {scenario.fleet.speedup:g}`, or take "
            f"--set fleet.speedup={speedup:g}.",
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Only one run at a time loads a target; the lock ends with the process that holds it."""
    with (folder / "load.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(
                f"a load run already uses {folder}.",
                "Wait until it has ended, or give another --state.",
            ) from None
        yield
