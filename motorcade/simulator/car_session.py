"""One car's life on MQTT: birth and will, telemetry with its acknowledgement, commands, DTCs."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from motorcade.fleet import messages, mqtt_topics
from motorcade.fleet.errors import DecodeError, UnreachableError
from motorcade.runtime.mqtt import (
    MqttOffline,
    MqttRefused,
    MqttSession,
    MqttTooLarge,
    MqttWindowFull,
    Will,
)
from motorcade.runtime.mqtt_options import Access
from motorcade.runtime.mqtt_packets import Properties
from motorcade.simulator.ledger import Boot, DtcRecord
from motorcade.simulator.measures import Measures
from motorcade.simulator.orders import Orders

_log = logging.getLogger(__name__)

_JSON = "application/json"
_NO_MATCHING_SUBSCRIBERS = 0x10
_FAILURE = 0x80
#: How long one round of connecting goes on before it counts as a failure and the next begins.
_CONNECT_S = 30.0
_POLL_S = 0.05
#: How long a car waits after a broker had nobody to give its message to.
_UNHEARD_S = 1.0


@dataclass(frozen=True)
class CarKit:
    """What all cars of a worker share.

    Attributes:
        in_flight: unacknowledged messages of a car on the wire.
        buffer: telemetry a car keeps while it cannot send.
        access: how the broker is reached: TLS and credentials.
        now_ms: the wall clock, milliseconds since 1970.
    """

    qos: int
    in_flight: int
    buffer: int
    keepalive_s: int
    access: Access
    measures: Measures
    now_ms: Callable[[], int]


class Outgoing(NamedTuple):
    """A message on its way: telemetry has a seq above 0, a DTC its record."""

    seq: int
    due: int
    topic: str
    payload: bytes
    properties: Mapping[str, Any] = MappingProxyType({"content_type": _JSON})
    dtc: DtcRecord | None = None


class CarSession:
    """A car from one start to the next: one boot, as many connections as it takes.

    Telemetry that cannot go out waits in a bounded buffer, oldest dropped first; DTCs and answers
    wait unbounded, they are few. What was on the wire when a connection broke is sent again by the
    MQTT session itself, so nothing that was sent once is given up while the car runs.
    """

    __slots__ = (
        "_connection",
        "_hold_until",
        "_kit",
        "_on_wire",
        "_orders",
        "_session",
        "_subscribed",
        "_telemetry_topic",
        "_waiting",
        "ledger",
        "parked",
        "refusal",
    )

    def __init__(self, vin: str, boot: int, endpoint: str, kit: CarKit) -> None:
        self.ledger = Boot(vin, boot)
        #: Broken down: connected and answering, but sending no more telemetry.
        self.parked = False
        #: Why the broker does not want this car; empty while it does.
        self.refusal = ""
        self._kit = kit
        self._orders = Orders(vin)
        self._telemetry_topic = mqtt_topics.topic(vin, mqtt_topics.TELEMETRY)
        self._connection = 1
        self._hold_until = 0.0
        self._subscribed = False
        self._on_wire: dict[int, Outgoing] = {}
        self._waiting: deque[Outgoing] = deque()
        self._session = session = MqttSession(
            vin,
            endpoint,
            clean_start=True,
            keepalive_s=kit.keepalive_s,
            will=None,
            **kit.access,
        )
        self._set_will()
        session.on_connected = self._connected
        session.on_disconnected = self._disconnected
        session.on_message = self._received
        session.on_puback = self._acknowledged

    # -- life -----------------------------------------------------------------------------------

    async def start(self) -> bool:
        """Connect, listen for commands and announce the birth; False when the broker refuses."""
        measures = self._kit.measures
        began = time.monotonic()
        try:
            while not self._session.connected:
                try:
                    await self._session.connect(_CONNECT_S, retry=True)
                except UnreachableError:
                    measures.counts.connect_failures += 1
            await self._listen()
        except MqttRefused as refused:
            self._refuse(str(refused))
            return False
        measures.batch.connect_ms.append((time.monotonic() - began) * 1000)
        return True

    async def stop(self, drain_s: float) -> None:
        """Send and wait for what is under way for at most `drain_s`, announce it, disconnect."""
        deadline = time.monotonic() + drain_s
        while self._waiting and self._session.connected and time.monotonic() < deadline:
            self._flush()
            await asyncio.sleep(_POLL_S)
        if self._session.connected:
            self._announce(online=False)
        while self._session.connected and self._session.in_flight and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_S)
        self.ledger.unsent += sum(message.seq > 0 for message in self._waiting)
        self._waiting.clear()
        await self._session.disconnect()

    @property
    def state(self) -> str:
        """One word for the fleet's overview."""
        if self.refusal:
            return "refused"
        if not self._subscribed:
            return "connecting"
        if not self._session.connected:
            return "reconnecting"
        return "parked" if self.parked else "driving"

    @property
    def in_flight(self) -> int:
        """Messages on the wire without their PUBACK."""
        return len(self._on_wire)

    @property
    def waiting(self) -> int:
        """Messages in the car that could not go out yet."""
        return len(self._waiting)

    # -- what the car says ----------------------------------------------------------------------

    def send(self, seq: int, due: int, payload: bytes) -> None:
        """Send a telemetry message now, or keep it until that is possible."""
        message = Outgoing(seq, due, self._telemetry_topic, payload)
        if self._waiting:
            self._waiting.append(message)
            self._flush()
            self._drop_oldest()
        elif not self._publish(message):
            self._waiting.append(message)
            self._drop_oldest()

    def report_failure(self, code: str, kind: str, event_ms: int, description: str) -> DtcRecord:
        """Send a diagnostic trouble code; returns its record, which learns of the PUBACK."""
        vin, boot, due = self.ledger.vin, self.ledger.boot, self._kit.now_ms()
        dtc = messages.DiagnosticTroubleCode(vin, boot, code, kind, event_ms, due, description)
        record = DtcRecord(vin, boot, code, kind, event_ms, due, acked=False)
        topic = mqtt_topics.topic(vin, mqtt_topics.DTC)
        self._post(Outgoing(0, due, topic, messages.encode(dtc), dtc=record))
        self._kit.measures.counts.dtcs += 1
        return record

    def _status(self, *, online: bool) -> bytes:
        ledger = self.ledger
        return messages.encode(
            messages.VehicleStatus(
                ledger.vin, ledger.boot, self._connection, online, self._session.endpoint
            )
        )

    def _announce(self, *, online: bool) -> None:
        topic = mqtt_topics.topic(self.ledger.vin, mqtt_topics.STATUS)
        payload = self._status(online=online)
        self._session.publish(topic, payload, qos=1, retain=True, content_type=_JSON)

    def _set_will(self) -> None:
        """The will speaks of the connection that it belongs to, so it is made anew for each."""
        self._session.will = Will(
            mqtt_topics.topic(self.ledger.vin, mqtt_topics.STATUS),
            self._status(online=False),
            retain=True,
            properties={"content_type": _JSON},
        )

    # -- sending --------------------------------------------------------------------------------

    def _publish(self, message: Outgoing) -> bool:
        """Put a message on the wire; False when it has to wait."""
        kit = self._kit
        if len(self._on_wire) >= kit.in_flight or not self._session.connected:
            return False
        if self._hold_until and time.monotonic() < self._hold_until:
            return False
        self._hold_until = 0.0
        qos = kit.qos if message.seq else 1
        try:
            packet_id = self._session.publish(
                message.topic, message.payload, qos=qos, **message.properties
            )
        except (MqttWindowFull, MqttOffline):
            return False
        except MqttTooLarge as error:
            _log.warning("not sent: %s", error)
            self.ledger.refused += 1
            kit.measures.counts.refused += 1
            return True
        if message.seq:
            self.ledger.sent.add(message.seq)
            kit.measures.counts.sent += 1
        if packet_id:
            self._on_wire[packet_id] = message
        return True

    def _post(self, message: Outgoing) -> None:
        if self._waiting or not self._publish(message):
            self._waiting.append(message)

    def _flush(self) -> None:
        waiting = self._waiting
        while waiting and self._publish(waiting[0]):
            waiting.popleft()

    def _drop_oldest(self) -> None:
        """Keep the buffer within its bound; only telemetry is ever dropped."""
        while len(self._waiting) > self._kit.buffer:
            oldest = next((m for m in self._waiting if m.seq), None)
            if oldest is None:
                return
            self._waiting.remove(oldest)
            self.ledger.dropped += 1
            self._kit.measures.counts.dropped += 1

    # -- what the MQTT session calls --------------------------------------------------------------

    def _connected(self, _session: MqttSession, _present: bool) -> None:
        self._kit.measures.counts.connects += 1
        self.refusal = ""
        if self._subscribed:  # the first birth waits until the car can be commanded
            self._announce(online=True)
            self._flush()

    def _disconnected(self, _session: MqttSession, reason_code: int | None) -> None:
        self._kit.measures.counts.disconnects += 1
        self._connection += 1
        self._set_will()
        if reason_code is not None and reason_code >= _FAILURE:
            self.refusal = f"the broker ended the connection with 0x{reason_code:02X}"

    def _acknowledged(self, _session: MqttSession, packet_id: int, reason_code: int) -> None:
        message = self._on_wire.pop(packet_id, None)
        if message is None:  # a birth
            return
        counts = self._kit.measures.counts
        if reason_code == _NO_MATCHING_SUBSCRIBERS:
            counts.unheard += 1
            self._waiting.appendleft(message)
            self._hold_until = time.monotonic() + _UNHEARD_S
            return
        if reason_code >= _FAILURE:
            counts.refused += 1
            self.ledger.refused += 1
        elif message.seq:
            counts.acked += 1
            self.ledger.acked.add(message.seq)
            self._kit.measures.batch.puback_ms.append(time.time() * 1000 - message.due)
        elif message.dtc is not None:
            message.dtc.acked = True
        if self._waiting:
            self._flush()

    def _received(
        self,
        session: MqttSession,
        packet_id: int,
        topic: str,
        payload: bytes,
        properties: Properties,
    ) -> None:
        try:
            request = messages.decode(messages.CommandRequest, payload)
        except DecodeError as error:
            _log.warning("a command on %s was not understood: %s", topic, error)
        else:
            now_ms = self._kit.now_ms()
            self._kit.measures.counts.commands += 1
            answer = self._orders.answer(request, now_ms)
            extra: dict[str, Any] = {"content_type": _JSON}
            if (correlation := properties.get("correlation_data")) is not None:
                extra["correlation_data"] = correlation
            where = mqtt_topics.topic(self.ledger.vin, mqtt_topics.COMMAND_RESPONSE)
            self._post(Outgoing(0, now_ms, where, messages.encode(answer), extra))
        if packet_id:
            session.acknowledge((packet_id,), session.generation)

    async def _listen(self) -> None:
        """Subscribe to the car's commands, over a lost connection if need be, and be born."""
        wanted = mqtt_topics.topic(self.ledger.vin, mqtt_topics.COMMAND_REQUEST)
        while not self._subscribed:
            try:
                await self._session.subscribe([wanted])
                self._announce(online=True)
                self._subscribed = True
            except MqttOffline:
                await asyncio.sleep(_POLL_S)
        self._flush()

    def _refuse(self, reason: str) -> None:
        self.refusal = reason
        self._kit.measures.counts.connect_failures += 1
        _log.error("%s is not wanted: %s", self.ledger.vin, reason)
