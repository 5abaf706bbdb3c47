"""The same load on every broker: what it costs, and what is lost when a node is killed in it."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from bench.brokers.nodes import Nodes
from motorcade.fleet import mqtt_topics
from motorcade.fleet.vin import generate_vin
from motorcade.runtime.mqtt import MqttOffline, MqttSession, MqttWindowFull, Properties

#: What a car's JSON telemetry takes.
PAYLOAD_BYTES = 650
_AT_A_TIME = 50
_TICK_S = 0.01
_WARM_S = 4.0
_IDLE_S = 2.0
_DOWN_S = 3.0
_QUIET_S = 4.0
#: Longest wait for what is missing, and the silence after which nothing more is expected: Artemis
#: was seen to deliver 24 s after a node's return.
_DRAIN_S = 45.0
_SILENCE_S = 25.0
_QUEUED = 200


@dataclass(frozen=True)
class Cost:
    """What the nodes together spend; their idle CPU is taken off.

    Args:
        idle_cpu_share: of one core, with nobody connected.
        connect_us, message_us: CPU per connection, and per message in and out again at QoS 1.
        connection_kb: memory per connection with one subscription.
        rss_mb: memory of all nodes under load.
    """

    idle_cpu_share: float
    connect_us: float
    message_us: float
    connection_kb: float
    rss_mb: float


@dataclass(frozen=True)
class Loss:
    """What became of the messages when a node was killed and came back.

    Args:
        acknowledged: messages the broker had taken.
        lost, duplicated, reordered: of these, as persistent subscribers on every node saw them.
        latest_s: when the last message came, counted from the node's return.
        queued_before, queued_meanwhile: of 200 messages for a session that was away from the node,
            how many it found afterwards: sent before the kill, and from another node while the
            node was dead (None in a farm).
    """

    acknowledged: int
    lost: int
    duplicated: int
    reordered: int
    latest_s: float
    queued_before: int
    queued_meanwhile: int | None


@dataclass
class _Seen:
    """What the subscribers got."""

    times: Counter[tuple[int, int]] = field(default_factory=Counter)
    newest: dict[int, int] = field(default_factory=dict)
    reordered: int = 0
    last: float = 0.0

    def take(
        self, session: MqttSession, packet_id: int, _topic: str, payload: bytes, _: Properties
    ) -> None:
        if packet_id:
            session.acknowledge([packet_id], session.generation)
        car, seq = (int(part) for part in bytes(payload).split(b" ", 2)[:2])
        first = (car, seq) not in self.times
        self.times[car, seq] += 1
        if first:
            self.last = time.monotonic()
            self.reordered += seq < self.newest.get(car, 0)
            self.newest[car] = max(seq, self.newest.get(car, 0))


class _Fleet:
    """Cars that publish in turn."""

    def __init__(self, endpoints: list[str], cars: int) -> None:
        self._vins = [generate_vin(7, index) for index in range(cars)]
        self._sessions = [
            MqttSession(
                vin, endpoints[index % len(endpoints)], clean_start=True, session_expiry_s=120
            )
            for index, vin in enumerate(self._vins)
        ]
        self._waiting: list[dict[int, int]] = [{} for _ in range(cars)]
        self._next = [1] * cars
        self.acknowledged: set[tuple[int, int]] = set()
        for index, session in enumerate(self._sessions):
            session.on_puback = self._note(index)

    def _note(self, car: int) -> Callable[[MqttSession, int, int], None]:
        def puback(_: MqttSession, packet_id: int, code: int) -> None:
            seq = self._waiting[car].pop(packet_id, 0)
            if seq and code == 0:
                self.acknowledged.add((car, seq))

        return puback

    async def connect(self) -> None:
        gate = asyncio.Semaphore(_AT_A_TIME)

        async def one(session: MqttSession, vin: str) -> None:
            async with gate:
                await session.connect(30, retry=True)
                await session.subscribe([mqtt_topics.topic(vin, mqtt_topics.COMMAND_REQUEST)])

        await asyncio.gather(*map(one, self._sessions, self._vins))

    async def disconnect(self) -> None:
        await asyncio.gather(*(session.disconnect() for session in self._sessions))

    async def publish(self, rate: float, until: Callable[[], bool]) -> int:
        """Publish at a rate, car after car, until told to end; how many were sent."""
        began, sent, turn = time.monotonic(), 0, 0
        while not until():
            for _ in range(round((time.monotonic() - began) * rate) - turn):
                sent += self._publish(turn % len(self._vins))
                turn += 1
            await asyncio.sleep(_TICK_S)
        return sent

    def _publish(self, car: int) -> bool:
        seq = self._next[car]
        payload = (b"%d %d " % (car, seq)).ljust(PAYLOAD_BYTES, b"x")
        topic = mqtt_topics.topic(self._vins[car], mqtt_topics.TELEMETRY)
        try:
            packet_id = self._sessions[car].publish(topic, payload)
        except (MqttOffline, MqttWindowFull):
            return False
        self._waiting[car][packet_id] = seq
        self._next[car] += 1
        return True

    async def settled(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while any(self._waiting) and time.monotonic() < deadline:
            await asyncio.sleep(_TICK_S)


async def measure(nodes: Nodes, cars: int, rate: float, seconds: float) -> tuple[Cost, Loss]:
    """Connects a fleet, publishes, and kills a node.

    Args:
        nodes: the broker.
        cars: connections.
        rate: messages a second.
        seconds: how long the cost is measured.
    """
    endpoints = [str(endpoint) for endpoint in nodes.broker.endpoints]
    began, before = time.monotonic(), nodes.cpu_s()
    await asyncio.sleep(_IDLE_S)
    idle = (nodes.cpu_s() - before) / (time.monotonic() - began)

    # The first time for memory, which is freed but not given back; the second for CPU, warm.
    rss, warming = nodes.rss_bytes(), _Fleet(endpoints, cars)
    await warming.connect()
    connection = (nodes.rss_bytes() - rss) / cars
    await warming.disconnect()
    fleet, seen = _Fleet(endpoints, cars), _Seen()
    began, before = time.monotonic(), nodes.cpu_s()
    await fleet.connect()
    connect_s = nodes.cpu_s() - before - idle * (time.monotonic() - began)

    slots = await _slots(nodes, endpoints, seen)
    await fleet.publish(rate, _after(_WARM_S))
    began, before = time.monotonic(), nodes.cpu_s()
    sent = await fleet.publish(rate, _after(seconds))
    spent = nodes.cpu_s() - before - idle * (time.monotonic() - began)
    cost = Cost(
        idle, connect_s / cars * 1e6, spent / sent * 1e6, connection / 1e3, nodes.rss_bytes() / 1e6
    )
    loss = await _with_a_kill(nodes, fleet, seen, rate)
    await asyncio.gather(fleet.disconnect(), *(slot.disconnect() for slot in slots))
    return cost, loss


def _after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


async def _slots(nodes: Nodes, endpoints: list[str], seen: _Seen) -> list[MqttSession]:
    """Persistent subscribers that together hear every car, as the bridge's."""
    found = []
    for slot in mqtt_topics.slots(
        2 * len(endpoints), len(endpoints), clustered=nodes.broker.clustered
    ):
        session = MqttSession(
            slot.client_id, endpoints[slot.endpoint], clean_start=False, session_expiry_s=600
        )
        session.on_message = seen.take
        await session.connect(30, retry=True)
        await session.subscribe(slot.filters())
        found.append(session)
    return found


