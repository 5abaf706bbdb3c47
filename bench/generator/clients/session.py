"""Motorcade's MQTT session alone: what the adapter costs, without cars."""

import asyncio

import uvloop
from lines import Order, say, topic, wait
from ticks import publish_in_ticks, settle

from motorcade.runtime.mqtt import MqttSession


async def main() -> None:
    order = Order.read()
    loop = asyncio.get_running_loop()
    say("started")
    wait()
    began = loop.time()
    room = asyncio.Semaphore(500)
    acknowledged = 0

    def on_puback(_session: MqttSession, _packet_id: int, _code: int) -> None:
        nonlocal acknowledged
        acknowledged += 1

    async def open_one(name: str) -> MqttSession:
        async with room:
            session = MqttSession(name, order.endpoint, clean_start=True)
            session.on_puback = on_puback
            await session.connect(60, retry=True)
            return session

    sessions = await asyncio.gather(*map(open_one, order.names))
    say("connected", loop.time() - began)
    await asyncio.to_thread(wait)
    topics = [topic(name) for name in order.names]
    payload = order.payload

    def publish(number: int) -> None:
        sessions[number].publish(
            topics[number], payload, qos=order.qos, content_type="application/json"
        )

    sent = await publish_in_ticks(order.clients, order.interval_s, order.seconds, publish)
    await settle(lambda: not order.qos or acknowledged >= sent)
    say("published", sent, acknowledged if order.qos else sent)
    await asyncio.to_thread(wait)


uvloop.run(main())
