"""The course of a bench for clients that publish alike: connect all, publish in ticks, settle."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from bench.generator.clients.lines import Order, say, topic, wait
from bench.generator.clients.ticks import publish_in_ticks, settle

#: Connects under way at one moment.
_AT_ONCE = 500


async def play(connect: Callable[[Order, str], Awaitable[Any]], acknowledged: list[int]) -> None:
    """Play what the bench orders.

    Args:
        connect: opens the client of a name; the client has `publish(topic, payload, …)`.
        acknowledged: one number, which the clients raise with every PUBACK.
    """
    order = Order.read()
    loop = asyncio.get_running_loop()
    say("started")
    wait()
    began = loop.time()
    room = asyncio.Semaphore(_AT_ONCE)

    async def open_one(name: str) -> Any:
        async with room:
            return await connect(order, name)

    clients = await asyncio.gather(*map(open_one, order.names))
    say("connected", loop.time() - began)
    await asyncio.to_thread(wait)
    topics = [topic(name) for name in order.names]
    payload = order.payload

    def publish(number: int) -> None:
        clients[number].publish(
            topics[number], payload, qos=order.qos, content_type="application/json"
        )

    sent = await publish_in_ticks(order.clients, order.interval_s, order.seconds, publish)
    await settle(lambda: not order.qos or acknowledged[0] >= sent)
    say("published", sent, acknowledged[0] if order.qos else sent)
    await asyncio.to_thread(wait)
