"""Somebody else's broker and Kafka, and runs that fail or are no judgement at all."""

import asyncio
import io
import json
import resource
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import paho.mqtt.client as paho
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from paho.mqtt.enums import CallbackAPIVersion
from rich.console import Console

from motorcade.fleet.errors import MotorcadeError
from motorcade.simulator.audit.verdict import Outcome, Scope
from motorcade.simulator.scenarios.load import load_scenario
from motorcade.stack.keeper import Keeper
from motorcade.stack.load.limit import Ending
from motorcade.stack.load.options import LoadOptions
from motorcade.stack.load.runner import Finished, LoadRun
from motorcade.stack.ports import free_ports
from motorcade.stack.state import StateFolder

from .servers import BrokerServer, alive, start_mosquitto

pytestmark = pytest.mark.timeout(300)

CARS = 20


class Run:
    """A run against a broker of somebody else's."""

    def __init__(self, name: str, folder: Path, broker: BrokerServer, *changes: str) -> None:
        self.words = io.StringIO()
        self.web_port = free_ports(1)[0]
        self.state = StateFolder(folder / "state")
        scenario = load_scenario(
            name,
            [
                "target.stack=external",
                f"target.broker_url=mqtt://{broker.host}:{broker.port}",
                "target.kafka=none",
                f"fleet.cars={CARS}",
                "ramp.per_s=100",
                "publish.interval_s=0.5",
                "thresholds.generator_lag_p99_ms=10000",
                "thresholds.due_to_puback_p99_ms=null",
                "thresholds.due_to_kafka_p99_ms=30000",
                *changes,
            ],
        )
        console = Console(file=self.words, width=200)
        self._run = LoadRun(scenario, LoadOptions(web_port=self.web_port), self.state, console)

    async def finish(self) -> Finished:
        return await self._run.run()

    async def until(self, reached: Callable[[dict[str, Any]], bool]) -> None:
        """Poll the fleet's state."""
        deadline = time.monotonic() + 120
        url = f"http://127.0.0.1:{self.web_port}/motorcade/fleet"
        async with aiohttp.ClientSession() as http:
            while True:
                assert time.monotonic() < deadline, self.words.getvalue()
                try:
                    async with http.get(url) as answer:
                        if reached(await answer.json()):
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)


def broken(finished: Finished) -> list[str]:
    return [check.name for check in finished.verdict.checks if not check.ok]


async def test_without_a_kafka_the_verdict_ends_at_the_broker_and_says_so(
    mosquitto: BrokerServer, tmp_path: Path
) -> None:
    run = Run("steady", tmp_path, mosquitto, "stages.0.seconds=3s")
    verdict = (await run.finish()).verdict
    assert verdict.outcome is Outcome.PASS, verdict.checks
    assert verdict.scope is Scope.CARS
    assert verdict.accounts.acknowledged == verdict.accounts.sent > 2 * CARS
    unjudged = {check.name: check.observed for check in verdict.checks if not check.judged}
    assert unjudged.keys() >= {"acknowledged but not in telemetry.raw", "due → Kafka p99"}
    assert set(unjudged.values()) == {"not judged: no Kafka"}
    assert "none: the audit ends at the broker" in run.words.getvalue()
    assert not (run.state.path / "load").exists()


async def test_a_threshold_that_nothing_could_meet_fails_the_run(
    mosquitto: BrokerServer, tmp_path: Path
) -> None:
    impossible = "thresholds.due_to_puback_p99_ms=0.001"
    finished = await Run("steady", tmp_path, mosquitto, "stages.0.seconds=2s", impossible).finish()
    assert finished.verdict.outcome is Outcome.FAIL
    assert broken(finished) == ["due → PUBACK p99"]


async def test_a_killed_worker_makes_the_run_invalid(
    mosquitto: BrokerServer, tmp_path: Path
) -> None:
    run = Run("steady", tmp_path, mosquitto, "stages.0.seconds=6s", "fleet.workers=2")
    running = asyncio.create_task(run.finish())
    await run.until(lambda fleet: bool(fleet["connected"] == CARS))
    keeper = Keeper(run.state.path / "load")
    pid = next(one.pid for one in keeper.statuses() if one.name == "locust-worker-1")
    keeper.kill("locust-worker-1")
    finished = await running
    assert pid is not None
    assert not alive(pid)
    assert finished.verdict.outcome is Outcome.INVALID
    assert "workers lost by the generator" in broken(finished)


