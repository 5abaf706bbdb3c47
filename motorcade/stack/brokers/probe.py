"""Short MQTT 5 conversations with a broker: does a message cross, and what does a topic say."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from motorcade.fleet.errors import MotorcadeError
from motorcade.runtime.mqtt import Credentials, MqttSession, Properties
from motorcade.stack.brokers.base import Endpoint

_PROBE_ROOT = "motorcade/probe"


@asynccontextmanager
async def _connected(
    endpoint: Endpoint,
    credentials: Credentials | None,
    timeout_s: float,
    *,
    reconnect: bool = False,
) -> AsyncIterator[MqttSession]:
    session = MqttSession(
        f"motorcade-probe-{uuid.uuid4().hex[:12]}",
        str(endpoint),
        clean_start=True,
        credentials=credentials,
        reconnect=reconnect,
    )
    await session.connect(timeout_s)
    try:
        yield session
    finally:
        await session.disconnect()


async def first_message(
    endpoint: Endpoint,
    topic: str,
    *,
    credentials: Credentials | None = None,
    publish: bytes | None = None,
    timeout_s: float = 5,
) -> bytes | None:
    """The first message on a topic, after publishing one there if asked to; None if none comes.

    A broker that is away or refuses is None, too.
    """
    arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def keep(
        session: MqttSession, packet_id: int, _topic: str, payload: bytes, _: Properties
    ) -> None:
        if packet_id:
            session.acknowledge([packet_id], session.generation)
        if not arrived.done():
            arrived.set_result(bytes(payload))

    try:
        async with (
            asyncio.timeout(timeout_s),
            _connected(endpoint, credentials, timeout_s) as subscriber,
        ):
            subscriber.on_message = keep
            await subscriber.subscribe([topic])
            if publish is None:
                return await arrived
            async with _connected(endpoint, credentials, timeout_s) as publisher:
                publisher.publish(topic, publish)
                return await arrived
    except (TimeoutError, OSError, MotorcadeError):
        return None


@asynccontextmanager
async def follow(
    endpoint: Endpoint, topic: str, on_message: Callable[[bytes], None], timeout_s: float = 5
) -> AsyncIterator[None]:
    """Hand over every message on a topic while the context lasts, across reconnects.

    Raises:
        MotorcadeError: the broker refuses, or does not answer in time.
    """
    async with _connected(endpoint, None, timeout_s, reconnect=True) as session:

        def take(
            session: MqttSession, packet_id: int, _topic: str, payload: bytes, _: Properties
        ) -> None:
            if packet_id:
                session.acknowledge([packet_id], session.generation)
            on_message(bytes(payload))

        session.on_message = take
        await session.subscribe([topic])
        yield


async def crosses(endpoint: Endpoint, credentials: Credentials | None = None) -> bool:
    """Whether a QoS 1 message crosses from one client of the endpoint to another."""
    token = uuid.uuid4().hex.encode()
    topic = f"{_PROBE_ROOT}/{token.decode()}"
    return await first_message(endpoint, topic, credentials=credentials, publish=token) == token
