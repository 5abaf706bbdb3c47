"""The dispatcher: turns raised alerts into commands, and delivers commands until they have an end.

What is pending is not kept on disk: it is what `commands` holds and `commands.status` has not
ended, read from the beginning at every start.
"""

import asyncio
import contextlib
import math
import time
import uuid
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from prometheus_client import Counter, Gauge
from pydantic import Field

from motorcade.fleet import mqtt_topics
from motorcade.fleet.errors import DecodeError, UnreachableError
from motorcade.fleet.messages import (
    Alert,
    CommandRequest,
    CommandResponse,
    VehicleStatus,
    decode,
    encode,
)
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.topics import ALERTS, COMMANDS, COMMANDS_STATUS, STATUS
from motorcade.fleet.vin import is_vehicle_id
from motorcade.runtime.derive import Output, derive
from motorcade.runtime.failpoint import failpoint
from motorcade.runtime.kafka import (
    Record,
    TopicPartition,
    consumer,
    partitions_of,
    producer,
    started,
)
from motorcade.runtime.mqtt import MqttOffline, MqttSession, MqttWindowFull
from motorcade.runtime.mqtt_options import Access, access
from motorcade.runtime.service import Service, run
from motorcade.streaming.dispatch_rules import Commands, Delivery, Key, Schedule, command_for
from motorcade.streaming.malformed import Malformed

_PUBLISHED = Counter("motorcade_commands_published_total", "Commands published to cars")
_REFUSED = Counter(
    "motorcade_commands_refused_total", "Publishes that reached nobody", ["reason_code"]
)
_TIMED_OUT = Counter("motorcade_commands_timed_out_total", "Commands that expired without an end")
_PENDING = Gauge("motorcade_commands_pending", "Commands without an end")

_POLL_MS = 100
_TICK_S = 0.2
_CONNECT_S = 30.0
_MESSAGES: dict[str, type[msgspec.Struct]] = {
    COMMANDS: CommandRequest,
    COMMANDS_STATUS: CommandResponse,
    STATUS: VehicleStatus,
}

#: Wall-clock milliseconds since 1970.
Clock = Callable[[], int]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(ProcessSettings):
    """Settings of the dispatcher."""

    #: Seconds after which a car must not carry a command out any more.
    command_lifetime_s: Seconds = 300.0
    #: Seconds to wait for a car's answer before a command is sent again.
    command_answer_s: Seconds = 10.0
    #: Seconds before the first retry when a broker finds no subscriber.
    command_retry_s: Seconds = 1.0
    #: Seconds after expiry in which an answer that is under way still counts.
    command_grace_s: Annotated[float, Field(ge=0, le=3600)] = 5.0

    @property
    def schedule(self) -> Schedule:
        return Schedule(
            answer=round(self.command_answer_s * 1000),
            retry=round(self.command_retry_s * 1000),
            grace=round(self.command_grace_s * 1000),
        )


