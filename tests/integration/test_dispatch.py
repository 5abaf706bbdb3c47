"""Each alert becomes one command, and each command ends in one final state, whatever is killed."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from motorcade.fleet import mqtt_topics, topics
from motorcade.fleet.messages import (
    Alert,
    AlertAction,
    CommandRequest,
    CommandResponse,
    CommandState,
    VehicleStatus,
    decode,
    encode,
)
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.topics import partition_of
from motorcade.fleet.vin import generate_vin
from motorcade.runtime.kafka import producer, started
from motorcade.runtime.mqtt import MqttSession

from .pipeline import Process, Watermark, environment, until
from .servers import BrokerServer

#: Longer than a killed dispatcher is away on a busy machine; tests wait this long for a silent car.
LIFETIME_S = 12.0


class Car:
    """A car that answers commands; what it says reaches Kafka as the bridge would carry it."""

    def __init__(self, world: "World", vin: str, answer: CommandState | None) -> None:
        self._world = world
        self.vin = vin
        self._answer = answer
        self._boot = time.time_ns() // 1_000_000
        self._connection = 0
        self._session: MqttSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        #: Requests received, with their MQTT properties.
        self.received: list[tuple[CommandRequest, dict[str, Any]]] = []

    async def connect(self, *, subscribe: bool = True) -> None:
        """Come online; the birth is told when the subscription stands."""
        session = MqttSession(self.vin, self._world.endpoint, clean_start=True)
        session.on_message = self._on_message
        await session.connect(20)
        self._session = session
        if subscribe:
            await self.subscribe()
        await self.tell(online=True)

    async def subscribe(self) -> None:
        assert self._session is not None
        await self._session.subscribe([mqtt_topics.topic(self.vin, mqtt_topics.COMMAND_REQUEST)])

    async def tell(self, *, online: bool) -> None:
        self._connection += online
        status = VehicleStatus(self.vin, self._boot, self._connection, online, self._world.endpoint)
        await self._world.write(topics.STATUS, self.vin, status)

    async def disconnect(self) -> None:
        if self._session is not None:
            await self._session.disconnect()
            self._session = None

    def _on_message(
        self, session: MqttSession, packet_id: int, _: str, payload: bytes, properties: Any
    ) -> None:
        session.acknowledge([packet_id], session.generation)
        request = decode(CommandRequest, payload)
        self.received.append((request, properties))
        if self._answer is not None:
            response = CommandResponse(
                request.id, self.vin, self._answer, time.time_ns() // 1_000_000
            )
            first = sum(request.id == seen.id for seen, _ in self.received) == 1
            # A repeat is answered again, but not carried out again: idempotent by id.
            task = asyncio.create_task(
                self._world.write(topics.COMMANDS_STATUS, self.vin, response)
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._world.carried_out[request.id] += first


class World:
    """Cars, alerts, and what the topics hold of them since the start of the test."""

    def __init__(self, kafka: AIOKafkaProducer, mark: Watermark, endpoint: str, seed: int) -> None:
        self._kafka = kafka
        self._mark = mark
        self.endpoint = endpoint
        self._seed = seed
        self._number = 0
        self.cars: list[Car] = []
        self.alerts: dict[str, str] = {}
        self.carried_out: Counter[str] = Counter()

    def car(self, answer: CommandState | None = CommandState.SUCCEEDED) -> Car:
        made = Car(self, generate_vin(self._seed, len(self.cars)), answer)
        self.cars.append(made)
        return made

    async def write(self, topic: str, vin: str, message: msgspec.Struct) -> None:
        key = vin.encode()
        await self._kafka.send_and_wait(
            topic, encode(message), key=key, partition=partition_of(key)
        )

    async def alert(self, car: Car) -> str:
        """Raise an alert, and clear it: only the first asks for a command."""
        self._number += 1
        raised = Alert(
            id=f"alert-{self._seed}-{self._number}", vin=car.vin, kind="cooling",
            action=AlertAction.RAISED, severity="critical", advice="Stop.", evidence_partition=0,
            evidence_offset=self._number, boot=1, seq=1, time=1, due=1, score=2.0, threshold=1.0,
            model="autoencoder", version=1, signals=["coolant_temp"],
        )  # fmt: skip
        self.alerts[raised.id] = car.vin
        await self.write(topics.ALERTS, car.vin, raised)
        cleared = msgspec.structs.replace(raised, action=AlertAction.CLEARED)
        await self.write(topics.ALERTS, car.vin, cleared)
        return raised.id

    async def commands(self) -> dict[str, CommandRequest]:
        """Commands of this test's alerts, by alert; fails where one has two."""
        found: dict[str, CommandRequest] = {}
        for record in await self._mark.since(topics.COMMANDS):
            request = decode(CommandRequest, record.value)
            alert = request.parameters.get("alert", "")
            if alert in self.alerts:
                assert alert not in found, "an alert has one command"
                found[alert] = request
        return found

    async def responses(self) -> dict[str, list[CommandResponse]]:
        """What `commands.status` says of each command, in order."""
        found: dict[str, list[CommandResponse]] = {}
        for record in await self._mark.since(topics.COMMANDS_STATUS):
            response = decode(CommandResponse, record.value)
            found.setdefault(response.id, []).append(response)
        return found

    async def ended(self, timeout_s: float = 60) -> dict[str, str]:
        """The final state of each alert's command, once all have one; fails where one has two."""
        deadline = time.monotonic() + timeout_s
        while True:
            commands, responses = await self.commands(), await self.responses()
            states = {
                alert: {r.status for r in responses.get(request.id, ()) if r.status.final}
                for alert, request in commands.items()
            }
            if states.keys() == self.alerts.keys() and all(states.values()):
                assert all(len(found) == 1 for found in states.values()), states
                return {alert: found.pop().value for alert, found in states.items()}
            missing = [alert for alert in self.alerts if not states.get(alert)]
            assert time.monotonic() < deadline, f"without an end: {missing}"
            await asyncio.sleep(0.2)


