"""One MQTT 5 session over gmqtt's transport: connects, subscribes, publishes, acknowledges by hand.

gmqtt 0.8 gives framing, keepalive and packet building; its client and handler are not used. They
leak packet ids at a disconnect, hide the reason code of a PUBACK, acknowledge before the message
is safe, wait for CONNACK without bound, do not restore subscriptions, reconnect in step after a
fixed delay, swallow what a callback raises, and cannot bind a source address.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gmqtt
from gmqtt.mqtt.constants import MQTTCommands
from gmqtt.mqtt.package import Package
from gmqtt.subscription import Subscription

from motorcade.fleet.errors import UnreachableError
from motorcade.runtime import mqtt_packets as packets
from motorcade.runtime.mqtt_connection import Connection, Protocol
from motorcade.runtime.mqtt_errors import MqttOffline, MqttRefused, MqttTooLarge, MqttWindowFull
from motorcade.runtime.mqtt_options import Credentials, Will
from motorcade.runtime.mqtt_outbox import MAX_PACKET_ID, Outbox
from motorcade.runtime.mqtt_packets import Properties

_BACKOFF_BASE_S = 0.5
_BACKOFF_CAP_S = 30.0
_CONNACK_TIMEOUT_S = 10.0
_FAILURE = 0x80

NO_MATCHING_SUBSCRIBERS = 0x10
SESSION_TAKEN_OVER = 0x8E
PACKET_TOO_LARGE = 0x95
#: Refusals that time may heal: server unavailable, busy, quota exceeded, connection rate exceeded.
_TRANSIENT = frozenset({0x88, 0x89, 0x97, 0x9F})
#: Disconnects after which coming back would do harm or be refused again: not authorised, session
#: taken over, topic filter or packet too large, use another server, server moved.
_FINAL = frozenset({0x87, SESSION_TAKEN_OVER, PACKET_TOO_LARGE, 0x9C, 0x9D})

__all__ = [
    "Credentials",
    "MqttOffline",
    "MqttRefused",
    "MqttSession",
    "MqttTooLarge",
    "MqttWindowFull",
    "Properties",
    "Will",
]

logging.getLogger("gmqtt").setLevel(logging.ERROR)  # it warns of every lost connection


def _ignore(*_: object) -> None:
    """The callback of who does not listen."""


class MqttSession:
    """One client's session at one broker endpoint.

    Callbacks run on the loop and must not block; what one raises ends the connection and goes to
    the loop's exception handler. Messages that wait for their PUBACK when a connection is lost are
    sent again on the next, in order and under the same packet ids, before `on_connected`.

    Args:
        endpoint: "host:port".
        session_expiry_s: how long the broker keeps the session after the connection.
        receive_maximum: QoS 1 messages that the broker may send ahead of our PUBACKs.
        local_address: source address to bind, when one address has too few ports.
        reconnect: come back after a lost connection, with exponential back-off and full jitter;
            never when the session was taken over or the broker refuses for good.
    """

    __slots__ = (
        "__weakref__",
        "_attempts",
        "_clean_start",
        "_closing",
        "_connack",
        "_connected_at",
        "_connection",
        "_credentials",
        "_filters",
        "_host",
        "_keepalive_s",
        "_local_address",
        "_outbox",
        "_paused",
        "_port",
        "_receive_maximum",
        "_reconnect",
        "_reconnecting",
        "_session_expiry_s",
        "_subacks",
        "_will",
        "client_id",
        "connected",
        "ended",
        "endpoint",
        "generation",
        "maximum_packet_size",
        "on_connected",
        "on_disconnected",
        "on_message",
        "on_puback",
    )

    def __init__(
        self,
        client_id: str,
        endpoint: str,
        *,
        clean_start: bool,
        session_expiry_s: int = 0,
        receive_maximum: int = 1000,
        keepalive_s: int = 60,
        will: Will | None = None,
        credentials: Credentials | None = None,
        local_address: str | None = None,
        reconnect: bool = True,
    ) -> None:
        self.client_id = client_id
        self.endpoint = endpoint
        host, _, port = endpoint.rpartition(":")
        self._host, self._port = host, int(port)
        self._clean_start = clean_start
        self._session_expiry_s = session_expiry_s
        self._receive_maximum = receive_maximum
        # Cars that started together must not ping together.
        self._keepalive_s = max(1, round(keepalive_s * random.uniform(0.9, 1.1)))
        self._will = will
        self._credentials = credentials
        self._local_address = local_address
        self._reconnect = reconnect

        #: (session, packet id or 0 at QoS 0, topic, payload, properties); nothing is acknowledged.
        self.on_message: Callable[[MqttSession, int, str, bytes, Properties], None] = _ignore
        #: (session, whether the broker still had the session), subscriptions being in place.
        self.on_connected: Callable[[MqttSession, bool], None] = _ignore
        #: (session, reason code of the broker's DISCONNECT or refusal; None for a lost socket).
        self.on_disconnected: Callable[[MqttSession, int | None], None] = _ignore
        #: (session, packet id, reason code) of a QoS 1 message that we published.
        self.on_puback: Callable[[MqttSession, int, int], None] = _ignore

        self.connected = False
        #: Lost for good: it does not come back by itself.
        self.ended = False
        #: Rises with each connection: packet ids received belong to one generation.
        self.generation = 0

        self._outbox = Outbox()
        self._paused = False
        self._connection: Connection | None = None
        self._connack: asyncio.Future[packets.Connack] | None = None
        self._subacks: dict[int, asyncio.Future[tuple[int, ...]]] = {}
        self._filters: dict[str, int] = {}
        #: Largest packet that the broker takes, in bytes; 0 before CONNACK or without a limit.
        self.maximum_packet_size = 0
        self._reconnecting: asyncio.Task[None] | None = None
        self._attempts = 0
        self._connected_at = 0.0
        self._closing = False

    # -- what callers do ------------------------------------------------------------------------

    async def connect(self, timeout_s: float, *, retry: bool = False) -> None:
        """Connect once, or with `retry` until it succeeds, waiting between attempts.

        Raises:
            MqttRefused: the broker refused; with `retry` only for a reason that stays.
            UnreachableError: there was no connection within `timeout_s`.
        """
        self._closing = self.ended = False
        try:
            async with asyncio.timeout(timeout_s):
                attempt = 0
                while True:
                    try:
                        await self._open()
                        return
                    except (OSError, TimeoutError, MqttOffline) as error:
                        if not retry:
                            raise self._unreachable(str(error)) from error
                    except MqttRefused as refusal:
                        if not retry or refusal.reason_code not in _TRANSIENT:
                            raise
                    await asyncio.sleep(_backoff_s(attempt))
                    attempt += 1
        except TimeoutError as error:
            raise self._unreachable(f"no answer within {timeout_s:g} s") from error

    async def subscribe(self, filters: list[str], qos: int = 1) -> None:
        """Subscribe and wait for the SUBACK; retained messages come with a new subscription only.

        The subscriptions are repeated by themselves on a connection without the session.

        Raises:
            MqttRefused: the broker refused a filter.
            MqttOffline: there is no connection, or it was lost before the SUBACK.
        """
        if self._connection is None:
            raise self._offline("subscribe")
        wanted = [Subscription(name, qos=qos, retain_handling_options=1) for name in filters]
        packet_id = self._connection.subscribe(wanted)
        answer = asyncio.get_running_loop().create_future()
        self._subacks[packet_id] = answer
        try:
            codes = await answer
        finally:
            self._subacks.pop(packet_id, None)
            self._outbox.free(packet_id)
        for name, code in zip(filters, codes, strict=True):
            if code >= _FAILURE:
                raise MqttRefused(f"the subscription {name}", code, self.endpoint)
        self._filters.update(dict.fromkeys(filters, qos))

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, **properties: Any
    ) -> int:
        """Send a message; returns its packet id, 0 at QoS 0. `on_puback` tells what became of it.

        Raises:
            MqttOffline: there is no connection.
            MqttWindowFull: the broker's receive-maximum is reached.
            MqttTooLarge: the packet exceeds the broker's maximum.
        """
        if not self.connected or self._connection is None:
            raise self._offline("publish")
        if qos and self._outbox.full:
            raise MqttWindowFull(
                f"{self.client_id}: {len(self._outbox)} messages wait for their PUBACK, "
                f"as many as {self.endpoint} allows."
            )
        packet_id = self._outbox.next_id() if qos else 0
        packet = packets.publish(topic, payload, packet_id, retain=retain, properties=properties)
        if 0 < self.maximum_packet_size < len(packet):
            self._outbox.free(packet_id)
            raise MqttTooLarge(
                f"{self.client_id}: a packet of {len(packet)} bytes on {topic} exceeds the "
                f"maximum of {self.maximum_packet_size} bytes that {self.endpoint} takes."
            )
        if packet_id:
            self._outbox.add(packet_id, packet)
        self._connection.write(packet)
        return packet_id

    def acknowledge(self, packet_ids: Sequence[int], generation: int) -> None:
        """Send PUBACKs in one write; nothing when the connection they belong to is gone."""
        if generation == self.generation and self._connection is not None and packet_ids:
            self._connection.write(packets.pubacks(packet_ids))

    def pause(self) -> None:
        """Read nothing from the broker until `resume`; TCP then holds it back.

        receive-maximum alone does not bound what waits here: mosquitto 2.0.11 answers every PUBACK
        with as many queued messages as the whole window.
        """
        self._paused = True
        if self.connected and self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read again."""
        self._paused = False
        if self._connection is not None:
            self._connection.resume()

    async def disconnect(self, *, reason_code: int = 0) -> None:
        """End the connection in order; unacknowledged messages are forgotten."""
        self._end()
        connection, self._connection = self._connection, None
        if connection is not None:
            self.connected = False
            connection.send_disconnect(reason_code)
            await connection.close()

    async def drop(self) -> None:
        """Cut the socket without a DISCONNECT, so that the will is published."""
        self._end()
        connection, self._connection = self._connection, None
        if connection is not None:
            self.connected = False
            connection.abort()

    @property
    def will(self) -> Will | None:
        """The will of the next connection; the present one keeps its own."""
        return self._will

    @will.setter
    def will(self, will: Will | None) -> None:
        self._will = will

    @property
    def in_flight(self) -> int:
        """Published messages that wait for their PUBACK."""
        return len(self._outbox)

    # -- connections ----------------------------------------------------------------------------

    async def _open(self) -> None:
        """One attempt, bounded: socket, CONNECT, CONNACK, subscriptions and messages restored."""
        loop = asyncio.get_running_loop()
        self._connack = loop.create_future()
        async with asyncio.timeout(_CONNACK_TIMEOUT_S):
            transport, protocol = await loop.create_connection(
                partial(Protocol, self._outbox),
                self._host,
                self._port,
                local_addr=(self._local_address, 0) if self._local_address else None,
            )
            # gmqtt points the handler, which is this session, at the new connection.
            connection = Connection(transport, protocol, self._clean_start, self._keepalive_s, self)
            try:
                await self._handshake(connection)
            except BaseException:
                connection.abort()
                if self._connection is connection:
                    self._connection = None
                    self.connected = False
                raise

    async def _handshake(self, connection: Connection) -> None:
        assert self._connack is not None
        will = self._will and gmqtt.Message(
            self._will.topic,
            self._will.payload,
            qos=self._will.qos,
            retain=self._will.retain,
            **self._will.properties,
        )
        username, password = self._credentials or (None, None)
        await connection.auth(
            self.client_id,
            username and username.encode(),
            password and password.encode(),
            will_message=will,
            session_expiry_interval=self._session_expiry_s,
            receive_maximum=self._receive_maximum,
        )
        answer = await self._connack
        if answer.reason_code:
            raise MqttRefused(f"the client {self.client_id}", answer.reason_code, self.endpoint)
        self._outbox.window = answer.properties.get("receive_maximum", MAX_PACKET_ID)
        self.maximum_packet_size = answer.properties.get("maximum_packet_size", 0)
        if keepalive_s := answer.properties.get("server_keep_alive"):
            connection.keepalive = keepalive_s
        if self._filters and not answer.session_present:
            for qos in set(self._filters.values()):
                await self.subscribe([f for f, q in self._filters.items() if q == qos], qos)
        self.connected = True
        self._connected_at = time.monotonic()
        self._outbox.send_again(connection.write, duplicate=answer.session_present)
        if self._paused:
            connection.pause()
        self.on_connected(self, answer.session_present)

    def _lost(self, reason_code: int | None) -> None:
        """The connection is over, by the broker's DISCONNECT or because the socket closed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        was_connected, self.connected = self.connected, False
        if self._connack is not None and not self._connack.done():
            self._connack.set_exception(ConnectionResetError("closed before CONNACK"))
        for answer in self._subacks.values():
            if not answer.done():
                answer.set_exception(self._offline("subscribe"))
        if not was_connected:
            return
        if self._reconnect and not self._closing and reason_code not in _FINAL:
            self._reconnecting = asyncio.get_running_loop().create_task(self._come_back())
        else:
            self.ended = True
        self.on_disconnected(self, reason_code)

    async def _come_back(self) -> None:
        # Two clients of one id take the session from each other, and not every broker says so
        # (mosquitto 2.0.11 closes without 0x8E): a short life does not end the back-off.
        if time.monotonic() - self._connected_at > _BACKOFF_CAP_S:
            self._attempts = 0
        while True:
            await asyncio.sleep(_backoff_s(self._attempts))
            self._attempts += 1
            try:
                await self._open()
                return
            except (OSError, TimeoutError, MqttOffline):
                continue
            except MqttRefused as refusal:
                if refusal.reason_code not in _TRANSIENT:
                    self.ended = True
                    self.on_disconnected(self, refusal.reason_code)
                    return

    def _end(self) -> None:
        self._closing = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            self._reconnecting = None
        self._outbox.clear()

    # -- what gmqtt calls: the session is its packet handler --------------------------------------

    @property
    def current_connection(self) -> Connection | None:
        """gmqtt drops the packets of every other connection."""
        return self._connection

    def set_connection(self, connection: Connection) -> None:
        """gmqtt announces a new connection."""
        self._connection = connection

    def __call__(self, package: Package) -> None:
        """One packet has arrived."""
        try:
            self._handle(package.cmd, package.data)
        except Exception as error:  # noqa: BLE001 - gmqtt's read loop would die in silence
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"{self.client_id}: a received packet failed", "exception": error}
            )
            self._lost(None)

    def _handle(self, first_byte: int, body: bytes) -> None:
        kind = first_byte & 0xF0
        if kind == MQTTCommands.PUBLISH:
            message = packets.parse_publish(first_byte, body)
            self.on_message(self, *message)
        elif kind == MQTTCommands.PUBACK:
            packet_id, reason_code = packets.parse_puback(body)
            assert self._connection is not None
            if self._outbox.acknowledged(packet_id, self._connection.write):
                self.on_puback(self, packet_id, reason_code)
        elif kind == MQTTCommands.CONNACK:
            if self._connack is not None and not self._connack.done():
                # Now, not when the waiter wakes: messages may follow in the same segment.
                self.generation += 1
                self._connack.set_result(packets.parse_connack(body))
        elif kind == MQTTCommands.SUBACK:
            suback = packets.parse_suback(body)
            if (answer := self._subacks.get(suback.packet_id)) is not None and not answer.done():
                answer.set_result(suback.reason_codes)
        elif kind == MQTTCommands.DISCONNECT:
            # gmqtt reports a closed socket as a DISCONNECT without a body.
            self._lost(body[0] if body else None)

    def _offline(self, action: str) -> MqttOffline:
        return MqttOffline(f"{self.client_id} cannot {action}: no connection to {self.endpoint}.")

    def _unreachable(self, why: str) -> UnreachableError:
        return UnreachableError(
            f"The MQTT broker {self.endpoint} cannot be reached: {why}.",
            "Is it running? Check the address.",
        )


def _backoff_s(attempt: int) -> float:
    """Exponential back-off with full jitter, so that a fleet does not come back in step."""
    return random.uniform(0, min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2 ** min(attempt, 10)))
