"""The loop that one writes by hand: paho delivers, librdkafka takes, and only then it is acked.

python paho_bridge.py BROKER KAFKA TOPIC FILTER
"""

import signal
import sys
from functools import partial
from typing import Any

import paho.mqtt.client as mqtt
from confluent_kafka import Producer
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def main(broker: str, kafka: str, topic: str, pattern: str) -> None:
    producer = Producer(
        {
            "bootstrap.servers": kafka,
            "enable.idempotence": True,
            "compression.type": "zstd",
            "linger.ms": 20,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, client_id=topic, protocol=mqtt.MQTTv5, manual_ack=True
    )

    def delivered(mid: int, qos: int, error: Any, _: Any) -> None:
        if error is None:
            client.ack(mid, qos)

    def received(_: Any, __: Any, message: mqtt.MQTTMessage) -> None:
        key = message.topic.split("/")[3]
        done = partial(delivered, message.mid, message.qos)
        producer.produce(topic, message.payload, key, on_delivery=done)
        producer.poll(0)

    def connected(*_: object) -> None:
        client.subscribe(pattern, qos=1)

    client.on_message = received
    client.on_connect = connected
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 24 * 3600
    properties.ReceiveMaximum = 2000
    host, _, port = broker.rpartition(":")
    client.connect(host, int(port), clean_start=False, properties=properties)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        client.loop(0.02)
        producer.poll(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
