"""gmqtt's own client on uvloop, in the same ticks: what the project's adapter replaces."""

import logging

import uvloop
from gmqtt import Client

from bench.generator.clients.lines import Order
from bench.generator.clients.publishers import play

logging.getLogger("gmqtt").setLevel(logging.ERROR)

acknowledged = [0]


class Counting(Client):
    def _remove_message_from_queue(self, mid: int) -> None:  # gmqtt has no callback for it
        acknowledged[0] += 1
        super()._remove_message_from_queue(mid)


async def connect(order: Order, name: str) -> Client:
    client = Counting(name, clean_session=True)
    await client.connect(order.host, order.port)
    return client


uvloop.run(play(connect, acknowledged))
