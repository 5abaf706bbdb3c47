"""Fifty cars under a Locust master and two workers, on a real broker."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import pytest

from motorcade.fleet import messages, mqtt_topics
from motorcade.fleet.clock import RunClock
from motorcade.fleet.messages import CommandRequest, CommandResponse, CommandState
from motorcade.fleet.vin import generate_vin
from motorcade.runtime.mqtt import MqttSession
from motorcade.simulator import commands, ledger
from motorcade.simulator.intervals import IntervalSet
from motorcade.simulator.master_state import problems_of
from motorcade.simulator.settings import SimulatorSettings
from motorcade.stack.ports import free_ports
from motorcade.stack.program import Program

from .servers import BrokerServer, Running, launch

CARS = 50
SEED = 77
START_S = 90


@dataclass
class Tap:
    """Hears everything that cars say."""

    session: MqttSession
    #: seqs as they came, by (vin, boot).
    seqs: dict[tuple[str, int], list[int]] = field(default_factory=lambda: defaultdict(list))
    by_kind: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    def hear(
        self, session: MqttSession, packet_id: int, topic: str, payload: bytes, _: Any
    ) -> None:
        body = json.loads(payload)
        kind = mqtt_topics.parse(topic).kind
        if kind == mqtt_topics.TELEMETRY:
            self.seqs[body["vin"], body["boot"]].append(body["seq"])
        else:
            self.by_kind[kind].append(body)
        if packet_id:
            session.acknowledge([packet_id], session.generation)

    @property
    def vins(self) -> set[str]:
        return {vin for vin, _ in self.seqs}

    @property
    def offline(self) -> set[str]:
        """Cars that said farewell, or for which the broker published their will."""
        return {s["vin"] for s in self.by_kind[mqtt_topics.STATUS] if not s["online"]}


@dataclass
class Simulator:
    """Master and workers as the stack starts them, and HTTP to the master."""

    settings: SimulatorSettings
    master: Running
    workers: list[Running]
    http: aiohttp.ClientSession

    async def get(self, path: str) -> Any:
        async with self.http.get(path) as response:
            return await response.json()

    async def post(self, path: str, **options: Any) -> tuple[int, Any]:
        async with self.http.post(path, **options) as response:
            return response.status, await response.json()

    async def swarm(self, cars: int, per_s: int = 50) -> None:
        _, answer = await self.post("/swarm", data={"user_count": cars, "spawn_rate": per_s})
        assert answer["success"]

    async def stop(self) -> None:
        await self.post("/stop")
        await self.until(lambda fleet: fleet["stopped"])
        status, answer = await self.post("/motorcade/ledger")
        assert status == 200
        assert len(answer["ledgers"]) == len(self.workers)

    async def until(
        self, reached: Callable[[dict[str, Any]], bool], timeout_s: float = 60
    ) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while True:
            fleet = await self.get("/motorcade/fleet")
            if reached(fleet):
                return dict(fleet)
            if time.monotonic() > deadline:
                pytest.fail(f"not reached in {timeout_s} s: {json.dumps(fleet)}")
            await asyncio.sleep(0.1)


@pytest.fixture
async def tap(own_mosquitto: BrokerServer) -> AsyncIterator[Tap]:
    session = MqttSession("tap", own_mosquitto.endpoints[0], clean_start=True)
    heard = Tap(session)
    session.on_message = heard.hear
    await session.connect(10)
    await session.subscribe(["fleet/v1/#"])
    yield heard
    await session.disconnect()


async def start(broker: BrokerServer, folder: Path, **changes: Any) -> Simulator:
    master_port, web_port = free_ports(2)
    now = time.time_ns() // 1_000_000
    settings = SimulatorSettings(
        cars=CARS,
        seed=SEED,
        interval_s=0.5,
        workers=2,
        brokers=broker.endpoints,
        run_dir=folder / "run",
        clock=str(RunClock(now, now, 600.0)),
        master_port=master_port,
        web_port=web_port,
    ).model_copy(update=changes)
    argv, env = commands.master_argv(settings), commands.master_env(settings)
    master = launch(Program("master", tuple(argv), env), folder)
    workers = [
        launch(
            Program(
                f"worker-{n}",
                tuple(commands.worker_argv(settings)),
                commands.worker_env(settings, n),
            ),
            folder,
        )
        for n in range(settings.workers)
    ]
    http = aiohttp.ClientSession(f"http://{settings.web_host}:{settings.web_port}")
    simulator = Simulator(settings, master, workers, http)
    deadline = time.monotonic() + START_S
    while not await ready(simulator):
        if time.monotonic() > deadline:
            pytest.fail("\n".join(one.log[-2000:] for one in (master, *workers)))
        await asyncio.sleep(0.1)
    return simulator


async def ready(simulator: Simulator) -> bool:
    try:
        return bool((await simulator.get("/readyz"))["ready"])
    except aiohttp.ClientError:
        return False


@pytest.fixture
async def simulator(
    own_mosquitto: BrokerServer, tap: Tap, tmp_path: Path
) -> AsyncIterator[Simulator]:
    running = await start(own_mosquitto, tmp_path / "simulator")
    yield running
    await running.http.close()
    for one in (running.master, *running.workers):
        one.stop()


def vins(cars: int) -> set[str]:
    return {generate_vin(SEED, index) for index in range(cars)}


def online(fleet: dict[str, Any], cars: int) -> bool:
    return bool(fleet["cars"].get("driving") == cars and fleet["users"] == cars)


async def test_everything_acknowledged_was_received_once_in_order_from_distinct_cars(
    simulator: Simulator, tap: Tap
) -> None:
    await simulator.swarm(CARS)
    await simulator.until(lambda fleet: online(fleet, CARS) and fleet["acked"] > 10 * CARS)
    await simulator.stop()

    account = ledger.load(simulator.settings.run_dir)
    assert not account.unfinished
    assert {vin for vin, _ in account.boots} == tap.vins == vins(CARS)
    for vin, boot, acked in account.acknowledged():
        assert tap.seqs[vin, boot] == list(range(1, len(acked) + 1)), vin
        assert acked.spans == [(1, len(acked))]
    assert account.counts["acked"] == account.counts["sent"]
    assert account.histograms["puback"].total_count == account.counts["acked"]
    births = [s for s in tap.by_kind[mqtt_topics.STATUS] if s["online"]]
    assert {s["vin"] for s in births} == tap.offline == vins(CARS)
    assert problems_of(simulator.settings.run_dir) == []


async def test_the_fleet_ramps_up_and_down_and_a_car_that_starts_again_has_a_newer_boot(
    simulator: Simulator, tap: Tap
) -> None:
    await simulator.swarm(40)
    await simulator.until(lambda fleet: online(fleet, 40))
    await simulator.swarm(11)
    await simulator.until(lambda fleet: online(fleet, 11) and not fleet["stopping"])
    await simulator.swarm(25)
    await simulator.until(lambda fleet: online(fleet, 25))
    await simulator.stop()
    await simulator.swarm(25)
    await simulator.until(lambda fleet: online(fleet, 25))
    await simulator.stop()

    account = ledger.load(simulator.settings.run_dir)
    boots = defaultdict(list)
    for vin, boot, sent in account.sent():
        boots[vin].append(boot)
        assert not sent or tap.seqs[vin, boot] == list(sent)
    assert set(boots) == vins(40)
    assert all(times == sorted(set(times)) for times in boots.values())
    counts = [len(boots[generate_vin(SEED, index)]) for index in range(40)]
    assert counts == [2] * 11 + [3] * 14 + [1] * 15


async def test_a_driver_warning_is_answered(simulator: Simulator, tap: Tap) -> None:
    await simulator.swarm(5)
    await simulator.until(lambda fleet: online(fleet, 5))
    vin = generate_vin(SEED, 3)
    now = time.time_ns() // 1_000_000
    request = CommandRequest("warn-1", vin, "driver_warning", now, now + 60_000)
    topic = mqtt_topics.topic(vin, mqtt_topics.COMMAND_REQUEST)
    tap.session.publish(topic, messages.encode(request), correlation_data=b"warn-1")
    deadline = time.monotonic() + 10
    while not tap.by_kind[mqtt_topics.COMMAND_RESPONSE]:
        assert time.monotonic() < deadline, "no answer"
        await asyncio.sleep(0.05)
    [answer] = tap.by_kind[mqtt_topics.COMMAND_RESPONSE]
    response = messages.decode(CommandResponse, json.dumps(answer).encode())
    assert (response.id, response.vin) == ("warn-1", vin)
    assert response.status is CommandState.SUCCEEDED


async def test_a_fault_ends_in_a_trouble_code_and_the_car_is_parked(
    simulator: Simulator, tap: Tap
) -> None:
    await simulator.swarm(10)
    await simulator.until(lambda fleet: online(fleet, 10))
    status, [fault] = await simulator.post(
        "/motorcade/faults", json={"count": 1, "kinds": ["coolant_leak"], "duration_s": 600}
    )
    assert status == 200
    fleet = await simulator.until(lambda fleet: fleet["cars"].get("parked") == 1)
    assert (fleet["faults"], fleet["failures"]) == (1, 1)
    told = await simulator.get("/motorcade/truth")
    [failure] = told["failures"]
    [dtc] = tap.by_kind[mqtt_topics.DTC]
    vin = generate_vin(SEED, fault["index"])
    assert dtc["vin"] == failure["vin"] == vin
    assert dtc["code"] == "P0217"
    assert dtc["time"] == fault["onset_ms"] + 600_000
    assert [one["vin"] for one in told["faults"]] == [vin]
    status, problem = await simulator.post("/motorcade/faults", data=b"{")
    assert status == 400
    assert "not understood" in problem["problem"]
    await simulator.stop()
    assert json.loads((simulator.settings.run_dir / "truth.json").read_text()) == told


async def test_a_killed_worker_makes_the_run_invalid_and_its_cars_run_nowhere_else(
    simulator: Simulator, tap: Tap
) -> None:
    await simulator.swarm(CARS)
    await simulator.until(lambda fleet: online(fleet, CARS) and tap.vins == vins(CARS))
    simulator.workers[1].kill()
    fleet = await simulator.until(lambda fleet: not fleet["valid"])
    assert fleet["lost_workers"] == [1]
    [problem] = problems_of(simulator.settings.run_dir)
    assert (problem.worker, problem.reason) == (1, "its process ended")

    await simulator.swarm(CARS)  # asks again for all: the lost worker's share stays empty
    left = {generate_vin(SEED, index) for index in range(0, CARS, 2)}
    before = {key: len(seqs) for key, seqs in tap.seqs.items()}
    await simulator.until(lambda fleet: fleet["users"] == len(left))
    deadline = time.monotonic() + 10
    while any(len(tap.seqs[key]) < before[key] + 3 for key in before if key[0] in left):
        assert time.monotonic() < deadline, "the other worker's cars have stopped"
        await asyncio.sleep(0.1)
    assert {key for key in tap.seqs if key[0] not in left} <= set(before)
    assert tap.vins == vins(CARS)
    while tap.offline != vins(CARS) - left:
        assert time.monotonic() < deadline + 20, "the broker has not published every will"
        await asyncio.sleep(0.1)

    settings, folder = simulator.settings, simulator.workers[1].folder
    again = Program(
        "worker-1", tuple(commands.worker_argv(settings)), commands.worker_env(settings, 1)
    )
    simulator.workers[1] = launch(again, folder)
    fleet = await simulator.until(lambda fleet: online(fleet, CARS))
    assert not fleet["valid"]
    assert tap.vins == vins(CARS)


async def test_cars_keep_what_is_due_while_the_broker_is_away_and_send_it_then(
    simulator: Simulator, tap: Tap, own_mosquitto: BrokerServer
) -> None:
    await simulator.swarm(20)
    await simulator.until(lambda fleet: online(fleet, 20) and fleet["acked"] > 40)
    own_mosquitto.nodes[0].kill()
    heard = {key: len(seqs) for key, seqs in tap.seqs.items()}
    await simulator.until(lambda fleet: fleet["cars"].get("reconnecting") == 20)
    own_mosquitto.restart()
    fleet = await simulator.until(lambda fleet: online(fleet, 20) and not fleet["waiting"], 60)
    await simulator.until(lambda later: later["acked"] > fleet["acked"] + 20)
    await simulator.stop()
    account = ledger.load(simulator.settings.run_dir)
    assert account.counts["dropped"] == 0
    for vin, boot, acked in account.acknowledged():
        assert acked.spans == [(1, len(acked))]
        missing = acked.difference(IntervalSet.of(tap.seqs[vin, boot]))
        # The broker takes with it what it acknowledged at the last moment and had not passed on.
        assert all(seq <= heard[vin, boot] + 2 for seq in missing)
    births = [s for s in tap.by_kind[mqtt_topics.STATUS] if s["online"]]
    assert {s["vin"] for s in births if s["connection"] > 1} == vins(20)


async def test_a_fleet_that_is_cut_off_comes_back_and_forwards_what_it_stored(
    simulator: Simulator, tap: Tap
) -> None:
    await simulator.swarm(20)
    await simulator.until(lambda fleet: online(fleet, 20) and fleet["acked"] > 40)
    await simulator.post("/motorcade/events", json={"kind": "drop"})
    await simulator.until(lambda fleet: fleet["disconnects"] == 20)
    await simulator.until(lambda fleet: online(fleet, 20))
    tunnel = {"kind": "offline", "share": 0.5, "groups": 2, "seconds": 3, "stagger_s": 1}
    await simulator.post("/motorcade/events", json=tunnel)
    fleet = await simulator.until(lambda fleet: fleet["offline"] > 0 and fleet["waiting"] > 4)
    assert fleet["cars"]["driving"] >= 1
    fleet = await simulator.until(lambda fleet: online(fleet, 20) and not fleet["waiting"])
    await simulator.until(lambda later: later["acked"] > fleet["acked"] + 20)
    await simulator.stop()
    account = ledger.load(simulator.settings.run_dir)
    assert account.counts["dropped"] == 0
    for vin, boot, acked in account.acknowledged():
        assert acked.spans == [(1, len(acked))]
        assert not acked.difference(IntervalSet.of(tap.seqs[vin, boot]))


async def test_no_car_connects_before_the_release(
    own_mosquitto: BrokerServer, tap: Tap, tmp_path: Path
) -> None:
    answers = [503]

    async def readyz(_: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(status=answers[0])

    application = aiohttp.web.Application()
    application.router.add_get("/readyz", readyz)
    gate = aiohttp.web.AppRunner(application)
    await gate.setup()
    [port] = free_ports(1)
    await aiohttp.web.TCPSite(gate, "127.0.0.1", port).start()
    simulator = await start(
        own_mosquitto, tmp_path / "simulator", wait_for=(f"http://127.0.0.1:{port}/readyz",)
    )
    try:
        await simulator.swarm(10)
        await simulator.until(lambda fleet: fleet["users"] == 10)
        assert not (await simulator.get("/motorcade/fleet"))["released"]
        assert not tap.by_kind
        answers[0] = 200
        await simulator.until(lambda fleet: online(fleet, 10))
    finally:
        await simulator.http.close()
        for one in (simulator.master, *simulator.workers):
            one.stop()
        await gate.cleanup()


async def test_the_web_ui_shows_the_fleet(simulator: Simulator) -> None:
    await simulator.swarm(6)
    await simulator.until(lambda fleet: online(fleet, 6) and fleet["acked"] > 12)
    async with simulator.http.get("/") as response:
        page = await response.text()
    assert '"title": "Fleet"' in page
    stats = await simulator.get("/stats/requests")
    rows = {one["key"]: one["data"] for one in stats["extended_stats"]}
    assert [row["driving"] for row in rows["fleet"]] == ["6", "6"]  # its endpoint, and all
    assert [row["cars"] for row in rows["delivery"]] == ["3", "3", "6"]
    assert {row["name"] for row in stats["stats"]} == {
        "connect",
        "telemetry → PUBACK",
        "Aggregated",
    }
    async with simulator.http.get("/metrics") as response:
        assert "motorcade_simulator_connected 6.0" in await response.text()


def test_a_worker_with_a_number_beyond_the_fleets_says_so(tmp_path: Path) -> None:
    [port] = free_ports(1)
    settings = SimulatorSettings(run_dir=tmp_path, workers=1, worker=None, master_port=port)
    env = {**commands.worker_env(settings, 0), "MOTORCADE_WORKER": "5"}
    argv = (*commands.master_argv(settings, headless=True),)
    master = launch(Program("master", argv, commands.master_env(settings)), tmp_path)
    worker = launch(Program("worker", tuple(commands.worker_argv(settings)), env), tmp_path)
    try:
        assert worker.process.wait(START_S) != 0
        assert "This is worker 5, but the fleet is divided over 1." in worker.log
    finally:
        master.stop()