class Follower:
    """Reads commands, their states and cars' places from the beginning, and goes on reading."""

    def __init__(self, service: Service, commands: Commands, malformed: Malformed) -> None:
        self._service = service
        self._commands = commands
        self._malformed = malformed
        self._position: dict[TopicPartition, int] = {}
        self._consumer: AIOKafkaConsumer
        #: Set whenever something was read that may make a command due.
        self.news = asyncio.Event()

    async def run(self) -> None:
        """Read until the service stops."""
        settings = self._service.settings
        async with started(consumer(settings), settings) as self._consumer:
            wanted = [
                TopicPartition(topic, number)
                for topic in _MESSAGES
                for number in await partitions_of(self._consumer, topic)
            ]
            self._consumer.assign(wanted)
            begins = await self._consumer.beginning_offsets(wanted)
            for tp, begin in begins.items():
                self._consumer.seek(tp, begin)
            self._position = begins
            while not self._service.stopping.is_set():
                fetched = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=5000)
                for tp, records in fetched.items():
                    for record in records:
                        self._take(record)
                    self._position[tp] = records[-1].offset + 1
                if fetched:
                    self.news.set()
                    _PENDING.set(len(self._commands))

    async def caught_up(self) -> None:
        """Wait until everything is read that the topics hold now, or the service stops."""
        await self._until(lambda: bool(self._position))
        if self._service.stopping.is_set():
            return
        ends = await self._consumer.end_offsets(list(self._position))
        await self._until(lambda: all(self._position[tp] >= end for tp, end in ends.items()))

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done() and not self._service.stopping.is_set():
            await asyncio.sleep(_POLL_MS / 2000)

    def _take(self, record: Record) -> None:
        topic = record.topic
        try:
            message: Any = decode(_MESSAGES[topic], record.value)
        except (DecodeError, TypeError) as error:
            self._malformed(topic, error, record)
            return
        if message.vin.encode() != record.key or not is_vehicle_id(message.vin):
            self._malformed(topic, f"vin {message.vin!r} is not the key {record.key!r}", record)
        elif topic == COMMANDS:
            self._commands.requested(message)
        elif topic == COMMANDS_STATUS:
            self._commands.answered(message)
        else:
            self._commands.reported(message)


class DispatchStep:
    """The derivation `alerts` → `commands`.

    Others may write `commands` too, so beside the loop's source header it goes by the commands
    that are known: an alert never has a second one.
    """

    name = "dispatch"
    group = "dispatch"
    source = ALERTS
    outputs: tuple[str, ...] = (COMMANDS,)
    history = 0

    def __init__(
        self,
        commands: Commands,
        lifetime_ms: int,
        malformed: Malformed,
        clock: Clock,
        caught_up: Callable[[], Any],
    ) -> None:
        self._commands = commands
        self._lifetime_ms = lifetime_ms
        self._malformed = malformed
        self._clock = clock
        self._caught_up = caught_up

    async def assigned(self, partition: int) -> None:  # noqa: ARG002 - the table is one
        """Know the commands that an earlier life produced."""
        await self._caught_up()

    def revoked(self, partition: int) -> None:
        """Nothing is kept by partition."""

    def process(self, records: list[Record]) -> list[Output]:
        """A command for each raised alert that has none yet."""
        outputs = []
        now_ms = self._clock()
        for record in records:
            try:
                alert = decode(Alert, record.value)
            except (DecodeError, TypeError) as error:
                self._malformed(ALERTS, error, record)
                continue
            request = command_for(alert, now_ms, self._lifetime_ms)
            if request is not None and not self._commands.knows(Key(request.vin, request.id)):
                value = encode(request)
                outputs.append(Output(COMMANDS, record.partition, record.key, value, record.offset))
        return outputs


