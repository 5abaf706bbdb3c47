"""Every broker adapter carries, refuses, counts and keeps what it says it does."""

import asyncio
import queue
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from motorcade.runtime.mqtt import MqttSession
from motorcade.stack.brokers import rmqtt
from motorcade.stack.brokers.base import MAX_PACKET_BYTES, Endpoint, QueueBound
from motorcade.stack.brokers.external import External
from motorcade.stack.settings import StackSettings

from .servers import BrokerServer, start_mosquitto, start_rmqtt

_UNSPECIFIED = 0x80  # paho's word for a connection that ended without a DISCONNECT
_PACKET_TOO_LARGE = 0x95


@pytest.fixture(params=["mosquitto", "artemis"])
def broker(request: pytest.FixtureRequest) -> BrokerServer:
    server: BrokerServer = request.getfixturevalue(request.param)
    return server


@contextmanager
def client(server: BrokerServer, name: str) -> Iterator[tuple[paho.Client, queue.Queue[Any]]]:
    """An MQTT 5 client of another make than ours; its queue gets messages and disconnects."""
    heard: queue.Queue[Any] = queue.Queue()
    one = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv5)
    one.on_message = lambda *arguments: heard.put(arguments[2])
    one.on_subscribe = lambda *_: heard.put("subscribed")
    one.on_disconnect = lambda *arguments: heard.put(arguments[3].value)
    one.connect(server.host, server.port)
    one.loop_start()
    try:
        yield one, heard
    finally:
        one.disconnect()
        one.loop_stop()


def test_a_qos_1_message_crosses_with_its_mqtt_5_properties(
    broker: BrokerServer, unique: str
) -> None:
    with (
        client(broker, f"sub-{unique}") as (subscriber, heard),
        client(broker, f"pub-{unique}") as (publisher, _),
    ):
        subscriber.subscribe(f"{unique}/#", qos=1)
        assert heard.get(timeout=10) == "subscribed"
        properties = Properties(PacketTypes.PUBLISH)
        properties.ContentType = "application/json"
        properties.CorrelationData = b"7"
        properties.ResponseTopic = f"{unique}/answers"
        publisher.publish(f"{unique}/a", b"{}", qos=1, properties=properties)
        message = heard.get(timeout=10)
    assert (message.topic, message.payload, message.qos) == (f"{unique}/a", b"{}", 1)
    assert message.properties.ContentType == "application/json"
    assert message.properties.CorrelationData == b"7"
    assert message.properties.ResponseTopic == f"{unique}/answers"


def payload_for(topic: str, packet_bytes: int) -> bytes:
    """A payload that makes a QoS 1 PUBLISH of MQTT 5 exactly so many bytes long.

    Fixed header 1 + 3, topic 2 + n, packet id 2, properties 1.
    """
    return b"x" * (packet_bytes - 4 - 2 - len(topic) - 2 - 1)


def test_a_packet_at_the_limit_crosses_and_a_larger_one_is_refused_with_0x95(
    broker: BrokerServer, unique: str
) -> None:
    fits = payload_for(unique, MAX_PACKET_BYTES)
    with client(broker, f"sub-{unique}") as (subscriber, heard):
        subscriber.subscribe(unique, qos=1)
        assert heard.get(timeout=10) == "subscribed"
        with client(broker, f"pub-{unique}") as (publisher, _):
            publisher.publish(unique, fits, qos=1)
            assert heard.get(timeout=10).payload == fits
        reasons = [refusal(broker, f"large-{unique}-{n}", unique, fits) for n in range(5)]
        assert heard.empty()
    assert set(reasons) <= {_PACKET_TOO_LARGE, _UNSPECIFIED}
    assert _PACKET_TOO_LARGE in reasons


