"""An MQTT 5 client of another make than Motorcade's own (paho), made for asking questions."""

import queue
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from motorcade.stack.brokers.base import Endpoint

#: What a broker on this machine, busy as it may be, answers within.
ANSWER_S = 10.0
#: How long is waited for what is expected not to come.
SILENCE_S = 1.5


class NoAnswerError(Exception):
    """The broker did not answer in time."""


class Client:
    """One connection; a context that ends with DISCONNECT unless it was cut.

    Args:
        endpoint: the node it connects to.
        name: client id; None makes one up.
        expiry_s: how long the session outlives the connection.
        clean: whether it begins without the session that there may be.
        will: topic of its will; its payload is "gone".
        receive_maximum: unacknowledged messages it takes.
        manual: it acknowledges only when told to.
        login: user name and password.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        name: str | None = None,
        *,
        expiry_s: int = 0,
        clean: bool = True,
        will: str | None = None,
        will_delay_s: int = 0,
        receive_maximum: int | None = None,
        manual: bool = False,
        login: tuple[str, str] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.name = name or f"ask-{uuid.uuid4().hex[:10]}"
        self.inbox: queue.Queue[paho.MQTTMessage] = queue.Queue()
        self.connack: Any = None
        self.code: int | None = None
        self.session_present = False
        #: Reason code of the broker's DISCONNECT; None for a socket that just closed.
        self.ended: queue.Queue[int | None] = queue.Queue()
        self._answers: queue.Queue[tuple[int, list[int]]] = queue.Queue()
        self._clean, self._expiry_s, self._maximum = clean, expiry_s, receive_maximum
        self._paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            self.name,
            protocol=paho.MQTTv5,
            manual_ack=manual,
            reconnect_on_failure=False,
        )
        self._paho.max_inflight_messages_set(1000)
        if login:
            self._paho.username_pw_set(*login)
        if will:
            properties = Properties(PacketTypes.WILLMESSAGE)
            if will_delay_s:
                properties.WillDelayInterval = will_delay_s
            self._paho.will_set(will, b"gone", qos=1, properties=properties)
        self._paho.on_message = lambda *arguments: self.inbox.put(arguments[2])
        self._paho.on_connect = self._connected
        self._paho.on_disconnect = self._disconnected
        self._paho.on_publish = lambda *a: self._answers.put((a[2], [a[3].value]))
        self._paho.on_subscribe = lambda *a: self._answers.put((a[2], [c.value for c in a[3]]))

    def _connected(self, *arguments: Any) -> None:
        self.session_present = arguments[2].session_present
        self.connack = arguments[4]
        self.code = arguments[3].value

    def _disconnected(self, *arguments: Any) -> None:
        sent = arguments[2].is_disconnect_packet_from_server
        self.ended.put(arguments[3].value if sent else None)

    def __enter__(self) -> Self:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = self._expiry_s
        if self._maximum:
            properties.ReceiveMaximum = self._maximum
        self._paho.connect(
            self.endpoint.host, self.endpoint.port, clean_start=self._clean, properties=properties
        )
        self._paho.loop_start()
        until(lambda: self.code is not None)
        return self

    def __exit__(self, *_: object) -> None:
        self._paho.disconnect()
        self._paho.loop_stop()

    def cut(self) -> None:
        """Close the socket without a word."""
        found = self._paho.socket()
        if isinstance(found, socket.socket):
            found.shutdown(socket.SHUT_RDWR)

    def subscribe(self, topic: str, qos: int = 1) -> int:
        """Subscribe; the SUBACK's reason code."""
        return self._answered(self._paho.subscribe(topic, qos=qos)[1])

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, **properties: Any
    ) -> int:
        """Publish; the PUBACK's reason code, 0 at QoS 0."""
        found = Properties(PacketTypes.PUBLISH)
        for name, value in properties.items():
            setattr(found, name, value)
        return self._answered(
            self._paho.publish(topic, payload, qos=qos, retain=retain, properties=found).mid
        )

    def send(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1 without waiting for the PUBACK."""
        self._paho.publish(topic, payload, qos=1)

    def acknowledge(self, message: paho.MQTTMessage) -> None:
        """PUBACK, of a client that does it by hand."""
        self._paho.ack(message.mid, message.qos)

    def heard(self, count: int, timeout_s: float = ANSWER_S) -> list[paho.MQTTMessage]:
        """The next messages: so many, or those that came in time."""
        deadline = time.monotonic() + timeout_s
        found: list[paho.MQTTMessage] = []
        while len(found) < count:
            try:
                found.append(self.inbox.get(timeout=max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                break
        return found

    def _answered(self, packet_id: int | None) -> int:
        while True:
            try:
                answered, codes = self._answers.get(timeout=ANSWER_S)
            except queue.Empty:
                raise NoAnswerError(f"{self.endpoint} did not answer {self.name}") from None
            if answered == packet_id:
                return codes[0]


def until(reached: Callable[[], bool], timeout_s: float = ANSWER_S) -> None:
    """Poll until something holds.

    Raises:
        NoAnswerError: it does not in time.
    """
    deadline = time.monotonic() + timeout_s
    while not reached():
        if time.monotonic() > deadline:
            raise NoAnswerError(f"not within {timeout_s:g} s")
        time.sleep(0.01)


@contextmanager
def subscribed(endpoint: Endpoint, topic: str, **options: Any) -> Iterator[Client]:
    """A client that has subscribed at QoS 1."""
    with Client(endpoint, **options) as client:
        client.subscribe(topic)
        yield client


def linked(publisher: Client, subscriber: Client, topic: str, timeout_s: float = 3.0) -> bool:
    """Wait until what is published reaches a subscriber: nodes tell each other in their own time.

    Returns:
        Whether it does; what was published for it is taken out of the subscriber's inbox.
    """
    deadline, sent = time.monotonic() + timeout_s, 0
    while time.monotonic() < deadline:
        publisher.publish(topic, b"hello")
        sent += 1
        if heard := len(subscriber.heard(1, 0.2)):
            # One that is on its way yet must not be taken for an answer later.
            subscriber.heard(sent - heard, 1.0)
            return True
    return False
