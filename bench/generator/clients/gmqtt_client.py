"""gmqtt's own client on uvloop, in the same ticks: what the project's adapter replaces."""

import asyncio
import logging

import uvloop
from gmqtt import Client
from lines import Order, say, topic, wait
from ticks import publish_in_ticks, settle

logging.getLogger("gmqtt").setLevel(logging.ERROR)


async def main() -> None:
    order = Order.read()
    loop = asyncio.get_running_loop()
    say("started")
    wait()
    began = loop.time()
    room = asyncio.Semaphore(500)
    acknowledged = 0

    class Counting(Client):  # type: ignore[misc]
        def _remove_message_from_queue(self, mid: int) -> None:  # gmqtt has no callback for it
            nonlocal acknowledged
            acknowledged += 1
            super()._remove_message_from_queue(mid)

    async def open_one(name: str) -> Client:
        async with room:
            client = Counting(name, clean_session=True)
            await client.connect(order.host, order.port)
            return client

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
    await settle(lambda: not order.qos or acknowledged >= sent)
    say("published", sent, acknowledged if order.qos else sent)
    await asyncio.to_thread(wait)


uvloop.run(main())
