"""One MQTT 5 session: subscribes, publishes, acknowledges by hand, and outlives its connections.

gmqtt 0.8 gives the table of properties and reason codes; its client is not used. It leaks packet
ids at a disconnect, hides the reason code of a PUBACK, acknowledges before the message is safe,
waits for CONNACK without bound, does not restore subscriptions, reconnects in step after a fixed
delay, swallows what a callback raises, cannot bind a source address, and costs several times as
much memory for each connection.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from motorcade.runtime import mqtt_packets as packets
from motorcade.runtime.mqtt_aliases import TopicAliases
from motorcade.runtime.mqtt_connection import Connection
from motorcade.runtime.mqtt_errors import (
    MqttOffline,
    MqttRefused,
    MqttTooLarge,
    MqttUntrusted,
    MqttWindowFull,
)
from motorcade.runtime.mqtt_link import MqttLink, ignore
from motorcade.runtime.mqtt_options import Credentials, Tls, Will
from motorcade.runtime.mqtt_outbox import MAX_PACKET_ID, Outbox, Sent
from motorcade.runtime.mqtt_packets import Connack, Properties
from motorcade.runtime.mqtt_reasons import (
    FAILURE,
    NO_MATCHING_SUBSCRIBERS,
    PACKET_TOO_LARGE,
    QUOTA_EXCEEDED,
    SESSION_TAKEN_OVER,
)

__all__ = [
    "NO_MATCHING_SUBSCRIBERS",
    "PACKET_TOO_LARGE",
    "QUOTA_EXCEEDED",
    "SESSION_TAKEN_OVER",
    "Credentials",
    "MqttOffline",
    "MqttRefused",
    "MqttSession",
    "MqttTooLarge",
    "MqttUntrusted",
    "MqttWindowFull",
    "Properties",
    "Sent",
    "Tls",
    "Will",
]


class MqttSession(MqttLink):
    """One client's session at one broker endpoint.

    Callbacks run on the loop and must not block; what one raises ends the connection and goes to
    the loop's exception handler. Messages that wait for their PUBACK when a connection is lost are
    sent again on the next, in order and under the same packet ids, before `on_connected`.

    Args:
        endpoint: "host:port".
        session_expiry_s: how long the broker keeps the session after the connection.
        receive_maximum: QoS 1 messages that the broker may send ahead of our PUBACKs.
        keepalive_s: silence after which client and broker give each other up; 0 for never.
        tls: speak TLS.
        credentials: what each connection shows of its client.
        source_address: address to bind, when one address has too few ports.
        topic_alias_max: topics that are named by a number after their first use, as far as the
            broker allows; for those who publish to few.
        reconnect: come back after a lost connection, with exponential back-off and full jitter;
            never when the session was taken over or the broker refuses for good.
    """

    __slots__ = (
        "_aliases",
        "_filters",
        "_outbox",
        "_paused",
        "_subacks",
        "_topic_alias_max",
        "maximum_packet_size",
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
        tls: Tls | None = None,
        credentials: Credentials | None = None,
        source_address: str | None = None,
        topic_alias_max: int = 0,
        reconnect: bool = True,
    ) -> None:
        super().__init__(
            client_id,
            endpoint,
            clean_start=clean_start,
            session_expiry_s=session_expiry_s,
            receive_maximum=receive_maximum,
            keepalive_s=keepalive_s,
            will=will,
            tls=tls,
            credentials=credentials,
            source_address=source_address,
            reconnect=reconnect,
        )
        #: (session, packet id or 0 at QoS 0, topic, payload, properties); nothing is acknowledged.
        self.on_message: Callable[[MqttSession, int, str, bytes, Properties], None] = ignore
        #: (session, packet id, reason code) of a QoS 1 message that we published.
        self.on_puback: Callable[[MqttSession, int, int], None] = ignore
        #: Largest packet that the broker takes, in bytes; 0 before CONNACK or without a limit.
        self.maximum_packet_size = 0
        self._subacks: dict[int, asyncio.Future[tuple[int, ...]]] = {}
        self._outbox = Outbox(self._subacks)
        self._topic_alias_max = topic_alias_max
        self._aliases: TopicAliases | None = None
        self._filters: tuple[tuple[str, int], ...] = ()
        self._paused = False

    async def subscribe(self, filters: list[str], qos: int = 1) -> None:
        """Subscribe and wait for the SUBACK; retained messages come with a new subscription only.

        The subscriptions are repeated by themselves on a connection without the session.

        Raises:
            MqttRefused: the broker refused a filter.
            MqttOffline: there is no connection, or it was lost before the SUBACK.
        """
        if self._connection is None:
            raise self._offline("subscribe")
        packet_id = self._outbox.next_id()
        answer = self._subacks[packet_id] = asyncio.get_running_loop().create_future()
        try:
            self._connection.write(packets.subscribe(packet_id, filters, qos))
            codes = await answer
        finally:
            del self._subacks[packet_id]
        for name, code in zip(filters, codes, strict=True):
            if code >= FAILURE:
                raise MqttRefused(f"the subscription {name}", code, self.endpoint)
        self._filters = tuple({**dict(self._filters), **dict.fromkeys(filters, qos)}.items())

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, **properties: Any
    ) -> int:
        """Send a message; returns its packet id, 0 at QoS 0. `on_puback` tells what became of it.

        Raises:
            MqttOffline: there is no connection.
            MqttWindowFull: the broker's receive-maximum is reached, or what was written piles up.
            MqttTooLarge: the packet exceeds the broker's maximum.
        """
        block = packets.encode_properties(properties)
        return self.send(Sent(topic.encode(), payload, retain, block), qos)

    def send(self, message: Sent, qos: int) -> int:
        """`publish` of what is encoded already, which is kept as it is until its PUBACK.

        Raises:
            As `publish`.
        """
        connection = self._connection
        if connection is None or not self.connected:
            raise self._offline("publish")
        outbox = self._outbox
        if connection.congested or (qos and outbox.full):
            raise self._window_full()
        aliases, topic, block = self._aliases, message.topic, message.properties
        packet_id = outbox.next_id() if qos else 0
        if aliases is not None:
            topic, block = aliases.apply(topic, block)
        packet = packets.publish(topic, message.payload, packet_id, message.retain, block)
        if 0 < self.maximum_packet_size < len(packet):
            raise MqttTooLarge(
                f"{self.client_id}: a packet of {len(packet)} bytes on {message.topic.decode()} "
                f"exceeds the maximum of {self.maximum_packet_size} bytes that {self.endpoint} "
                "takes."
            )
        if aliases is not None:
            aliases.sent(message.topic)
        if packet_id:
            outbox.add(packet_id, message)
        connection.write(packet)
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

    @property
    def in_flight(self) -> int:
        """Published messages that wait for their PUBACK."""
        return len(self._outbox)

    # -- the life of the connection ---------------------------------------------------------------

    async def _restore(self, connection: Connection, answer: Connack) -> None:
        terms = answer.properties
        self._outbox.window = terms.get("receive_maximum", MAX_PACKET_ID)
        self.maximum_packet_size = terms.get("maximum_packet_size", 0)
        aliases = min(self._topic_alias_max, terms.get("topic_alias_maximum", 0))
        self._aliases = TopicAliases(aliases) if aliases else None
        if self._filters and not answer.session_present:
            for qos in {qos for _, qos in self._filters}:
                await self.subscribe([name for name, q in self._filters if q == qos], qos)
        if self._paused:
            connection.pause()

    def _send_again(self, *, duplicate: bool) -> None:
        self._outbox.begin_again(duplicate=duplicate)
        self._outbox.send_again(self._write_again, self._outbox.window)

    def _write_again(self, packet_id: int, sent: Sent, duplicate: bool) -> None:
        assert self._connection is not None
        self._connection.write(
            packets.publish(
                sent.topic, sent.payload, packet_id, sent.retain, sent.properties, duplicate
            )
        )

    def _interrupted(self) -> None:
        for answer in self._subacks.values():
            if not answer.done():
                answer.set_exception(self._offline("subscribe"))

    def _forget(self) -> None:
        self._outbox.clear()

    # -- what the connection calls ----------------------------------------------------------------

    def acknowledged(self, packet_id: int, reason_code: int) -> None:
        """A PUBACK came."""
        outbox = self._outbox
        if outbox.acknowledged(packet_id):
            if outbox.resending:
                outbox.send_again(self._write_again, 1)
            self.on_puback(self, packet_id, reason_code)

    def arrived(self, first_byte: int, body: bytes) -> None:
        """Any other packet came."""
        kind = first_byte & 0xF0
        if kind == packets.PUBLISH:
            self.on_message(self, *packets.parse_publish(first_byte, body))
        elif kind == packets.PUBACK:
            self.acknowledged(*packets.parse_puback(body))
        elif kind == packets.SUBACK:
            suback = packets.parse_suback(body)
            if (answer := self._subacks.get(suback.packet_id)) is not None and not answer.done():
                answer.set_result(suback.reason_codes)
        else:
            super().arrived(first_byte, body)

    # -- what goes wrong --------------------------------------------------------------------------

    def _offline(self, action: str) -> MqttOffline:
        return MqttOffline(f"{self.client_id} cannot {action}: no connection to {self.endpoint}.")

    def _window_full(self) -> MqttWindowFull:
        return MqttWindowFull(
            f"{self.client_id}: {len(self._outbox)} messages wait for their PUBACK, and "
            f"{self.endpoint} takes no more for now."
        )
