"""MQTT to Kafka: every message the brokers deliver is in Kafka before it is acknowledged.

A fixed number of slots, each a persistent MQTT session of its own, divide endpoints and shards.
A slow Kafka fills the broker's queue; a failed batch ends the process, and the broker delivers
again what was not acknowledged.
"""

import asyncio
import time
from functools import partial
from typing import Annotated, Any, Self

from aiokafka import AIOKafkaProducer
from prometheus_client import Counter, Gauge
from pydantic import Field, model_validator

from motorcade.fleet import topics
from motorcade.fleet.errors import MotorcadeError, SettingsError
from motorcade.fleet.mqtt_topics import Slot, slots
from motorcade.fleet.settings import ProcessSettings
from motorcade.runtime.kafka import producer, started
from motorcade.runtime.mqtt import MqttSession, Properties
from motorcade.runtime.mqtt_options import access
from motorcade.runtime.service import Service, run
from motorcade.streaming.lane import Held, Lane, Receipts
from motorcade.streaming.routes import TOPIC_OF_KIND, Headers, route

_STRAY = Counter(
    "motorcade_bridge_stray_total", "Messages on a topic that is not the canonical one of a car"
)
_SUBSCRIBED = Gauge("motorcade_bridge_slots_subscribed", "Slots with their subscriptions in place")
_PAUSES = Counter("motorcade_bridge_pauses_total", "Times reading paused because Kafka lagged")

_CONNECT_TIMEOUT_S = 30.0
_DRAIN_TIMEOUT_S = 30.0
_KAFKA_STALL_S = 5.0
#: Linger in seconds for each message per second: a batch costs as much as tens of messages, on both
#: sides of it, so where many come they wait for company.
_LINGER_PER_RATE = 2e-5
_MOST_LINGER_S = 0.1
#: Topic names to remember; four kinds of 100,000 cars. Beyond, the memory begins anew.
_ROUTES = 400_000


class Settings(ProcessSettings):
    """Settings of the bridge."""

    #: Sessions in all; 0 means two for each endpoint. The same for every worker.
    bridge_slots: Annotated[int, Field(ge=0)] = 0
    #: This worker's ordinal, from 0; it takes every slot n with n mod workers = ordinal.
    bridge_worker: Annotated[int, Field(ge=0)] = 0
    bridge_workers: Annotated[int, Field(ge=1)] = 1
    #: How long a batch waits for more messages, where few come; 100 ms from 5,000 a second on.
    bridge_linger_ms: Annotated[int, Field(ge=0, le=1000)] = 20
    #: Messages that the broker may send ahead of our acknowledgements, for each slot.
    bridge_receive_maximum: Annotated[int, Field(ge=1, le=65535)] = 1000
    #: Size of a batch, before compression.
    bridge_batch_bytes: Annotated[int, Field(ge=1024, le=1 << 20)] = 1 << 18
    #: Payload bytes held at most before reading pauses.
    bridge_held_bytes: Annotated[int, Field(ge=1 << 20)] = 64 << 20
    #: How long the broker keeps a slot's session and queue while its worker is away.
    bridge_session_expiry_s: Annotated[int, Field(ge=1)] = 24 * 3600

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.bridge_worker >= self.bridge_workers:
            raise SettingsError(
                f"bridge_worker={self.bridge_worker} is not below "
                f"bridge_workers={self.bridge_workers}.",
                "Ordinals count from 0.",
            )
        self.my_slots()
        return self

    def my_slots(self) -> list[Slot]:
        """The slots this worker serves.

        Raises:
            SettingsError: the slots cannot be divided over the endpoints.
        """
        count = self.bridge_slots or 2 * len(self.brokers)
        every = slots(count, len(self.brokers), clustered=self.brokers_clustered)
        return every[self.bridge_worker :: self.bridge_workers]


