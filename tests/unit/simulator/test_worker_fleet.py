"""A worker's rows: which cars they are, which of them run, and under which boot."""

import asyncio
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.clock import RunClock
from motorcade.fleet.telemetry import TelemetryJson
from motorcade.simulator import hits, worker_fleet
from motorcade.simulator.fleet_events import Drop, Garbage, Offline, Pace, chosen, groups_of
from motorcade.simulator.ledger import DtcRecord
from motorcade.simulator.population import FleetPlan
from motorcade.simulator.settings import SimulatorSettings
from motorcade.simulator.talk import Talk
from motorcade.simulator.wear import PlannedFault, WearKind
from motorcade.simulator.worker_fleet import WorkerFleet

START_MS = 1_700_000_000_000


class FakeCar:
    """Stands for CarSession: is online at once and remembers what it was given to send."""

    born: list["FakeCar"]

    def __init__(self, vin: str, boot: int, index: int, number: int, kit: Any) -> None:
        self.vin = vin
        self.boot = boot
        self.number = number
        self.endpoint = kit.endpoints[index % len(kit.endpoints)]
        self.parked = False
        self.sent: list[tuple[int, int, bytes]] = []
        self.batches: list[tuple[int, int]] = []
        self.dtcs: list[str] = []
        self.happened: list[str] = []
        self.state = "driving"
        self.born.append(self)

    async def start(self, wanted_at: float) -> bool:
        self.wanted_at = wanted_at
        return True

    async def stop(self, drain_s: float) -> None:
        self.state = "stopped"

    def park(self) -> None:
        self.parked = True

    def cut(self) -> None:
        self.happened.append("cut")

    def lose_signal(self, seconds: float) -> None:
        self.happened.append(f"away for {seconds:g} s")

    def send(self, first: int, last: int, due: int, payload: bytes) -> None:
        self.sent.append((last, due, payload))
        self.batches.append((first, last))

    def report_failure(self, code: str, kind: str, event_ms: int, description: str) -> DtcRecord:
        self.dtcs.append(code)
        return DtcRecord(self.vin, self.boot, code, kind, event_ms, 0, acked=False)


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
            await asyncio.wait(tasks)
            await asyncio.sleep(0)
        for _ in range(int(seconds * 10)):
            self.now_ms += 100
            self.fleet._tick(self.now_ms)
            await asyncio.sleep(0)


PLAN = FleetPlan(1, load_catalogue(), RunClock(START_MS, START_MS, 60.0))


Drives = Callable[..., Drive]


@pytest.fixture
def fleet_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drives:
    """Makes the fleet of worker 1 of 3, with settings of one's choice."""
    monkeypatch.setattr(worker_fleet, "CarSession", FakeCar)
    FakeCar.born = []
    monkeypatch.setattr(worker_fleet, "_wall_ms", lambda: START_MS)

    def make(plan: FleetPlan = PLAN, **changes: Any) -> Drive:
        settings = SimulatorSettings(
            cars=6,
            workers=3,
            interval_s=1,
            run_dir=tmp_path,
            brokers=("127.0.0.1:1", "127.0.0.1:2"),
        ).model_copy(update=changes)
        return Drive(WorkerFleet(plan, settings, worker=1), monkeypatch)

    return make


@pytest.fixture
def drive(fleet_of: Drives) -> Drive:
    return fleet_of()


async def test_rows_are_the_workers_own_cars_also_beyond_the_declared_fleet(drive: Drive) -> None:
    await drive.to(5)
    assert [car.vin for car in FakeCar.born] == [PLAN.vin(i) for i in (1, 4, 7, 10, 13)]
    assert [car.endpoint[-1] for car in FakeCar.born] == ["2", "1", "2", "1", "2"]


async def test_the_last_cars_stop_first_and_come_back_newer_under_any_clock(drive: Drive) -> None:
    await drive.to(3)
    await drive.to(1)
    drive.now_ms -= 3_600_000  # somebody set the clock back
    await drive.to(3)
    boots = [(car.vin, car.boot) for car in FakeCar.born]
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


async def test_a_car_with_a_number_of_messages_falls_silent_after_it(fleet_of: Drives) -> None:
    drive = fleet_of(messages=3)
    await drive.to(2, seconds=10)
    assert [[seq for seq, _, _ in car.sent] for car in FakeCar.born] == [[1, 2, 3]] * 2
    assert drive.fleet._report().state["finished"] == 2


async def test_samples_go_out_in_batches_and_the_last_one_when_the_car_stops(
    fleet_of: Drives,
) -> None:
    drive = fleet_of(batch=4)
    await drive.to(1, seconds=9.5)
    await drive.to(0)
    [car] = FakeCar.born
    assert car.batches[:2] == [(1, 4), (5, 8)]
    assert car.batches[2][0] == 9
    whole = json.loads(car.sent[0][2])
    assert [sample["seq"] for sample in whole] == [1, 2, 3, 4]
    assert car.sent[0][1] == whole[-1]["due"]


async def test_the_pace_changes_for_all_and_nothing_that_was_due_is_left_out(drive: Drive) -> None:
    await drive.to(2, seconds=5)
    drive.fleet.begin_event(Pace(0.5), drive.now_ms)
    await drive.to(2, seconds=5)
    for car in FakeCar.born:
        assert [seq for seq, _, _ in car.sent] == list(range(1, len(car.sent) + 1))
        dues = [due for _, due, _ in car.sent]
        assert {b - a for a, b in itertools.pairwise(dues[6:])} == {500}
        assert len(dues) in (14, 15, 16)