class Sender:
    """Publishes what is due, and closes what has expired."""

    def __init__(
        self,
        service: Service,
        commands: Commands,
        follower: Follower,
        clock: Clock,
    ) -> None:
        settings = service.settings
        self._service = service
        self._commands = commands
        self._follower = follower
        self._clock = clock
        self._clustered = settings.brokers_clustered
        #: Commands whose PUBACK is awaited, by session and packet id.
        self._awaited: dict[tuple[MqttSession, int], Key] = {}
        shared = access(settings)
        # Nothing is subscribed, so no session needs to be found again: a name of this life's own
        # keeps two dispatchers from throwing each other out.
        life = uuid.uuid4().hex[:8]
        self._sessions = [
            self._session(f"dispatch-{number}-{life}", endpoint, shared)
            for number, endpoint in enumerate(settings.brokers)
        ]

    def _session(self, client_id: str, endpoint: str, shared: Access) -> MqttSession:
        session = MqttSession(client_id, endpoint, clean_start=True, **shared)
        session.on_puback = self._on_puback
        session.on_connected = lambda *_: self._say_ready()
        session.on_disconnected = lambda *_: self._say_ready()
        return session

    def _say_ready(self) -> None:
        self._service.ready("mqtt", any(session.connected for session in self._sessions))
        self._follower.news.set()

    async def run(self, kafka: AIOKafkaProducer) -> None:
        """Deliver until the service stops."""
        self._service.ready("mqtt", False)
        self._service.ready("commands", False)
        for session in self._sessions:
            self._service.spawn(self._connect(session))
        await self._follower.caught_up()
        self._service.ready("commands", True)
        self._service.log.info("commands read", pending=len(self._commands))
        while not self._service.stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._follower.news.wait(), _TICK_S)
            self._follower.news.clear()
            for delivery in self._commands.deliveries(self._clock()):
                self._publish(delivery)
            await self._close_overdue(kafka)
        for session in self._sessions:
            await session.disconnect()

    async def _connect(self, session: MqttSession) -> None:
        """Connect, however long it takes: a node that is down must not keep the others waiting."""
        while True:
            try:
                await session.connect(_CONNECT_S, retry=True)
            except UnreachableError as error:
                self._service.log.warning("waiting for a broker", problem=error.what)
            else:
                return

    def _publish(self, delivery: Delivery) -> None:
        request = delivery.request
        key = Key(request.vin, request.id)
        session = self._session_for(delivery)
        now_ms = self._clock()
        try:
            packet_id = session.publish(
                mqtt_topics.topic(request.vin, mqtt_topics.COMMAND_REQUEST),
                encode(request),
                response_topic=mqtt_topics.topic(request.vin, mqtt_topics.COMMAND_RESPONSE),
                correlation_data=request.id.encode(),
                message_expiry_interval=max(1, math.ceil((request.expires - now_ms) / 1000)),
                content_type="application/json",
            )
        except (MqttOffline, MqttWindowFull) as error:
            _REFUSED.labels(type(error).__name__).inc()
            self._commands.refused(key, now_ms)
            return
        self._awaited[session, packet_id] = key
        _PUBLISHED.inc()
        failpoint("dispatch.after-publish")

    def _session_for(self, delivery: Delivery) -> MqttSession:
        """The session at the car's endpoint; in a cluster, or for an unknown one, each in turn."""
        if not self._clustered:
            for session in self._sessions:
                if session.endpoint == delivery.endpoint:
                    return session
        candidates = [session for session in self._sessions if session.connected]
        candidates = candidates or self._sessions
        return candidates[delivery.attempt % len(candidates)]

    def _on_puback(self, session: MqttSession, packet_id: int, reason_code: int) -> None:
        key = self._awaited.pop((session, packet_id), None)
        if key is not None and reason_code:
            _REFUSED.labels(f"0x{reason_code:02X}").inc()
            self._commands.refused(key, self._clock())

    async def _close_overdue(self, kafka: AIOKafkaProducer) -> None:
        overdue = self._commands.overdue(self._clock())
        sends = [
            await kafka.send(COMMANDS_STATUS, encode(response), key=response.vin.encode())
            for response in overdue
        ]
        await asyncio.gather(*sends)
        _TIMED_OUT.inc(len(overdue))


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


async def _body(service: Service) -> None:
    settings = service.settings
    assert isinstance(settings, Settings)
    malformed = Malformed(service.log, "dispatch")
    commands = Commands(settings.schedule)
    follower = Follower(service, commands, malformed)
    sender = Sender(service, commands, follower, _wall_clock_ms)
    lifetime_ms = round(settings.command_lifetime_s * 1000)
    step = DispatchStep(commands, lifetime_ms, malformed, _wall_clock_ms, follower.caught_up)
    service.spawn(follower.run())
    async with started(producer(settings), settings) as kafka:
        sending = service.spawn(sender.run(kafka))
        await derive(service, step)
        with contextlib.suppress(asyncio.CancelledError):
            await sending


def main(settings: Settings) -> None:
    """Run the dispatcher until it is told to stop."""
    run("dispatch", settings, _body)


if __name__ == "__main__":
    main(Settings())
