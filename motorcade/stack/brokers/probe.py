"""Short MQTT 5 conversations with a broker: does a message cross, and what does a topic say."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from gmqtt import Client
from gmqtt.mqtt.handler import MQTTConnectError

from motorcade.stack.brokers.base import Endpoint

_PROBE_ROOT = "motorcade/probe"


@dataclass(frozen=True)
class Credentials:
    """User name and password of an MQTT client."""

    username: str
    password: str


@asynccontextmanager
async def _connected(endpoint: Endpoint, credentials: Credentials | None) -> AsyncIterator[Client]:
    client = Client(f"motorcade-probe-{uuid.uuid4().hex[:12]}", clean_session=True)
    client.set_config({"reconnect_retries": 0})
    if credentials:
        client.set_auth_credentials(credentials.username, credentials.password)
    try:
        await client.connect(endpoint.host, endpoint.port, keepalive=20)
        yield client
    finally:
        if client._connection is not None:
            await client.disconnect()


async def first_message(
    endpoint: Endpoint,
    topic: str,
    *,
    credentials: Credentials | None = None,
    publish: bytes | None = None,
    timeout_s: float = 5,
) -> bytes | None:
    """The first message on a topic, after publishing one there if asked to; None if none comes.

    Raises nothing for a broker that is away or refuses: that, too, is None.
    """
    arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    subscribed = asyncio.Event()

    def on_message(_client: Client, _topic: str, payload: bytes, *_rest: Any) -> int:
        if not arrived.done():
            arrived.set_result(bytes(payload))
        return 0

    def on_subscribe(*_arguments: Any) -> None:
        subscribed.set()

    try:
        async with asyncio.timeout(timeout_s), _connected(endpoint, credentials) as subscriber:
            subscriber.on_message = on_message
            subscriber.on_subscribe = on_subscribe
            subscriber.subscribe(topic, qos=1)
            await subscribed.wait()
            if publish is None:
                return await arrived
            async with _connected(endpoint, credentials) as publisher:
                publisher.publish(topic, publish, qos=1)
                return await arrived
    except (TimeoutError, OSError, MQTTConnectError):
        return None


async def crosses(endpoint: Endpoint, credentials: Credentials | None = None) -> bool:
    """Whether a QoS 1 message crosses from one client of the endpoint to another."""
    token = uuid.uuid4().hex.encode()
    topic = f"{_PROBE_ROOT}/{token.decode()}"
    return await first_message(endpoint, topic, credentials=credentials, publish=token) == token
