"""A car's life on MQTT, with a session in place of a broker."""

import asyncio
import json
import time
from typing import Any

import numpy as np
import pytest

from motorcade.fleet import messages
from motorcade.fleet.messages import CommandRequest, VehicleStatus
from motorcade.runtime.mqtt import Sent
from motorcade.runtime.mqtt_options import Access
from motorcade.runtime.mqtt_packets import encode_properties, parse_publish, publish
from motorcade.simulator import car_session
from motorcade.simulator.car_kit import CarKit
from motorcade.simulator.car_session import CarSession
from motorcade.simulator.deliveries import Deliveries
from motorcade.simulator.ledger import BootRecord
from motorcade.simulator.measures import STATES, Measures, Tally
from motorcade.simulator.payload import topic_of

VIN = "MC9ABT5E7T0000000"
BASE = f"fleet/v1/00/{VIN}"
NOW_MS = 1_700_000_000_000


class FakeSession:
    """Stands for MqttSession: takes what is published and lets the test acknowledge it."""

    def __init__(self, client_id: str, endpoint: str, **options: Any) -> None:
        self.client_id = client_id
        self.endpoint = endpoint
        self.connected = False
        self.generation = 1
        self.will: Any = None
        self.ended = False
        self.accepted_at = self.away_until = 0.0
        self.published: list[tuple[int, str, bytes, dict[str, Any]]] = []
        self.acknowledged: list[int] = []
        self.filters: list[str] = []
        self.unacknowledged: set[int] = set()

    @property
    def in_flight(self) -> int:
        return len(self.unacknowledged)

    async def connect(self, timeout_s: float, *, retry: bool) -> None:
        self.come_online()

    async def subscribe(self, filters: list[str]) -> None:
        self.filters += filters

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, **properties: Any) -> int:
        packet_id = len(self.published) + 1 if qos else 0
        self.published.append((packet_id, topic, payload, properties))
        if packet_id:
            self.unacknowledged.add(packet_id)
        return packet_id

    def send(self, message: Sent, qos: int) -> int:
        packet = publish(b"", b"", 0, False, message.properties)
        properties = parse_publish(packet[0], packet[2:]).properties
        return self.publish(message.topic.decode(), message.payload, qos=qos, **properties)

    def acknowledge(self, packet_ids: tuple[int, ...], generation: int) -> None:
        assert generation == self.generation
        self.acknowledged += packet_ids

    async def disconnect(self) -> None:
        self.connected = False

    def come_online(self) -> None:
        self.connected = True
        self.accepted_at = time.monotonic()
        self.on_connected(self, False)  # type: ignore[attr-defined]

    def go_offline(self) -> None:
        self.connected = False
        self.on_disconnected(self, None)  # type: ignore[attr-defined]

    def cut(self, away_s: float = 0.0) -> None:
        self.away_s = away_s
        self.away_until = time.monotonic() + away_s
        self.go_offline()

    def puback(self, packet_id: int, reason_code: int = 0) -> None:
        self.unacknowledged.discard(packet_id)
        self.on_puback(self, packet_id, reason_code)  # type: ignore[attr-defined]

    def on(self, kind: str) -> list[bytes]:
        return [payload for _, topic, payload, _ in self.published if topic == f"{BASE}/{kind}"]

    def last_id(self) -> int:
        return self.published[-1][0]


@pytest.fixture
def measures() -> Measures:
    return Measures()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def car(monkeypatch: pytest.MonkeyPatch, measures: Measures) -> CarSession:
    monkeypatch.setattr(car_session, "MqttSession", FakeSession)
    deliveries = Deliveries()
    kit = CarKit(
        endpoints=("127.0.0.1:1883",),
        qos=1,
        in_flight=2,
        buffer=3,
        keepalive_s=60,
        session_expiry_s=0,
        aliases=0,
        access=Access(tls=None, credentials=None),
        sources=(None,),
        topic=topic_of(None),
        properties=encode_properties({"content_type": "application/json"}),
        measures=measures,
        tally=Tally(1),
        deliveries=deliveries,
        now_ms=lambda: NOW_MS,
    )
    return CarSession(VIN, 77, 0, deliveries.open(0, 77), kit)