class Bridge:
    """All slots of one worker, and the lanes to Kafka."""

    def __init__(self, service: Service, settings: Settings, producer: AIOKafkaProducer) -> None:
        self._service = service
        self._settings = settings
        self._access = access(settings)
        self._producer = producer
        self._held = Held(
            settings.bridge_held_bytes,
            2 * settings.bridge_receive_maximum * len(settings.my_slots()),
            self._pause,
        )
        self._lanes: dict[str, list[Lane]] = {}
        self._routes: dict[str, tuple[Lane, bytes, Headers]] = {}
        self._opened: list[Lane] = []
        self._timer: asyncio.TimerHandle
        #: When the last batches were begun, and messages since then.
        self._ticked = time.monotonic()
        self._since_tick = 0
        #: With half of what brokers may send ahead, Kafka works while the other half arrives.
        self._most_waiting = max(1, settings.bridge_receive_maximum * len(settings.my_slots()) // 2)
        self._receipts: dict[MqttSession, Receipts] = {}
        self._sessions: list[MqttSession] = []
        self._draining = False
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Bridge until the service stops; then acknowledge what is held.

        Raises:
            MotorcadeError: Kafka refused a batch or a session was lost for good.
        """
        await self._open_lanes()
        self._service.ready("kafka", True)
        try:
            async with asyncio.TaskGroup() as group:
                for slot in self._settings.my_slots():
                    group.create_task(self._open_slot(slot))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        self._service.spawn(self._watch())
        stop = asyncio.create_task(self._service.stopping.wait())
        waits: set[asyncio.Future[Any]] = {stop, self._failure}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not self._failure.done():
            await self._drain()
        if self._failure.done():
            self._failure.result()

    async def _open_lanes(self) -> None:
        for topic in TOPIC_OF_KIND.values():
            found = await self._producer.partitions_for(topic)
            if not found:
                raise MotorcadeError(f"Kafka has no topic {topic!r}.", "Create the topics first.")
            self._lanes[topic] = [
                Lane(self._producer, topic, n, self._held, self._opens, self._fail)
                for n in range(len(found))
            ]

    async def _open_slot(self, slot: Slot) -> None:
        settings = self._settings
        session = MqttSession(
            slot.client_id,
            settings.brokers[slot.endpoint],
            clean_start=False,
            session_expiry_s=settings.bridge_session_expiry_s,
            receive_maximum=settings.bridge_receive_maximum,
            **self._access,
        )
        part = f"slot {slot.number} at {session.endpoint}"
        self._service.ready(part, False)
        session.on_message = self._receive
        session.on_disconnected = partial(self._lost, part)
        self._sessions.append(session)
        await session.connect(_CONNECT_TIMEOUT_S, retry=True)
        await session.subscribe(slot.filters(), qos=1)
        session.on_connected = partial(self._back, part)
        self._up(part, True)

    # -- the way of a message ---------------------------------------------------------------------

    def _receive(
        self, session: MqttSession, packet_id: int, topic: str, payload: bytes, _: Properties
    ) -> None:
        try:
            receipts = self._receipts.get(session)
            if receipts is None or not receipts.current:
                receipts = self._receipts[session] = Receipts(session)
            if packet_id:
                receipts.received(packet_id)
            lane, key, headers = self._routes.get(topic) or self._find_route(topic)
            if headers:
                _STRAY.inc()
            lane.add(receipts, packet_id, key, payload, headers)
            self._since_tick += 1
            if self._since_tick >= self._most_waiting and self._opened:
                self._tick()
        except Exception as error:
            self._fail(error)  # a message that is not on its way must never look bridged
            raise

    def _find_route(self, name: str) -> tuple[Lane, bytes, Headers]:
        if len(self._routes) >= _ROUTES:
            self._routes.clear()
        topic, key, headers = route(name)
        lanes = self._lanes[topic]
        found = (lanes[topics.partition_of(key, len(lanes))], key, headers)
        self._routes[name] = found
        return found

    def _opens(self, lane: Lane) -> None:
        if not self._opened:
            self._timer = asyncio.get_running_loop().call_later(self._linger_s(), self._tick)
        self._opened.append(lane)

    def _linger_s(self) -> float:
        """The linger of the batches that begin now, by how fast messages came of late."""
        now = time.monotonic()
        rate = self._since_tick / max(now - self._ticked, 1e-3)
        self._ticked, self._since_tick = now, 0
        least = self._settings.bridge_linger_ms / 1000
        return max(least, min(_MOST_LINGER_S, rate * _LINGER_PER_RATE))

    def _tick(self) -> None:
        self._timer.cancel()
        opened, self._opened = self._opened, []
        for lane in opened:
            lane.flush()

    def _pause(self, paused: bool) -> None:
        if self._draining:
            return  # nothing is read again
        if paused:
            _PAUSES.inc()
        for session in self._sessions:
            session.pause() if paused else session.resume()

    # -- what goes wrong, and the end -------------------------------------------------------------

    def _fail(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)

    def _lost(self, part: str, session: MqttSession, reason_code: int | None) -> None:
        self._up(part, False)
        self._service.log.warning("lost", part=part, reason_code=reason_code)
        if session.ended:
            self._fail(
                MotorcadeError(
                    f"{part} is lost for good: the broker closed it with reason code "
                    f"0x{reason_code or 0:02X}.",
                    "Check that no other worker has the same ordinal, and the credentials.",
                )
            )

    def _back(self, part: str, _: MqttSession, session_present: bool) -> None:
        self._up(part, True)
        self._service.log.info("back", part=part, session_present=session_present)

    def _up(self, part: str, up: bool) -> None:
        self._service.ready(part, up)
        _SUBSCRIBED.set(sum(session.connected for session in self._sessions))

    async def _watch(self) -> None:
        """Not ready while Kafka keeps a batch waiting."""
        while True:
            await asyncio.sleep(1)
            late = time.monotonic() - _KAFKA_STALL_S
            stalled = any(0 < lane.waiting_since < late for lane in self._every_lane())
            self._service.ready("kafka", not stalled)

    async def _drain(self) -> None:
        """Read no more, hand everything to Kafka, acknowledge it, and leave the sessions behind."""
        self._draining = True
        for session in self._sessions:
            session.pause()
        try:
            async with asyncio.timeout(_DRAIN_TIMEOUT_S):
                await asyncio.gather(*(lane.drained() for lane in self._every_lane()))
        except TimeoutError:
            self._service.log.warning("undelivered", messages=self._held.messages)
        await asyncio.gather(*(session.disconnect() for session in self._sessions))

    def _every_lane(self) -> list[Lane]:
        return [lane for lanes in self._lanes.values() for lane in lanes]


async def bridge(service: Service, settings: Settings) -> None:
    """The body of the process."""
    service.ready("kafka", False)
    async with started(producer(settings, settings.bridge_batch_bytes), settings) as kafka:
        await Bridge(service, settings, kafka).run()


def main(settings: Settings) -> None:
    """Run the bridge until it is told to stop."""
    run("bridge", settings, lambda service: bridge(service, settings))
