"""One car's life on MQTT: birth and will, telemetry with its acknowledgement, commands, DTCs."""

import asyncio
import logging
import time
from collections import deque
from contextlib import suppress

from motorcade.fleet import messages, mqtt_topics
from motorcade.fleet.errors import DecodeError, UnreachableError
from motorcade.runtime.mqtt import (
    NO_MATCHING_SUBSCRIBERS,
    QUOTA_EXCEEDED,
    MqttOffline,
    MqttRefused,
    MqttSession,
    MqttTooLarge,
    MqttWindowFull,
)
from motorcade.runtime.mqtt_packets import Properties
from motorcade.simulator import car_says
from motorcade.simulator import measures as states
from motorcade.simulator.car_kit import (
    CarKit,
    Outgoing,
    Telemetry,
    overtake,
    put_back,
    samples_of,
)
from motorcade.simulator.ledger import DtcRecord
from motorcade.simulator.orders import Orders

_log = logging.getLogger(__name__)

_FAILURE = 0x80
#: PUBACKs after which a message may come again: nobody has subscribed yet, quota exceeded.
_AGAIN = frozenset({NO_MATCHING_SUBSCRIBERS, QUOTA_EXCEEDED})
#: How long one round of connecting goes on before it counts as a failure and the next begins.
_CONNECT_S = 30.0
_POLL_S = 0.05
#: How long a car waits after a broker had nobody to give its message to.
_UNHEARD_S = 1.0