def session_of(car: CarSession) -> FakeSession:
    return car._session  # type: ignore[return-value]


def send(car: CarSession, *seqs: int) -> None:
    for seq in seqs:
        car.send(seq, seq, NOW_MS, f"{seq}".encode())


def ledger_of(car: CarSession) -> BootRecord:
    [record] = car._kit.deliveries.columns(np.array([VIN], dtype="S17")).records()
    return record


def cars_in(car: CarSession) -> dict[str, int]:
    return {name: n for name, n in zip(STATES, car._kit.tally.cars[0], strict=True) if n}


async def test_a_car_listens_for_commands_before_it_announces_its_birth(car: CarSession) -> None:
    assert await car.start()
    session = session_of(car)
    assert session.filters == [f"{BASE}/commands/request"]
    [(_, topic, payload, properties)] = session.published
    assert topic == f"{BASE}/status"
    assert properties["retain"]
    assert messages.decode(VehicleStatus, payload) == VehicleStatus(
        VIN, 77, 1, True, "127.0.0.1:1883"
    )


async def test_the_will_speaks_of_its_own_connection(car: CarSession) -> None:
    session = session_of(car)
    await car.start()
    assert json.loads(session.will.payload)["connection"] == 1
    session.go_offline()
    will = messages.decode(VehicleStatus, session.will.payload)
    assert (will.connection, will.online, will.boot) == (2, False, 77)
    session.come_online()
    assert json.loads(session.on("status")[-1])["connection"] == 2


async def test_sent_and_acknowledged_are_told_apart(car: CarSession, measures: Measures) -> None:
    await car.start()
    send(car, 1, 2)
    session_of(car).puback(session_of(car).last_id())
    assert ledger_of(car).sent == [(1, 2)]
    assert ledger_of(car).acked == [(2, 2)]
    assert len(measures.batch.puback_ms) == 1


async def test_what_the_window_does_not_take_goes_out_with_an_acknowledgement(
    car: CarSession,
) -> None:
    await car.start()
    send(car, 1, 2, 3)
    session = session_of(car)
    assert session.on("telemetry") == [b"1", b"2"]
    session.puback(session.last_id())
    assert session.on("telemetry") == [b"1", b"2", b"3"]


async def test_an_offline_car_keeps_the_newest_and_counts_what_it_drops(
    car: CarSession, measures: Measures
) -> None:
    await car.start()
    session = session_of(car)
    session.go_offline()
    send(car, 1, 2, 3, 4, 5)
    assert ledger_of(car).dropped == measures.counts.dropped == 2
    session.come_online()
    assert session.on("telemetry") == [b"3", b"4"]
    assert ledger_of(car).sent == [(3, 4)]


async def test_a_trouble_code_is_never_dropped(car: CarSession) -> None:
    await car.start()
    session = session_of(car)
    session.go_offline()
    record = car.report_failure("P0217", "coolant_leak", 5, "hot")
    send(car, 1, 2, 3, 4, 5)
    session.come_online()
    [dtc] = session.on("dtc")
    assert json.loads(dtc)["code"] == "P0217"
    assert not record.acked
    packet_id = next(i for i, topic, _, _ in session.published if topic.endswith("/dtc"))
    session.puback(packet_id)
    assert record.acked


@pytest.mark.parametrize("code", [0x10, 0x97], ids=["nobody has subscribed", "quota exceeded"])
async def test_a_message_that_may_come_again_is_sent_again_after_a_pause(
    car: CarSession, measures: Measures, clock: list[float], code: int
) -> None:
    await car.start()
    session = session_of(car)
    send(car, 1)
    session.puback(session.last_id(), code)
    send(car, 2)
    assert session.on("telemetry") == [b"1"]
    assert not ledger_of(car).acked
    await passes(clock, 2)
    assert session.on("telemetry") == [b"1", b"1", b"2"]
    assert measures.counts.unheard == 1