@pytest.fixture
async def world(kafka_topics: str, mosquitto: BrokerServer, unique: str) -> AsyncIterator[World]:
    settings = ProcessSettings(kafka=kafka_topics)
    mark = Watermark(kafka_topics)
    await mark.take(topics.COMMANDS, topics.COMMANDS_STATUS)
    async with started(producer(settings), settings) as kafka:
        made = World(kafka, mark, mosquitto.endpoints[0], seed=int(unique, 16) % 500)
        yield made
        for car in made.cars:
            await car.disconnect()


@pytest.fixture
def dispatch(kafka_topics: str, mosquitto: BrokerServer, tmp_path: Path) -> Iterator[Process]:
    variables = environment(kafka_topics, mosquitto.endpoints) | {
        "MOTORCADE_COMMAND_LIFETIME_S": str(LIFETIME_S),
        "MOTORCADE_COMMAND_ANSWER_S": "2",
        "MOTORCADE_COMMAND_GRACE_S": "2",
    }
    process = Process("dispatch", variables, tmp_path)
    yield process
    if process.running:
        process.kill()


async def test_a_raised_alert_reaches_the_driver_and_the_answer_ends_it(
    world: World, dispatch: Process
) -> None:
    car = world.car()
    await car.connect()
    await dispatch.started()
    alert = await world.alert(car)
    assert await world.ended() == {alert: "SUCCEEDED"}
    ((request, properties),) = car.received
    assert request.name == "driver_warning"
    assert request.parameters["advice"] == "Stop."
    topic = mqtt_topics.topic(car.vin, mqtt_topics.COMMAND_RESPONSE)
    assert properties["response_topic"] == topic
    assert properties["correlation_data"] == request.id.encode()
    assert properties["content_type"] == "application/json"
    assert 0 < properties["message_expiry_interval"] <= LIFETIME_S


