"""Clusters of three real nodes: who is ready, who is not, and what a node that returns may take."""

import asyncio
from collections.abc import Iterator

import pytest

from motorcade.runtime.mqtt import MqttSession
from motorcade.stack.brokers import rmqtt
from motorcade.stack.settings import StackSettings

from .pipeline import until
from .servers import BrokerServer, start_artemis, start_rmqtt

NODES, VICTIM = 3, 1
PATIENCE_S = 90.0
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", params=["artemis", "rmqtt"])
def cluster(
    request: pytest.FixtureRequest,
    stack_settings: StackSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[BrokerServer]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "rmqtt" and rmqtt.find(stack_settings.rmqtt) is None:
        pytest.skip("there is no rmqttd on this machine")
    start = start_artemis if request.param == "artemis" else start_rmqtt
    server = start(stack_settings, folder, NODES)
    yield server
    server.stop()


async def test_what_a_node_takes_after_its_return_reaches_subscribers_of_the_others(
    cluster: BrokerServer, unique: str
) -> None:
    heard: set[bytes] = set()

    def take(session: MqttSession, packet_id: int, _: str, payload: bytes, *__: object) -> None:
        session.acknowledge([packet_id], session.generation)
        heard.add(bytes(payload))

    subscriber = MqttSession(f"sub-{unique}", cluster.endpoints[0], clean_start=True)
    subscriber.on_message = take
    await subscriber.connect(PATIENCE_S)
    await subscriber.subscribe([f"{unique}/#"])

    acknowledged: set[bytes] = set()
    waiting: dict[int, bytes] = {}
    publisher = MqttSession(f"pub-{unique}", cluster.endpoints[VICTIM], clean_start=True)
    publisher.on_puback = lambda _session, packet_id, code: (
        acknowledged.add(waiting[packet_id]) if code == 0 else None
    )
    cluster.nodes[VICTIM].kill()
    assert not await cluster.broker.ready()
    restarting = asyncio.create_task(asyncio.to_thread(cluster.restart, VICTIM))
    await publisher.connect(PATIENCE_S, retry=True)  # the first moment in which it takes anything
    for number in range(100):
        payload = b"%d" % number
        waiting[publisher.publish(f"{unique}/{number}", payload)] = payload
    await restarting
    await until(lambda: not publisher.in_flight, PATIENCE_S, "every PUBACK")
    assert acknowledged
    await until(lambda: acknowledged <= heard, PATIENCE_S, "all that was acknowledged")
    assert await cluster.broker.drops() == 0
    await publisher.drop()
    await subscriber.drop()