class CarSession:
    """A car from one start to the next: one boot, as many connections as it takes.

    Telemetry that cannot go out waits in a bounded buffer, oldest dropped first; DTCs and answers
    wait unbounded, they are few. What was on the wire when a connection broke is sent again by the
    MQTT session itself, so nothing that was sent once is given up while the car runs.

    Args:
        index: the car's place in the fleet, which decides its endpoint and its source address.
        number: of this boot in the worker's books.
    """

    __slots__ = (
        "_connection",
        "_endpoint",
        "_hold",
        "_kit",
        "_offline_since",
        "_on_wire",
        "_orders",
        "_parked",
        "_session",
        "_state",
        "_telemetry_topic",
        "_waiting",
        "boot",
        "number",
        "refusal",
        "vin",
    )

    def __init__(self, vin: str, boot: int, index: int, number: int, kit: CarKit) -> None:
        self.vin = vin
        self.boot = boot
        #: Why the broker does not want this car; empty while it does.
        self.refusal = ""
        self._kit = kit
        self.number = number
        self._endpoint = index % len(kit.endpoints)
        self._state = states.CONNECTING
        kit.tally.cars[self._endpoint][self._state] += 1
        self._parked = False
        self._orders: Orders | None = None
        self._telemetry_topic = kit.topic(vin).encode()
        self._connection = 1
        self._hold: asyncio.TimerHandle | None = None
        self._offline_since = 0.0
        self._on_wire: dict[int, Outgoing] = {}
        self._waiting: deque[Outgoing] | None = None
        self._session = session = MqttSession(
            vin,
            kit.endpoints[self._endpoint],
            clean_start=not kit.session_expiry_s,
            session_expiry_s=kit.session_expiry_s,
            keepalive_s=kit.keepalive_s,
            source_address=kit.sources[index // len(kit.endpoints) % len(kit.sources)],
            topic_alias_max=kit.aliases,
            **kit.access,
        )
        self._set_will()
        session.on_connected = self._connected
        session.on_disconnected = self._disconnected
        session.on_message = self._received
        session.on_puback = self._acknowledged

    # -- life -----------------------------------------------------------------------------------

    async def start(self, wanted_at: float | None = None) -> bool:
        """Connect, listen for commands and announce the birth; False when the broker refuses.

        Args:
            wanted_at: monotonic second in which the car was to connect; now, if it did not wait.
        """
        self._offline_since = time.monotonic() if wanted_at is None else wanted_at
        try:
            while not self._session.connected:
                try:
                    await self._session.connect(_CONNECT_S, retry=True)
                except UnreachableError:
                    self._kit.measures.counts.connect_failures += 1
            await self._listen()
        except MqttRefused as refused:
            self._refuse(str(refused))
            return False
        return self._state != states.REFUSED

    async def stop(self, drain_s: float) -> None:
        """Send and wait for what is under way for at most `drain_s`, announce it, disconnect."""
        deadline = time.monotonic() + drain_s
        while self._waiting and self._session.connected and time.monotonic() < deadline:
            self._flush()
            await asyncio.sleep(_POLL_S)
        if self._session.connected:
            with suppress(MqttOffline, MqttWindowFull):
                self._announce(online=False)
        while self._session.connected and self._session.in_flight and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_S)
        kit = self._kit
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        if self._waiting:
            unsent = kit.deliveries.unsent
            unsent[self.number] = sum(map(samples_of, self._waiting))
            kit.tally.waiting -= len(self._waiting)
            self._waiting = None
        kit.tally.in_flight -= len(self._on_wire)
        self._on_wire.clear()
        await self._session.disconnect()
        kit.tally.cars[self._endpoint][self._state] -= 1

    def park(self) -> None:
        """Broken down: connected and answering, but sending no more telemetry."""
        self._parked = True
        if self._state == states.DRIVING:
            self._become(states.PARKED)

    @property
    def parked(self) -> bool:
        """Whether the car has broken down."""
        return self._parked

    # -- what happens to the car ------------------------------------------------------------------

    def cut(self) -> None:
        """The connection is cut; the car comes back with back-off."""
        self._session.cut()

    def lose_signal(self, seconds: float) -> None:
        """A tunnel: no connection for so long; the car measures on."""
        if self._state in (states.CONNECTING, states.REFUSED):
            return
        self._become(states.OFFLINE)
        self._session.cut(seconds)

    # -- what the car says ----------------------------------------------------------------------

    def send(self, first: int, last: int, due: int, payload: bytes) -> None:
        """Send samples now, or keep them until that is possible."""
        message = Telemetry(
            self._telemetry_topic, payload, False, self._kit.properties, first, last, due
        )
        if self._waiting:
            self._keep(message)
            self._flush()
            self._drop_oldest()
        elif not self._publish(message):
            self._keep(message)
            self._drop_oldest()

    def report_failure(self, code: str, kind: str, event_ms: int, description: str) -> DtcRecord:
        """Send a diagnostic trouble code; returns its record, which learns of the PUBACK."""
        due = self._kit.now_ms()
        record = DtcRecord(self.vin, self.boot, code, kind, event_ms, due, acked=False)
        self._post(car_says.trouble(record, description))
        self._kit.measures.counts.dtcs += 1
        return record

    def _status(self, *, online: bool) -> bytes:
        return messages.encode(
            messages.VehicleStatus(
                self.vin, self.boot, self._connection, online, self._session.endpoint
            )
        )

    def _announce(self, *, online: bool) -> None:
        topic = mqtt_topics.topic(self.vin, mqtt_topics.STATUS)
        payload = self._status(online=online)
        self._session.publish(topic, payload, qos=1, retain=True, content_type=car_says.JSON)

    def _set_will(self) -> None:
        """The will speaks of the connection that it belongs to, so it is made anew for each."""
        self._session.will = car_says.will(self.vin, self._status(online=False))

    # -- sending --------------------------------------------------------------------------------

    def _publish(self, message: Outgoing) -> bool:
        """Put a message on the wire; False when it has to wait."""
        kit, session = self._kit, self._session
        if self._hold or len(self._on_wire) >= kit.in_flight or not session.connected:
            return False
        try:
            packet_id = session.send(message, kit.qos if isinstance(message, Telemetry) else 1)
        except (MqttWindowFull, MqttOffline):
            return False
        except MqttTooLarge as error:
            _log.warning("not sent: %s", error)
            self._refused(message)
            return True
        if isinstance(message, Telemetry):
            kit.deliveries.sent.noted += (self.number, message.first, message.last)
            kit.measures.counts.bytes_sent += len(message.payload)
        if packet_id:
            self._on_wire[packet_id] = message
            kit.tally.in_flight += 1
        return True

    def _post(self, message: Outgoing) -> None:
        if self._waiting or not self._publish(message):
            self._keep(message)

    def _keep(self, message: Outgoing) -> None:
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(message)
        self._kit.tally.waiting += 1

    def _flush(self) -> None:
        waiting = self._waiting
        while waiting and self._publish(waiting[0]):
            waiting.popleft()
            self._kit.tally.waiting -= 1
        if not waiting:
            self._waiting = None

    def _go_on(self) -> None:
        """The pause that the broker asked for is over, whether or not the car has more to say."""
        self._hold = None
        self._flush()

    def _drop_oldest(self) -> None:
        """Keep the buffer within its bound; only telemetry is ever dropped."""
        kit = self._kit
        while self._waiting and len(self._waiting) > kit.buffer:
            oldest = next((m for m in self._waiting if isinstance(m, Telemetry)), None)
            if oldest is None:
                return
            self._waiting.remove(oldest)
            kit.tally.waiting -= 1
            lost = samples_of(oldest)
            dropped = kit.deliveries.dropped
            dropped[self.number] = dropped.get(self.number, 0) + lost
            kit.measures.counts.dropped += lost

    def _refused(self, message: Outgoing) -> None:
        lost = samples_of(message)
        refused = self._kit.deliveries.refused
        refused[self.number] = refused.get(self.number, 0) + lost
        self._kit.measures.counts.refused += max(1, lost)

    # -- what the MQTT session calls --------------------------------------------------------------

    def _connected(self, session: MqttSession, _present: bool) -> None:
        measures = self._kit.measures
        measures.counts.connects += 1
        # In a tunnel nobody could have connected.
        since = max(self._offline_since, session.away_until)
        batch = measures.batch
        times = batch.connect_ms if self._connection == 1 else batch.reconnect_ms
        times.append((session.accepted_at - since) * 1000)
        self.refusal = ""
        if self._state != states.CONNECTING:  # the first birth waits until it can be commanded
            self._become(states.PARKED if self._parked else states.DRIVING)
            self._announce(online=True)
            self._flush()

    def _disconnected(self, _session: MqttSession, reason_code: int | None) -> None:
        self._kit.measures.counts.disconnects += 1
        self._connection += 1
        self._offline_since = time.monotonic()
        self._set_will()
        refused = reason_code is not None and reason_code >= _FAILURE
        if refused:
            self.refusal = f"the broker ended the connection with 0x{reason_code:02X}"
        if self._state == states.CONNECTING:
            return
        if refused:
            self._become(states.REFUSED)
        elif self._state != states.OFFLINE:
            self._become(states.RECONNECTING)

    def _acknowledged(self, _session: MqttSession, packet_id: int, reason_code: int) -> None:
        message = self._on_wire.pop(packet_id, None)
        if message is None:  # a birth
            return
        kit = self._kit
        kit.tally.in_flight -= 1
        if reason_code in _AGAIN and (kit.consumed or reason_code != NO_MATCHING_SUBSCRIBERS):
            kit.measures.counts.unheard += 1
            if self._waiting is None:
                self._waiting = deque()
            put_back(self._waiting, message)
            kit.tally.waiting += 1
            if self._hold is not None:
                self._hold.cancel()
            self._hold = asyncio.get_running_loop().call_later(_UNHEARD_S, self._go_on)
            return
        if reason_code >= _FAILURE:
            self._refused(message)
        elif isinstance(message, Telemetry):
            kit.deliveries.acked.noted += (self.number, message.first, message.last)
            kit.measures.batch.puback_ms.append(time.time() * 1000 - message.due)
            if self._waiting:
                kit.measures.counts.overtaken += overtake(self._waiting, message)
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
        if self._orders is None:
            self._orders = Orders(self.vin)
        try:
            self._post(car_says.answer(self._orders, payload, properties, self._kit.now_ms()))
            self._kit.measures.counts.commands += 1
        except DecodeError as error:
            _log.warning("a command on %s was not understood: %s", topic, error)
        if packet_id:
            session.acknowledge((packet_id,), session.generation)

    async def _listen(self) -> None:
        """Subscribe to the car's commands, over a lost connection if need be, and be born."""
        wanted = mqtt_topics.topic(self.vin, mqtt_topics.COMMAND_REQUEST)
        while self._state == states.CONNECTING:
            try:
                await self._session.subscribe([wanted])
                self._announce(online=True)
                self._become(states.PARKED if self._parked else states.DRIVING)
            except MqttOffline:
                if self._session.ended:
                    self._refuse(self.refusal or "the connection ended for good")
                    return
                await asyncio.sleep(_POLL_S)
        self._flush()

    def _refuse(self, reason: str) -> None:
        self.refusal = reason
        self._become(states.REFUSED)
        self._kit.measures.counts.connect_failures += 1
        _log.error("%s is not wanted: %s", self.vin, reason)

    def _become(self, state: int) -> None:
        cars = self._kit.tally.cars[self._endpoint]
        cars[self._state] -= 1
        cars[state] += 1
        self._state = state
