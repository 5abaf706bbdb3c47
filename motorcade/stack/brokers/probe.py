"""Short MQTT 5 conversations with a broker: does a message cross, and what does a topic say."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from motorcade.fleet.errors import MotorcadeError
from motorcade.runtime.mqtt import MqttSession, Properties
from motorcade.runtime.mqtt_options import Access
from motorcade.stack.brokers.base import Endpoint

_PROBE_ROOT = "motorcade/probe"
_AGAIN_S = 0.1
#: How to reach a broker that asks for nothing.
ANYBODY = Access(tls=None, credentials=None)


@asynccontextmanager
async def _connected(
    endpoint: Endpoint,
    access: Access,
    timeout_s: float,
    *,
    reconnect: bool = False,
) -> AsyncIterator[MqttSession]:
    session = MqttSession(
        f"motorcade-probe-{uuid.uuid4().hex[:12]}",
        str(endpoint),
        clean_start=True,
        reconnect=reconnect,
        **access,
    )
    await session.connect(timeout_s)
    try:
        yield session
    finally:
        # Not `disconnect`, which waits until the broker closes: RMQTT leaves that to the client.
        await session.drop()


async def first_message(
    endpoint: Endpoint,
    topic: str,
    *,
    access: Access = ANYBODY,
    timeout_s: float = 5,
) -> bytes | None:
    """The first message on a topic; None if none comes in time.

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
            _connected(endpoint, access, timeout_s) as subscriber,
        ):
            subscriber.on_message = keep
            await subscriber.subscribe([topic])
            return await arrived
    except (TimeoutError, OSError, MotorcadeError):
        return None


@asynccontextmanager
async def follow(
    endpoint: Endpoint,
    topic: str,
    on_message: Callable[[bytes], None],
    access: Access = ANYBODY,
    timeout_s: float = 5,
) -> AsyncIterator[None]:
    """Hand over every message on a topic while the context lasts, across reconnects.

    Raises:
        MotorcadeError: the broker refuses, or does not answer in time.
    """
    async with _connected(endpoint, access, timeout_s, reconnect=True) as session:

        def take(
            session: MqttSession, packet_id: int, _topic: str, payload: bytes, _: Properties
        ) -> None:
            if packet_id:
                session.acknowledge([packet_id], session.generation)
            on_message(bytes(payload))

        session.on_message = take
        await session.subscribe([topic])
        yield


async def crosses(
    endpoints: Sequence[Endpoint], access: Access = ANYBODY, timeout_s: float = 5
) -> bool:
    """Whether a QoS 1 message published at any of the endpoints reaches a subscriber at each.

    It is published again and again: nodes tell each other of a subscription in their own time.
    """
    token = uuid.uuid4().hex
    topic = f"{_PROBE_ROOT}/{token}"
    heard: set[tuple[int, bytes]] = set()

    def take(
        listener: int,
        session: MqttSession,
        packet_id: int,
        _topic: str,
        payload: bytes,
        _: Properties,
    ) -> None:
        if packet_id:
            session.acknowledge([packet_id], session.generation)
        heard.add((listener, bytes(payload)))

    try:
        async with asyncio.timeout(timeout_s), AsyncExitStack() as connections:
            publishers = []
            for number, endpoint in enumerate(endpoints):
                connect = partial(_connected, endpoint, access, timeout_s)
                subscriber = await connections.enter_async_context(connect())
                subscriber.on_message = partial(take, number)
                await subscriber.subscribe([topic])
                publishers.append(await connections.enter_async_context(connect()))
            while len(heard) < len(endpoints) ** 2:
                for number, publisher in enumerate(publishers):
                    publisher.publish(topic, b"%d" % number)
                await asyncio.sleep(_AGAIN_S)
            return True
    except (TimeoutError, OSError, MotorcadeError):
        return False