def refusal(broker: BrokerServer, name: str, topic: str, fits: bytes) -> int:
    """Why a packet a little too large ended its connection.

    A broker that closes before it has read the whole packet resets the connection, and a reset
    may overtake the DISCONNECT: so one packet is not enough to ask for the reason.
    """
    with client(broker, name) as (publisher, refused):
        # 4, not 1: mosquitto does not count the three bytes that tell the packet's length.
        publisher.publish(topic, fits + b"xxxx", qos=1)
        reason: int = refused.get(timeout=10)
    return reason


async def test_a_farm_is_ready_when_a_message_crosses_on_every_node(tmp_path: Path) -> None:
    farm = await asyncio.to_thread(start_mosquitto, tmp_path, 2)
    try:
        assert await farm.broker.ready()
        farm.nodes[1].kill()
        assert not await farm.broker.ready()
        await asyncio.to_thread(farm.restart, 1)
        assert await farm.broker.ready()
    finally:
        farm.stop()


async def test_a_node_of_rmqtt_serves_alone(stack_settings: StackSettings, tmp_path: Path) -> None:
    if rmqtt.find(stack_settings.rmqtt) is None:
        pytest.skip("there is no rmqttd on this machine")
    alone = await asyncio.to_thread(start_rmqtt, stack_settings, tmp_path)
    try:
        assert await alone.broker.ready()
        assert await alone.broker.drops() == 0
    finally:
        alone.stop()


async def test_messages_over_the_queue_bound_are_counted_as_drops(
    tmp_path: Path, unique: str
) -> None:
    bound = QueueBound(rate_per_s=1, outage_s=1)
    server = await asyncio.to_thread(start_mosquitto, tmp_path, 1, bound)
    endpoint = str(server.broker.endpoints[0])
    over = 500
    listening = AsyncExitStack()
    try:
        total = await listening.enter_async_context(server.broker.counting())
        away = MqttSession(f"away-{unique}", endpoint, clean_start=True, session_expiry_s=600)
        await away.connect(10)
        await away.subscribe([unique])
        await away.disconnect()
        sender = MqttSession(f"sender-{unique}", endpoint, clean_start=True)
        await sender.connect(10)
        for _ in range(bound.messages + over):
            sender.publish(unique, b"", qos=1)
            while sender.in_flight > 100:
                await asyncio.sleep(0)
        deadline = asyncio.get_running_loop().time() + 10
        while (dropped := await server.broker.drops() or 0) < over:
            assert asyncio.get_running_loop().time() < deadline, f"{dropped} drops reported"
            await asyncio.sleep(0.2)
        await sender.disconnect()
        assert await total() == dropped
        # A node that starts again counts from 0; who listened all along still knows.
        server.nodes[0].kill()
        await asyncio.to_thread(server.restart, 0)
        while await server.broker.drops() != 0:
            await asyncio.sleep(0.2)
        assert await total() == dropped
    finally:
        await listening.aclose()
        server.stop()


async def test_artemis_counts_an_expired_message_as_dropped(
    artemis: BrokerServer, unique: str
) -> None:
    before = await artemis.broker.drops()
    assert before is not None
    endpoint = str(artemis.broker.endpoints[0])
    away = MqttSession(f"away-{unique}", endpoint, clean_start=True, session_expiry_s=600)
    await away.connect(10)
    await away.subscribe([unique])
    await away.disconnect()
    sender = MqttSession(f"sender-{unique}", endpoint, clean_start=True)
    await sender.connect(10)
    sender.publish(unique, b"stale", qos=1, message_expiry_interval=1)
    deadline = asyncio.get_running_loop().time() + 60
    while await artemis.broker.drops() != before + 1:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.5)
    await sender.disconnect()


async def test_an_external_broker_is_ready_only_where_a_message_crosses(
    mosquitto: BrokerServer,
) -> None:
    there = mosquitto.broker.endpoints[0]
    nowhere = Endpoint("127.0.0.1", 1)
    assert await External((there,)).ready()
    assert not await External((there, nowhere)).ready()
    assert await External((there,)).drops() is None
