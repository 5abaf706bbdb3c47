"""A worker's rows: which cars they are, which of them run, and under which boot."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.clock import RunClock
from motorcade.fleet.telemetry import TelemetryJson
from motorcade.simulator import worker_fleet
from motorcade.simulator.ledger import Boot, DtcRecord
from motorcade.simulator.population import FleetPlan
from motorcade.simulator.settings import SimulatorSettings
from motorcade.simulator.wear import PlannedFault, WearKind
from motorcade.simulator.worker_fleet import WorkerFleet

START_MS = 1_700_000_000_000


class FakeCar:
    """Stands for CarSession: is online at once and remembers what it was given to send."""

    born: list["FakeCar"]

    def __init__(self, vin: str, boot: int, endpoint: str, kit: Any) -> None:
        self.ledger = Boot(vin, boot)
        self.endpoint = endpoint
        self.parked = False
        self.sent: list[tuple[int, int, bytes]] = []
        self.dtcs: list[str] = []
        self.in_flight = self.waiting = 0
        self.state = "driving"
        self.born.append(self)

    async def start(self) -> bool:
        return True

    async def stop(self, drain_s: float) -> None:
        self.state = "stopped"

    def send(self, seq: int, due: int, payload: bytes) -> None:
        self.sent.append((seq, due, payload))

    def report_failure(self, code: str, kind: str, event_ms: int, description: str) -> DtcRecord:
        self.dtcs.append(code)
        ledger = self.ledger
        return DtcRecord(ledger.vin, ledger.boot, code, kind, event_ms, 0, acked=False)


class Drive:
    """A worker fleet whose clock the test turns."""

    def __init__(self, fleet: WorkerFleet, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fleet = fleet
        self.now_ms = START_MS
        monkeypatch.setattr(worker_fleet, "_wall_ms", lambda: self.now_ms)

    async def to(self, wanted: int, seconds: float = 0.0) -> None:
        """Want so many cars, let them settle, then let time pass in ticks."""
        self.fleet.wanted = wanted
        self.fleet._tick(self.now_ms)
        while tasks := [*self.fleet._bringing_up.values(), *self.fleet._ending.values()]:
            await worker_fleet.asyncio.wait(tasks)
            await worker_fleet.asyncio.sleep(0)
        for _ in range(int(seconds * 10)):
            self.now_ms += 100
            self.fleet._tick(self.now_ms)


PLAN = FleetPlan(1, load_catalogue(), RunClock(START_MS, START_MS, 60.0))


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drive:
    monkeypatch.setattr(worker_fleet, "CarSession", FakeCar)
    FakeCar.born = []
    monkeypatch.setattr(worker_fleet, "_wall_ms", lambda: START_MS)
    settings = SimulatorSettings(
        cars=6,
        workers=3,
        interval_s=1,
        run_dir=tmp_path,
        brokers=("127.0.0.1:1", "127.0.0.1:2"),
    )
    return Drive(WorkerFleet(PLAN, settings, worker=1), monkeypatch)


async def test_rows_are_the_workers_own_cars_also_beyond_the_declared_fleet(drive: Drive) -> None:
    await drive.to(5)
    assert [car.ledger.vin for car in FakeCar.born] == [PLAN.vin(i) for i in (1, 4, 7, 10, 13)]
    assert [car.endpoint[-1] for car in FakeCar.born] == ["2", "1", "2", "1", "2"]


async def test_the_last_cars_stop_first_and_come_back_newer_under_any_clock(drive: Drive) -> None:
    await drive.to(3)
    await drive.to(1)
    drive.now_ms -= 3_600_000  # somebody set the clock back
    await drive.to(3)
    boots = [(car.ledger.vin, car.ledger.boot) for car in FakeCar.born]
    assert [vin for vin, _ in boots[3:]] == [PLAN.vin(4), PLAN.vin(7)]
    assert boots[3][1] > boots[1][1]
    assert boots[4][1] > boots[2][1]
    assert [car.state for car in FakeCar.born] == ["driving", "stopped", "stopped"] + [
        "driving"
    ] * 2


async def test_every_car_sends_each_message_once_in_order_when_ticks_are_late(drive: Drive) -> None:
    await drive.to(2)
    drive.now_ms += 10_000  # the generator stood still for ten seconds
    drive.fleet._tick(drive.now_ms)
    for car in FakeCar.born:
        assert [seq for seq, _, _ in car.sent] == list(range(1, 11))
        dues = [due for _, due, _ in car.sent]
        assert {b - a for a, b in itertools.pairwise(dues)} == {1000}
    columns, _, bad = TelemetryJson(PLAN.catalogue).decode([p for _, _, p in FakeCar.born[0].sent])
    assert not bad
    assert columns.seq.tolist() == list(range(1, 11))
    assert columns.time.tolist() == [PLAN.clock.event_ms(due) for due in columns.due.tolist()]


async def test_a_broken_down_car_reports_limps_and_is_parked_for_good(drive: Drive) -> None:
    await drive.to(2)
    fault = PlannedFault(4, WearKind.COOLANT_LEAK, START_MS, 60.0)
    drive.fleet.begin_wear([fault, PlannedFault(5, WearKind.MISFIRE, START_MS, 60.0)])
    await drive.to(2, seconds=1.5)
    healthy, broken = FakeCar.born
    assert (healthy.dtcs, broken.dtcs) == ([], ["P0217"])
    assert not broken.parked
    await drive.to(2, seconds=3)
    assert broken.parked
    sent = len(broken.sent)
    await drive.to(2, seconds=3)
    assert len(broken.sent) == sent
    assert len(healthy.sent) > sent
    [failure] = drive.fleet._report().failures
    assert (failure["vin"], failure["code"], failure["reported"]) == (PLAN.vin(4), "P0217", True)
    await drive.to(1)
    await drive.to(2, seconds=3)
    assert FakeCar.born[2].parked
    assert FakeCar.born[2].sent == []
