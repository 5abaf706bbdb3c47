"""The MQTT session against a real mosquitto: what it promises callers when things go wrong."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from motorcade.fleet.errors import UnreachableError
from motorcade.runtime import mqtt, mqtt_link
from motorcade.runtime.mqtt import (
    MqttOffline,
    MqttSession,
    MqttTooLarge,
    MqttWindowFull,
    Will,
)
from motorcade.stack.ports import free_ports

from .servers import BrokerServer, pause, resume


async def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)


class Inbox:
    """Collects what a session reports; acknowledges at once unless told not to."""

    def __init__(self, session: MqttSession, *, acknowledge: bool = True) -> None:
        self.session = session
        self.messages: list[tuple[int, int, str, bytes, dict[str, Any]]] = []
        self.connects: list[bool] = []
        self.disconnects: list[int | None] = []
        self.pubacks: list[tuple[int, int]] = []
        self.acknowledge = acknowledge
        session.on_message = self.message
        session.on_connected = lambda _, present: self.connects.append(present)
        session.on_disconnected = lambda _, code: self.disconnects.append(code)
        session.on_puback = lambda _, packet_id, code: self.pubacks.append((packet_id, code))

    def message(
        self, session: MqttSession, packet_id: int, topic: str, payload: bytes, props: Any
    ) -> None:
        self.messages.append((session.generation, packet_id, topic, payload, props))
        if self.acknowledge and packet_id:
            session.acknowledge([packet_id], session.generation)

    @property
    def payloads(self) -> list[bytes]:
        return [message[3] for message in self.messages]


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_link, "_BACKOFF_BASE_S", 0.05)
    monkeypatch.setattr(mqtt_link, "_BACKOFF_CAP_S", 0.2)


async def test_a_message_crosses_with_its_properties_and_both_sides_are_acknowledged(
    mosquitto: BrokerServer, unique: str
) -> None:
    car = MqttSession(f"car-{unique}", mosquitto.endpoints[0], clean_start=True)
    sent = Inbox(car)
    bridge = MqttSession(f"bridge-{unique}", mosquitto.endpoints[0], clean_start=True)
    received = Inbox(bridge)
    await car.connect(5)
    await bridge.connect(5)
    await bridge.subscribe([f"{unique}/+"])
    packet_id = car.publish(
        f"{unique}/a", b"{}" * 100, content_type="application/json", correlation_data=b"\x00\xff"
    )
    empty = car.publish(f"{unique}/b", b"", qos=1)
    assert car.publish(f"{unique}/c", b"unsure", qos=0) == 0
    await until(lambda: len(received.messages) == 3 and len(sent.pubacks) == 2)
    assert sent.pubacks == [(packet_id, 0), (empty, 0)]
    assert received.payloads == [b"{}" * 100, b"", b"unsure"]
    assert received.messages[0][4] == {
        "content_type": "application/json",
        "correlation_data": b"\x00\xff",
    }
    assert received.messages[0][1] > 0
    assert received.messages[2][1] == 0
    assert car.in_flight == 0
    await car.disconnect()
    await bridge.disconnect()


async def test_a_message_nobody_subscribes_to_is_told_to_the_publisher(
    mosquitto: BrokerServer, unique: str
) -> None:
    car = MqttSession(f"car-{unique}", mosquitto.endpoints[0], clean_start=True)
    sent = Inbox(car)
    await car.connect(5)
    packet_id = car.publish(f"{unique}/nobody", b"x")
    await until(lambda: bool(sent.pubacks))
    assert sent.pubacks == [(packet_id, mqtt.NO_MATCHING_SUBSCRIBERS)]
    await car.disconnect()


async def test_what_is_not_acknowledged_comes_again_after_a_reconnect_and_in_order(
    mosquitto: BrokerServer, unique: str
) -> None:
    car = MqttSession(f"car-{unique}", mosquitto.endpoints[0], clean_start=True)
    first = MqttSession(
        f"bridge-{unique}", mosquitto.endpoints[0], clean_start=False, session_expiry_s=60
    )
    inbox = Inbox(first, acknowledge=False)
    await first.connect(5)
    await first.subscribe([f"{unique}/#"])
    await car.connect(5)
    for n in range(20):
        car.publish(f"{unique}/t", b"%d" % n)
    await until(lambda: len(inbox.messages) == 20)
    first.acknowledge([message[1] for message in inbox.messages[:5]], first.generation)
    # A dropped connection takes along what the broker has not read: this answer follows the five.
    first.publish(f"read-{unique}", b"")
    await until(lambda: bool(inbox.pubacks))
    await first.drop()
    # A generation that is over is never acknowledged on another connection.
    second = MqttSession(
        f"bridge-{unique}", mosquitto.endpoints[0], clean_start=False, session_expiry_s=60
    )
    again = Inbox(second, acknowledge=False)
    await second.connect(5)
    second.acknowledge([message[1] for message in inbox.messages], second.generation - 1)
    await until(lambda: len(again.messages) == 15)
    assert again.connects == [True]
    assert again.payloads == [b"%d" % n for n in range(5, 20)]
    await second.disconnect()
    await car.disconnect()


async def test_receive_maximum_bounds_what_the_broker_sends_ahead(
    mosquitto: BrokerServer, unique: str
) -> None:
    car = MqttSession(f"car-{unique}", mosquitto.endpoints[0], clean_start=True)
    bridge = MqttSession(
        f"bridge-{unique}", mosquitto.endpoints[0], clean_start=True, receive_maximum=7
    )
    inbox = Inbox(bridge, acknowledge=False)
    await bridge.connect(5)
    await bridge.subscribe([f"{unique}/#"])
    sent = Inbox(car)
    await car.connect(5)
    for n in range(30):
        car.publish(f"{unique}/t", b"%d" % n)
    await until(lambda: len(sent.pubacks) == 30)
    await until(lambda: len(inbox.messages) == 7)
    bridge.acknowledge([m[1] for m in inbox.messages[:3]], bridge.generation)
    await until(lambda: len(inbox.messages) >= 10)
    await bridge.disconnect()
    await car.disconnect()


async def test_a_paused_session_reads_nothing_and_goes_on_where_it_stopped(
    mosquitto: BrokerServer, unique: str
) -> None:
    car = MqttSession(f"car-{unique}", mosquitto.endpoints[0], clean_start=True)
    bridge = MqttSession(
        f"bridge-{unique}", mosquitto.endpoints[0], clean_start=True, keepalive_s=2
    )
    inbox = Inbox(bridge)
    await bridge.connect(5)
    await bridge.subscribe([f"{unique}/#"])
    sent = Inbox(car)
    await car.connect(5)
    car.publish(f"{unique}/t", b"0")
    await until(lambda: len(inbox.messages) == 1)
    bridge.pause()
    for n in range(1, 900):
        car.publish(f"{unique}/t", b"%d" % n + bytes(1000))
    await until(lambda: len(sent.pubacks) == 900)
    seen = len(inbox.messages)
    await asyncio.sleep(3.5)  # three keepalives: the silence must not be taken for a dead broker
    assert len(inbox.messages) == seen < 300
    bridge.resume()
    await until(lambda: len(inbox.messages) == 900)
    assert inbox.disconnects == []
    assert [int(p.rstrip(bytes(1))) for p in inbox.payloads] == list(range(900))
    await bridge.disconnect()
    await car.disconnect()


async def test_a_restarted_broker_gets_the_subscriptions_and_the_unacknowledged_messages_again(
    own_mosquitto: BrokerServer, unique: str
) -> None:
    car = MqttSession(f"car-{unique}", own_mosquitto.endpoints[0], clean_start=True)
    inbox = Inbox(car)
    await car.connect(5)
    await car.subscribe([f"{unique}/#"])
    pause(own_mosquitto.nodes[0])
    ids = [car.publish(f"{unique}/t", b"%d" % n) for n in range(30)]
    own_mosquitto.nodes[0].kill()
    await until(lambda: not car.connected)
    with pytest.raises(MqttOffline):
        car.publish(f"{unique}/t", b"no")
    await asyncio.to_thread(own_mosquitto.restart)
    await until(lambda: len(inbox.payloads) == 30 and len(inbox.pubacks) == 30)
    assert inbox.pubacks == [(packet_id, 0) for packet_id in ids]
    assert inbox.payloads == [b"%d" % n for n in range(30)]
    assert inbox.disconnects == [None]
    assert (car.in_flight, car.generation) == (0, 2)
    await car.disconnect()


async def test_packet_ids_do_not_leak_over_many_lost_connections(
    own_mosquitto: BrokerServer, unique: str
) -> None:
    car = MqttSession(f"car-{unique}", own_mosquitto.endpoints[0], clean_start=True)
    await car.connect(5)
    for round_ in range(2, 6):
        pause(own_mosquitto.nodes[0])
        for _ in range(10):
            car.publish(f"{unique}/t", b"x")
        car.cut()
        resume(own_mosquitto.nodes[0])

        def settled(generation: int = round_) -> bool:
            return car.generation == generation and car.in_flight == 0

        await until(settled)
    assert len(car._outbox) == 0
    await car.disconnect()


async def test_a_session_that_was_taken_over_does_not_come_back() -> None:
    connects = 0

    async def take_over(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connects
        connects += 1
        await reader.read(100)
        writer.write(bytes((0x20, 3, 0, 0, 0)))
        await asyncio.sleep(0.05)
        writer.write(bytes((0xE0, 2, mqtt.SESSION_TAKEN_OVER, 0)))
        writer.close()

    server = await asyncio.start_server(take_over, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    car = MqttSession("car", f"127.0.0.1:{port}", clean_start=True)
    events = Inbox(car)
    await car.connect(5)
    await until(lambda: bool(events.disconnects))
    await asyncio.sleep(0.3)  # several back-offs
    assert events.disconnects == [mqtt.SESSION_TAKEN_OVER]
    assert connects == 1
    server.close()


async def test_two_clients_of_one_id_do_not_fight_faster_and_faster(
    mosquitto: BrokerServer, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # mosquitto closes the older connection without 0x8E, so only the back-off restrains them.
    monkeypatch.setattr(mqtt_link, "_BACKOFF_CAP_S", 60)
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    rivals = [
        MqttSession(f"car-{unique}", mosquitto.endpoints[0], clean_start=True) for _ in range(2)
    ]
    for rival in rivals:
        await rival.connect(5)
    await asyncio.sleep(1.6)  # 0.05 s, 0.1 s, 0.2 s, … : five doublings
    assert 4 <= sum(rival.generation for rival in rivals) <= 12
    for rival in rivals:
        await rival.disconnect()


async def test_a_callback_that_raises_is_reported_and_does_not_end_the_session(
    mosquitto: BrokerServer, unique: str
) -> None:
    loop, reported = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: reported.append(context["message"]))
    try:
        car = MqttSession(f"car-{unique}", mosquitto.endpoints[0], clean_start=True)
        await car.connect(5)
        calls = iter([ValueError("once"), None])

        def back(_session: MqttSession, _present: bool) -> None:
            if (error := next(calls)) is not None:
                raise error

        car.on_connected = back
        car.cut()
        await until(lambda: car.connected and car.generation == 3)
        assert reported == [f"car-{unique}: coming back failed"]
        await car.disconnect()
    finally:
        loop.set_exception_handler(None)


async def test_many_that_come_back_do_not_knock_all_at_once() -> None:
    begun = answered = most = 0
    cut = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal begun, answered, most
        begun += 1
        again = cut.is_set()
        if again:
            most = max(most, begun - answered)
            await asyncio.sleep(0.02)
        await reader.read(100)
        answered += 1
        writer.write(bytes((0x20, 3, 0, 0, 0)))
        if not again:
            await cut.wait()
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    cars = [MqttSession(f"c{n}", f"127.0.0.1:{port}", clean_start=True) for n in range(200)]
    await asyncio.gather(*(car.connect(10) for car in cars))
    cut.set()
    await until(lambda: all(car.generation == 2 and car.connected for car in cars))
    assert 16 <= most <= 64
    for car in cars:
        await car.drop()
    server.close()


async def test_a_dropped_socket_publishes_the_will_and_a_disconnect_does_not(
    mosquitto: BrokerServer, unique: str
) -> None:
    watcher = MqttSession(f"watch-{unique}", mosquitto.endpoints[0], clean_start=True)
    seen = Inbox(watcher)
    await watcher.connect(5)
    await watcher.subscribe([f"{unique}/status"])
    for end in ("disconnect", "drop"):
        car = MqttSession(
            f"car-{unique}",
            mosquitto.endpoints[0],
            clean_start=True,
            will=Will(f"{unique}/status", end.encode(), retain=False),
        )
        await car.connect(5)
        await getattr(car, end)()
    await until(lambda: bool(seen.messages))
    assert seen.payloads == [b"drop"]
    await watcher.disconnect()


async def test_a_retained_message_comes_once_and_not_again_with_the_same_session(
    mosquitto: BrokerServer, unique: str
) -> None:
    car = MqttSession(f"car-{unique}", mosquitto.endpoints[0], clean_start=True)
    await car.connect(5)
    car.publish(f"{unique}/status", b"born", retain=True)
    await until(lambda: car.in_flight == 0)
    for expected in ([b"born"], [b"after"]):
        bridge = MqttSession(
            f"bridge-{unique}", mosquitto.endpoints[0], clean_start=False, session_expiry_s=60
        )
        inbox = Inbox(bridge)
        await bridge.connect(5)
        await bridge.subscribe([f"{unique}/status"])
        if expected == [b"after"]:
            car.publish(f"{unique}/status", b"after")

        def heard(box: Inbox = inbox) -> bool:
            return bool(box.messages)

        await until(heard)
        assert inbox.payloads == expected
        await bridge.disconnect()
    car.publish(f"{unique}/status", b"", retain=True)
    await until(lambda: car.in_flight == 0)
    await car.disconnect()


async def test_publishing_beyond_the_brokers_limits_raises_and_takes_no_packet_id(
    own_mosquitto: BrokerServer, unique: str
) -> None:
    car = MqttSession(f"car-{unique}", own_mosquitto.endpoints[0], clean_start=True)
    await car.connect(5)
    with pytest.raises(MqttTooLarge, match=r"exceeds the maximum of \d+ bytes"):
        car.publish(f"{unique}/t", bytes(car.maximum_packet_size))
    pause(own_mosquitto.nodes[0])
    try:
        for _ in range(car._outbox.window):
            car.publish(f"{unique}/t", b"x")
        with pytest.raises(MqttWindowFull):
            car.publish(f"{unique}/t", b"x")
        assert len(car._outbox) == car._outbox.window == car.in_flight
    finally:
        resume(own_mosquitto.nodes[0])
    await until(lambda: car.in_flight == 0)
    await car.disconnect()


async def test_connecting_to_nobody_or_to_a_mute_server_fails_in_time_and_says_where() -> None:
    (port,) = free_ports(1)
    nobody = MqttSession("car", f"127.0.0.1:{port}", clean_start=True)
    with pytest.raises(UnreachableError, match=f"127.0.0.1:{port}"):
        await nobody.connect(5)
    with pytest.raises(UnreachableError, match="no answer within"):
        await nobody.connect(0.3, retry=True)
    mute = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = mute.sockets[0].getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(UnreachableError, match="no answer within"):
        await MqttSession("car", f"127.0.0.1:{port}", clean_start=True).connect(0.3)
    assert time.monotonic() - begun < 3
    mute.close()


async def test_a_session_binds_the_source_address_it_is_given() -> None:
    peers: list[str] = []

    async def look(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("peername")[0])
        writer.close()

    server = await asyncio.start_server(look, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    car = MqttSession("car", f"127.0.0.1:{port}", clean_start=True, source_address="127.0.0.7")
    with pytest.raises(UnreachableError):
        await car.connect(5)
    assert peers == ["127.0.0.7"]
    server.close()
