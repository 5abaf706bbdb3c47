"""Motorcade's MQTT session alone: what the adapter costs, without cars."""

import uvloop

from bench.generator.clients.lines import Order
from bench.generator.clients.publishers import play
from motorcade.runtime.mqtt import MqttSession

acknowledged = [0]


def on_puback(_session: MqttSession, _packet_id: int, _code: int) -> None:
    acknowledged[0] += 1


async def connect(order: Order, name: str) -> MqttSession:
    session = MqttSession(name, order.endpoint, clean_start=True)
    session.on_puback = on_puback
    await session.connect(60, retry=True)
    return session


uvloop.run(play(connect, acknowledged))