@pytest.fixture
def full_broker(tmp_path: Path) -> Iterator[BrokerServer]:
    """A broker that may open so few files that it takes some thirty connections and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = start_mosquitto(tmp_path / "mosquitto")
    resource.prlimit(server.nodes[0].pid, resource.RLIMIT_NOFILE, (40, hard))
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
    yield server
    server.stop()


async def test_the_limit_of_a_broker_that_takes_few_connections_is_found(
    full_broker: BrokerServer, tmp_path: Path
) -> None:
    finished = await Run(
        "find-the-limit",
        tmp_path,
        full_broker,
        "fleet.cars=100",
        "ramp.cars=10",
        "publish.interval_s=1",
        "limit.knob=cars",
        "limit.start_per_s=10",
        "limit.factor=2",
        "limit.settle_s=1",
        "limit.hold_s=4",
        "limit.confirm_s=4",
        "limit.service_levels.due_to_puback_p99_ms=20000",
    ).finish()
    assert finished.verdict.outcome is Outcome.PASS, finished.verdict.checks
    assert finished.seeker is not None
    search, culprit = finished.seeker.search, finished.seeker.culprit
    assert search.ending is Ending.FOUND
    assert search.confirmed == 20
    assert search.broke is not None
    assert (search.broke.load, search.broke.broken[0].level) == (40, "refused_connects")
    unjudged = {check.name for check in finished.verdict.checks if not check.judged}
    assert unjudged >= {"service level due_to_kafka_p99_ms", "service level lag_s"}
    assert culprit is not None
    assert any("connects were refused" in line for line in culprit.evidence)


async def test_a_broker_that_is_not_there_is_named_before_anything_starts(
    mosquitto: BrokerServer, tmp_path: Path
) -> None:
    [port] = free_ports(1)
    nowhere = f"target.broker_url=mqtt://127.0.0.1:{port}"
    with pytest.raises(MotorcadeError, match=f"127.0.0.1:{port} does not answer"):
        await Run("steady", tmp_path, mosquitto, nowhere).finish()
    assert not (tmp_path / "state" / "load").exists()


TEMPLATE = '{"head": {"vehicle": "{vin}", "n": {seq}}, "due": {due}, "t": {coolant_temp}}'


@asynccontextmanager
async def somebodys_bridge(
    broker: BrokerServer, kafka: str, topic: str, *, loses: int
) -> AsyncIterator[None]:
    """Forwards a foreign topic to a foreign Kafka; drops every nth message if told to."""
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 3, 1)], operation_timeout=30)[topic].result(60)
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 5})
    client = paho.Client(CallbackAPIVersion.VERSION2, "bridge", protocol=paho.MQTTv5)
    count = 0

    def forward(_client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        nonlocal count
        json.loads(message.payload)
        count += 1
        if not loses or count % loses:
            producer.produce(topic, message.payload, key=message.topic.encode())

    client.on_message = forward
    client.connect(broker.host, broker.port)
    client.subscribe("plant/+/data", qos=1)
    client.loop_start()
    try:
        yield
    finally:
        client.disconnect()
        client.loop_stop()
        producer.flush(10)


@pytest.mark.parametrize("loses", [0, 10], ids=["keeps all", "loses every tenth"])
async def test_somebody_elses_payload_topic_and_kafka_are_audited(
    mosquitto: BrokerServer, kafka: str, tmp_path: Path, unique: str, loses: int
) -> None:
    template = tmp_path / "payload.json"
    template.write_text(TEMPLATE)
    run = Run(
        "steady",
        tmp_path,
        mosquitto,
        "stages.0.seconds=4s",
        f"target.kafka={kafka}",
        f"target.kafka_topic={unique}",
        "target.topic=plant/{vin}/data",
        f"target.payload_template={template}",
        "target.vin_at=$.head.vehicle",
        "target.seq_at=$.head.n",
    )
    async with somebodys_bridge(mosquitto, kafka, unique, loses=loses):
        finished = await run.finish()
    verdict = finished.verdict
    assert verdict.scope is Scope.RAW
    assert verdict.accounts.acknowledged > 4 * CARS
    assert any(len(s.kafka.latencies_ms) for s in finished.samples if s.kafka)
    if loses:
        assert verdict.outcome is Outcome.FAIL
        assert verdict.accounts.lost == pytest.approx(verdict.accounts.sent / loses, abs=1)
    else:
        assert verdict.outcome is Outcome.PASS, verdict.checks
        assert verdict.accounts.raw == verdict.accounts.sent