async def passes(clock: list[float], seconds: float) -> None:
    clock[0] += seconds
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.parametrize("refused", [(1, 2), (2, 1), (1, 2, 3), (3, 1, 2)])
async def test_messages_refused_for_now_come_again_in_their_order(
    car: CarSession, measures: Measures, clock: list[float], refused: tuple[int, ...]
) -> None:
    object.__setattr__(car._kit, "in_flight", 4)
    object.__setattr__(car._kit, "buffer", 10)
    await car.start()
    session = session_of(car)
    on_wire = list(range(1, len(refused) + 1))
    send(car, *on_wire)
    ids = {payload: packet_id for packet_id, _, payload, _ in session.published}
    for seq in refused:
        session.puback(ids[b"%d" % seq], 0x10)
    send(car, 4)
    await passes(clock, 2)
    again = session.on("telemetry")[len(refused) :]
    assert again == [b"%d" % seq for seq in (*on_wire, 4)]
    assert measures.counts.overtaken == 0


async def test_what_was_accepted_behind_a_refused_message_overtakes_it_and_is_counted(
    car: CarSession, measures: Measures, clock: list[float]
) -> None:
    object.__setattr__(car._kit, "in_flight", 4)
    await car.start()
    session = session_of(car)
    send(car, 1, 2, 3)
    first, second, third = (packet_id for packet_id, *_ in session.published[-3:])
    session.puback(first, 0x97)
    session.puback(second)
    session.puback(third)
    send(car, 4)
    assert session.on("telemetry") == [b"1", b"2", b"3"]  # held, so that no more overtake
    await passes(clock, 2)
    assert session.on("telemetry") == [b"1", b"2", b"3", b"1", b"4"]
    assert measures.counts.overtaken == 1


async def test_trouble_codes_refused_for_now_come_again_in_their_order_and_by_themselves(
    car: CarSession, clock: list[float]
) -> None:
    await car.start()
    car.park()
    session = session_of(car)
    codes = ["P0217", "P0300"]
    for code in codes:
        car.report_failure(code, "misfire", 5, "")
    for packet_id in [packet_id for packet_id, *_ in session.published[-2:]]:
        session.puback(packet_id, 0x10)
    await passes(clock, 0.5)
    assert len(session.on("dtc")) == 2
    await passes(clock, 1)
    assert [json.loads(dtc)["code"] for dtc in session.on("dtc")] == codes * 2


async def test_the_last_message_of_a_car_comes_again_by_itself(
    car: CarSession, clock: list[float]
) -> None:
    await car.start()
    session = session_of(car)
    send(car, 1)
    session.puback(session.last_id(), 0x97)
    await passes(clock, 2)
    assert session.on("telemetry") == [b"1", b"1"]


async def test_a_car_that_stopped_sends_nothing_again(car: CarSession, clock: list[float]) -> None:
    await car.start()
    session = session_of(car)
    send(car, 1)
    session.puback(session.last_id(), 0x97)
    await car.stop(drain_s=0)
    session.connected = True
    await passes(clock, 2)
    assert session.on("telemetry") == [b"1"]
    assert ledger_of(car).unsent == 1


async def test_a_refused_message_is_counted_and_not_acknowledged(
    car: CarSession, measures: Measures
) -> None:
    await car.start()
    send(car, 1)
    session_of(car).puback(session_of(car).last_id(), 0x87)
    assert not ledger_of(car).acked
    assert ledger_of(car).refused == measures.counts.refused == 1


async def test_a_command_is_answered_with_its_correlation_and_then_acknowledged(
    car: CarSession,
) -> None:
    await car.start()
    session = session_of(car)
    request = CommandRequest("c1", VIN, "driver_warning", NOW_MS, NOW_MS + 1000)
    car._received(
        session,  # type: ignore[arg-type]
        9,
        f"{BASE}/commands/request",
        messages.encode(request),
        {"correlation_data": b"c1"},
    )
    [answer] = session.on("commands/response")
    assert json.loads(answer)["status"] == "SUCCEEDED"
    assert session.published[-1][3]["correlation_data"] == b"c1"
    assert session.acknowledged == [9]


async def test_a_command_that_cannot_be_read_is_acknowledged_and_leaves_the_car_alive(
    car: CarSession,
) -> None:
    await car.start()
    session = session_of(car)
    car._received(session, 4, f"{BASE}/commands/request", b"{", {})  # type: ignore[arg-type]
    assert session.on("commands/response") == []
    assert session.acknowledged == [4]