async def test_each_way_to_end_is_told(world: World, dispatch: Process) -> None:
    """Done, refused, silent, never seen, online later, and online before it has subscribed."""
    await dispatch.started()
    done, rejecting = world.car(), world.car(CommandState.REJECTED)
    silent, absent = world.car(None), world.car()
    later, hasty = world.car(), world.car()
    for car in (done, rejecting, silent):
        await car.connect()
    await hasty.connect(subscribe=False)
    expected = {
        await world.alert(done): "SUCCEEDED",
        await world.alert(rejecting): "REJECTED",
        await world.alert(silent): "TIMED_OUT",
        await world.alert(absent): "TIMED_OUT",
        await world.alert(later): "SUCCEEDED",
        await world.alert(hasty): "SUCCEEDED",
    }
    await until(
        lambda: dispatch.metric("motorcade_commands_refused_total") > 0,
        what="the broker says that nobody listens",
    )
    await hasty.subscribe()
    await later.connect()
    assert await world.ended() == expected
    assert len(silent.received) > 1, "without an answer it was sent again"
    assert dispatch.metric("motorcade_commands_pending") == 0
    assert set(world.carried_out.values()) == {1}


@pytest.mark.parametrize("failpoint", ["dispatch.after-produce:2", "dispatch.after-publish:3"])
async def test_killed_around_produce_or_publish_no_command_comes_twice_or_is_forgotten(
    world: World, dispatch: Process, failpoint: str
) -> None:
    cars = [world.car() for _ in range(4)]
    for car in cars:
        await car.connect()
    await dispatch.started(failpoint)
    raising = asyncio.create_task(_raise(world, cars, 40))
    await until(lambda: not dispatch.running, what="the failpoint's kill")
    assert dispatch.popen is not None
    assert dispatch.popen.returncode == -9
    await dispatch.started()
    await raising
    assert set((await world.ended()).values()) == {"SUCCEEDED"}
    assert set(world.carried_out.values()) == {1}
    assert len(world.carried_out) == 40


@pytest.mark.chaos
async def test_killed_at_seeded_moments_every_command_ends_in_exactly_one_final_state(
    world: World, dispatch: Process, moments: int
) -> None:
    dice = random.Random(31)
    cars = [world.car() for _ in range(6)] + [world.car(CommandState.REJECTED), world.car(None)]
    for car in cars:
        await car.connect()
    await dispatch.started()
    for _ in range(moments):
        raising = asyncio.create_task(_raise(world, cars, 24))
        await asyncio.sleep(dice.uniform(0.05, 1.2))
        dispatch.kill()
        await dispatch.started()
        await raising
    ends = await world.ended()
    assert len(ends) == 24 * moments
    for alert, state in ends.items():
        position = [car.vin for car in cars].index(world.alerts[alert])
        assert state == (["SUCCEEDED"] * 6 + ["REJECTED", "TIMED_OUT"])[position]
    assert set(world.carried_out.values()) == {1}


async def test_expired_while_the_dispatcher_was_away_it_times_out_once(
    world: World, dispatch: Process
) -> None:
    car = world.car()
    await car.connect()
    now = time.time_ns() // 1_000_000
    old = CommandRequest(f"old-{now}", car.vin, "driver_warning", now - 2000, now - 1000)
    await world.write(topics.COMMANDS, car.vin, old)
    for _ in range(2):
        await dispatch.started()
        deadline = time.monotonic() + 30
        while not (ends := (await world.responses()).get(old.id)):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        assert await asyncio.to_thread(dispatch.stop) == 0
    assert ends is not None
    assert [end.status for end in ends] == [CommandState.TIMED_OUT]
    assert car.received == []


async def _raise(world: World, cars: list[Car], count: int) -> None:
    for number in range(count):
        await world.alert(cars[number % len(cars)])
        await asyncio.sleep(0.03)