async def test_what_is_made_ahead_is_what_would_be_made_when_it_is_due(
    fleet_of: Drives, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def said(ahead_ms: int) -> list[list[tuple[int, int, bytes]]]:
        monkeypatch.setattr(worker_fleet, "_AHEAD_MS", ahead_ms)
        monkeypatch.setattr(worker_fleet, "_wall_ms", lambda: START_MS)
        FakeCar.born = []
        drive = fleet_of(plan=FleetPlan(1, PLAN.catalogue, RunClock(START_MS, START_MS, 1.0)))
        await drive.to(20, seconds=7)
        await drive.to(15, seconds=0.3)
        drive.fleet.begin_event(Garbage(seconds=2, share=0.5), drive.now_ms)
        await drive.to(18, seconds=3)
        drive.fleet.begin_event(Pace(0.7), drive.now_ms)
        await drive.to(18, seconds=4)
        return [car.sent for car in FakeCar.born]

    made: list[int] = []
    prepare = Talk.prepare

    def counted(talk: Talk, rows: Any, due: Any, block: Any) -> None:
        made.append(len(rows))
        prepare(talk, rows, due, block)

    monkeypatch.setattr(Talk, "prepare", counted)
    when_due = await said(0)
    assert not made
    assert await said(1000) == when_due
    assert sum(made) > 100


async def test_groups_of_cars_enter_the_tunnel_one_after_the_other(drive: Drive) -> None:
    await drive.to(40)
    event = Offline(seconds=9, share=0.5, groups=2, stagger_s=4)
    drive.fleet.begin_event(event, drive.now_ms)
    indices = np.array([1 + 3 * row for row in range(40)])
    hit, group = chosen(event, PLAN.seed, indices), groups_of(event, PLAN.seed, indices)
    assert 5 < hit.sum() < 35

    def away() -> list[bool]:
        return [car.happened == ["away for 9 s"] for car in FakeCar.born]

    await drive.to(40, seconds=3)
    assert away() == (hit & (group == 0)).tolist()
    await drive.to(40, seconds=3)
    assert away() == hit.tolist()


async def test_a_drop_cuts_every_cars_connection_once(drive: Drive) -> None:
    await drive.to(10)
    drive.fleet.begin_event(Drop(), drive.now_ms + 1000)
    await drive.to(10, seconds=0.5)
    assert not any(car.happened for car in FakeCar.born)
    await drive.to(10, seconds=5)
    assert all(car.happened == ["cut"] for car in FakeCar.born)


async def test_other_work_has_its_turn_while_a_whole_fleet_is_cut(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hits, "_SLICE", 32)
    await drive.to(200)
    drive.fleet.begin_event(Drop(), drive.now_ms)
    drive.fleet._tick(drive.now_ms)
    seen: list[int] = []
    while not seen or seen[-1] < 200:
        await asyncio.sleep(0)
        seen.append(sum(bool(car.happened) for car in FakeCar.born))
    assert len(seen) > 4
    assert max(np.diff(seen)) <= 32


async def test_a_car_that_cannot_be_cut_is_told_and_the_run_goes_on(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    await drive.to(3)

    def stubborn() -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(FakeCar.born[1], "cut", stubborn)
    drive.fleet.begin_event(Drop(), drive.now_ms)
    await drive.to(3, seconds=1)
    assert list(drive.fleet.amiss) == ["an event did not hit all of its cars: RuntimeError('no')"]


async def test_bad_firmware_breaks_each_rule_and_the_ledger_knows_which_seqs(drive: Drive) -> None:
    await drive.to(1, seconds=3)
    drive.fleet.begin_event(Garbage(seconds=8, share=1.0), drive.now_ms)
    await drive.to(1, seconds=12)
    [car] = FakeCar.born
    [boot] = drive.fleet._deliveries.columns(drive.fleet._block.vins).records()
    [(first, last)] = boot.garbage
    assert last - first + 1 == 8
    good, _, _ = TelemetryJson(PLAN.catalogue).decode([p for _, _, p in car.sent])
    broken = set(range(1, len(car.sent) + 1)) - set(good.seq.tolist())
    assert broken < set(range(first, last + 1))  # one sort parses, and is out of range
    assert len(broken) == 6
    low, high = PLAN.catalogue.low, PLAN.catalogue.high
    beyond = ((good.values < low) | (good.values > high)).any(axis=1)
    assert beyond.sum() == 2


async def test_cars_that_wait_for_their_turn_to_connect_were_wanted_with_the_first(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = itertools.count(100)
    monkeypatch.setattr(worker_fleet, "_CONNECTING", 4)
    monkeypatch.setattr(worker_fleet, "_STILL", 2)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    await drive.to(10, seconds=2)
    await drive.to(12, seconds=1)
    wanted_at = [car.wanted_at for car in FakeCar.born]
    assert len(wanted_at) == 12
    assert len(set(wanted_at[:10])) == 1
    assert wanted_at[10] == wanted_at[11] > wanted_at[0]
    await drive.to(11)
    await drive.to(12)
    assert FakeCar.born[12].wanted_at > wanted_at[11]


async def test_a_failure_is_told_however_long_nobody_takes_the_reports(drive: Drive) -> None:
    await drive.to(2)
    wear = [PlannedFault(index, WearKind.COOLANT_LEAK, START_MS, 60.0) for index in (1, 4)]
    drive.fleet.begin_wear(wear[:1])
    await drive.to(2, seconds=1.5)
    for _ in range(100):
        drive.fleet.write_ledger()
    drive.fleet.begin_wear(wear[1:])
    await drive.to(2, seconds=1.5)
    for _ in range(100):
        drive.fleet.write_ledger()
    assert len(drive.fleet.reports) <= 60
    told = [failure["vin"] for report in drive.fleet.reports for failure in report.failures]
    assert told == [PLAN.vin(1), PLAN.vin(4)]