async def test_a_car_that_stops_says_so_and_accounts_for_what_it_still_held(
    car: CarSession,
) -> None:
    await car.start()
    session = session_of(car)
    session.go_offline()
    send(car, 1, 2)
    await car.stop(drain_s=0.1)
    assert ledger_of(car).unsent == 2
    car2_status = session.on("status")
    assert len(car2_status) == 1  # offline, the will speaks


async def test_a_stopping_car_waits_for_its_last_acknowledgement(car: CarSession) -> None:
    await car.start()
    session = session_of(car)
    send(car, 1)
    for packet_id in list(session.unacknowledged):
        session.puback(packet_id)
    real_publish = session.publish

    def publish_and_acknowledge(*arguments: Any, **options: Any) -> int:
        packet_id = real_publish(*arguments, **options)
        session.puback(packet_id)
        return packet_id

    session.publish = publish_and_acknowledge  # type: ignore[method-assign]
    await car.stop(drain_s=5)
    assert json.loads(session.on("status")[-1])["online"] is False
    assert not session.connected


async def test_where_nobody_subscribes_a_message_without_a_subscriber_is_delivered(
    car: CarSession, measures: Measures
) -> None:
    object.__setattr__(car._kit, "consumed", False)
    await car.start()
    session = session_of(car)
    send(car, 1)
    session.puback(session.last_id(), 0x10)
    assert ledger_of(car).acked == [(1, 1)]
    assert measures.counts.unheard == 0


async def test_a_car_in_a_tunnel_measures_on_and_forwards_what_it_kept(car: CarSession) -> None:
    await car.start()
    session = session_of(car)
    car.lose_signal(120)
    assert session.away_s == 120
    assert cars_in(car) == {"offline": 1}
    send(car, 1, 2)
    assert car._kit.tally.waiting == 2
    session.come_online()
    assert session.on("telemetry") == [b"1", b"2"]
    assert cars_in(car) == {"driving": 1}
    assert (car._kit.tally.waiting, car._kit.tally.in_flight) == (0, 2)


async def test_the_tally_follows_a_car_from_its_start_to_its_stop(car: CarSession) -> None:
    assert cars_in(car) == {"connecting": 1}
    await car.start()
    session = session_of(car)
    session.go_offline()
    assert cars_in(car) == {"reconnecting": 1}
    session.come_online()
    car.park()
    assert cars_in(car) == {"parked": 1}
    send(car, 1)
    await car.stop(drain_s=0)
    assert cars_in(car) == {}
    assert (car._kit.tally.waiting, car._kit.tally.in_flight) == (0, 0)


async def test_a_batch_counts_with_all_its_samples(car: CarSession) -> None:
    await car.start()
    car.send(1, 4, NOW_MS, b"[1,2,3,4]")
    session_of(car).puback(session_of(car).last_id())
    assert ledger_of(car).sent == ledger_of(car).acked == [(1, 4)]


async def test_connecting_counts_from_when_the_car_was_wanted_to_its_connack(
    car: CarSession, measures: Measures, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def subscribe(_filters: list[str]) -> None:
        clock[0] += 5  # is no part of it

    monkeypatch.setattr(session_of(car), "subscribe", subscribe)
    clock[0] += 3  # in the queue of those that connect
    await car.start(wanted_at=100.0)
    assert measures.batch.connect_ms == [3000]
    assert measures.batch.reconnect_ms == []


async def test_reconnecting_counts_from_the_loss_and_after_a_tunnel_from_its_end(
    car: CarSession, measures: Measures, clock: list[float]
) -> None:
    await car.start()
    session = session_of(car)
    session.go_offline()
    clock[0] += 2
    session.come_online()
    car.lose_signal(60)
    clock[0] += 61
    session.come_online()
    assert measures.batch.reconnect_ms == [2000, 1000]
    assert len(measures.batch.connect_ms) == 1
    measures.flush()
    assert measures.histograms["reconnect"].get_total_count() == 2
