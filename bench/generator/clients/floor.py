"""The floor: a bare asyncio protocol on uvloop that writes ready-made packets and counts bytes.

It keeps no keepalive, resends nothing, checks nothing: no real client can cost less.
"""

import asyncio
from typing import cast

import uvloop

from bench.generator.clients.lines import Order, say, topic, wait
from bench.generator.clients.ticks import publish_in_ticks, settle
from motorcade.runtime import mqtt_packets as packets

_PUBACK_BYTES = 4


class Floor(asyncio.Protocol):
    __slots__ = ("accepted", "name", "received", "transport")

    def __init__(self, name: str, accepted: "asyncio.Future[None]") -> None:
        self.name = name
        self.accepted = accepted
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)
        self.transport.write(
            packets.connect(self.name, clean_start=True, keepalive_s=0, properties=b"\0")
        )

    def data_received(self, data: bytes) -> None:
        if not self.accepted.done():
            self.accepted.set_result(None)
            return
        self.received += len(data)


async def main() -> None:
    order = Order.read()
    loop = asyncio.get_running_loop()
    say("started")
    wait()
    began = loop.time()
    room = asyncio.Semaphore(500)

    async def open_one(name: str) -> Floor:
        async with room:
            accepted = loop.create_future()
            _, client = await loop.create_connection(
                lambda: Floor(name, accepted), order.host, order.port
            )
            await accepted
            return client

    clients = await asyncio.gather(*map(open_one, order.names))
    say("connected", loop.time() - began)
    await asyncio.to_thread(wait)
    ready = [
        packets.publish(topic(name).encode(), order.payload, order.qos, False, b"\0")
        for name in order.names
    ]

    def publish(number: int) -> None:
        clients[number].transport.write(ready[number])

    sent = await publish_in_ticks(order.clients, order.interval_s, order.seconds, publish)

    def acknowledged() -> int:
        return sum(client.received for client in clients) // _PUBACK_BYTES if order.qos else sent

    await settle(lambda: acknowledged() >= sent)
    say("published", sent, acknowledged())
    await asyncio.to_thread(wait)


uvloop.run(main())
