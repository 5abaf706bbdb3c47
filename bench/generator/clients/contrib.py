"""Locust's own MqttUser (locust.contrib.mqtt: paho under gevent), one process without master."""

from locust import constant_pacing, task
from locust.contrib.mqtt import MqttUser
from locust.env import Environment

import gevent  # isort: skip - after locust, which patches the standard library for it
from bench.generator.clients.lines import Order, say, topic, wait

order = Order.read()
names = iter(order.names)
counts = {"connect": 0, "sent": 0, "acknowledged": 0}
publishing = False


class Contrib(MqttUser):
    host, port = order.host, order.port
    use_loop_selectors = True  # select() knows 1,024 descriptors
    wait_time = constant_pacing(order.interval_s)

    def __init__(self, environment: Environment) -> None:
        self.client_id = next(names)
        super().__init__(environment)

    @task  # type: ignore[untyped-decorator]
    def telemetry(self) -> None:
        if publishing:
            self.client.publish(topic(self.client_id), order.payload, qos=order.qos)
            counts["sent"] += 1


def count(name: str, exception: object, **_: object) -> None:
    if exception is None:
        counts["connect" if name == "connect" else "acknowledged"] += 1


environment = Environment(user_classes=[Contrib])
environment.events.request.add_listener(count)
runner = environment.create_local_runner()
say("started")
wait()
began = gevent.get_hub().loop.now()
runner.start(order.clients, spawn_rate=order.clients)
while counts["connect"] < order.clients:
    gevent.sleep(0.05)
say("connected", gevent.get_hub().loop.now() - began)
wait()
publishing = True
gevent.sleep(order.seconds)
publishing = False
for _ in range(100):
    if counts["acknowledged"] >= counts["sent"]:
        break
    gevent.sleep(0.1)
say("published", counts["sent"], counts["acknowledged"])
wait()