async def _with_a_kill(nodes: Nodes, fleet: _Fleet, seen: _Seen, rate: float) -> Loss:
    victim = len(nodes.processes) // 2
    away = _Away(nodes, victim)
    await away.queue("before", nodes.broker.clustered)
    ended = asyncio.Event()
    publishing = asyncio.create_task(fleet.publish(rate, ended.is_set))
    await asyncio.sleep(1)
    await asyncio.to_thread(nodes.kill, victim)
    if nodes.broker.clustered:
        await away.queue("meanwhile", clustered=True)
    await asyncio.sleep(_DOWN_S)
    nodes.start_again(victim)
    await asyncio.to_thread(nodes.until_ready)
    back = time.monotonic()
    await asyncio.sleep(2)
    ended.set()
    await publishing
    await fleet.settled(_SILENCE_S)
    await _all_came(seen, fleet)
    found = await away.found()
    acknowledged = fleet.acknowledged
    return Loss(
        acknowledged=len(acknowledged),
        lost=len(acknowledged - seen.times.keys()),
        duplicated=sum(seen.times.values()) - len(seen.times),
        reordered=seen.reordered,
        latest_s=max(0.0, seen.last - back),
        queued_before=found["before"],
        queued_meanwhile=found["meanwhile"] if nodes.broker.clustered else None,
    )


async def _all_came(seen: _Seen, fleet: _Fleet) -> None:
    """Wait until everything has come, or nothing more comes."""
    now = time.monotonic()
    while time.monotonic() < min(now + _DRAIN_S, max(now, seen.last) + _SILENCE_S):
        if fleet.acknowledged <= seen.times.keys():
            return
        await asyncio.sleep(0.2)


class _Away:
    """A session of the node that is going to be killed, away while messages queue for it."""

    def __init__(self, nodes: Nodes, victim: int) -> None:
        self._endpoints = [str(endpoint) for endpoint in nodes.broker.endpoints]
        self._home = self._endpoints[victim]
        self._found: Counter[str] = Counter()

    def _session(self) -> MqttSession:
        return MqttSession("away", self._home, clean_start=False, session_expiry_s=600)

    async def queue(self, label: str, clustered: bool) -> None:
        """Queue 200 messages, in a cluster through another node."""
        if label == "before":
            session = self._session()
            await session.connect(30, retry=True)
            await session.subscribe(["away/#"])
            await asyncio.sleep(1)  # the others learn of it
            await session.disconnect()
        through = self._endpoints[0] if clustered else self._home
        publisher = MqttSession(f"queues-{label}", through, clean_start=True)
        await publisher.connect(30, retry=True)
        for number in range(_QUEUED):
            publisher.publish(f"away/{label}", b"%d" % number)
        while publisher.in_flight:
            await asyncio.sleep(_TICK_S)
        await publisher.disconnect()

    async def found(self) -> Counter[str]:
        """Come back and count."""
        last = time.monotonic()

        def take(
            session: MqttSession, packet_id: int, topic: str, _payload: bytes, _: Properties
        ) -> None:
            nonlocal last
            session.acknowledge([packet_id], session.generation)
            self._found[topic.removeprefix("away/")] += 1
            last = time.monotonic()

        session = self._session()
        session.on_message = take
        await session.connect(30, retry=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                while time.monotonic() < last + _QUIET_S:
                    await asyncio.sleep(0.1)
        await session.disconnect()
        return self._found
