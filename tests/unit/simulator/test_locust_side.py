"""How Locust's users become shares of the fleet, and what the master makes of requests."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from locust import events
from locust.stats import RequestStats

from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.clock import RunClock
from motorcade.simulator import commands, wire
from motorcade.simulator.dispatcher import FleetDispatcher
from motorcade.simulator.master_state import FaultsError, MasterState, problems_of
from motorcade.simulator.population import FleetPlan
from motorcade.simulator.settings import SimulatorSettings
from motorcade.simulator.wear import WearError
from motorcade.simulator.worker_control import WorkerControl
from motorcade.simulator.worker_fleet import share


class Car:
    """Stands for Locust's user class."""


def node(index: int) -> Any:
    return SimpleNamespace(id=f"node-{index}")


@pytest.fixture
def ramp(monkeypatch: pytest.MonkeyPatch) -> FleetDispatcher:
    monkeypatch.setattr(gevent, "sleep", lambda _: None)
    return FleetDispatcher(
        [node(0), node(1), node(2)],
        [Car],
        index_of=lambda name: int(name.removeprefix("node-")),
        workers=3,
    )


def last_shares(one: FleetDispatcher, target: int, rate: float = 1000.0) -> dict[str, int]:
    one.new_dispatch(target, rate)
    *_, shares = list(one)
    return {name: counts["Car"] for name, counts in shares.items()}


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize("cars", [0, 1, 50, 101])
def test_shares_are_the_first_cars_of_the_fleet_once_each(cars: int, workers: int) -> None:
    indices = [
        worker + row * workers
        for worker in range(workers)
        for row in range(share(cars, worker, workers))
    ]
    assert sorted(indices) == list(range(cars))


def test_a_ramp_goes_up_and_down_in_steps(ramp: FleetDispatcher) -> None:
    ramp.new_dispatch(100, 50)
    totals = [sum(counts["Car"] for counts in shares.values()) for shares in ramp]
    assert totals[-1] == 100
    assert totals == sorted(totals)
    assert len(totals) > 3
    assert last_shares(ramp, 10) == {"node-0": 4, "node-1": 3, "node-2": 3}
    assert not ramp.dispatch_in_progress


def test_the_share_of_a_lost_worker_stays_empty(ramp: FleetDispatcher) -> None:
    last_shares(ramp, 90)
    ramp.remove_worker(node(1))
    assert last_shares(ramp, 90) == {"node-0": 30, "node-2": 30}
    ramp.add_worker(node(1))
    assert last_shares(ramp, 90) == {"node-0": 30, "node-1": 30, "node-2": 30}


def test_a_worker_that_has_not_said_its_number_gets_nothing() -> None:
    one = FleetDispatcher([node(0)], [Car], index_of=lambda _: None, workers=1)
    assert last_shares(one, 5) == {"node-0": 0}


def test_settings_survive_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SimulatorSettings(
        cars=36,
        qos=0,
        workers=3,
        run_dir=tmp_path,
        brokers=("127.0.0.1:1883", "127.0.0.1:1884"),
        wait_for=("http://127.0.0.1:1/readyz",),
        clock="5/6/60",
    )
    for name, value in commands.worker_env(settings, 2).items():
        monkeypatch.setenv(name, value)
    again = SimulatorSettings()
    assert again == settings.model_copy(update={"worker": 2})
    assert commands.worker_env(settings, 2)["LOCUST_SKIP_MONKEY_PATCH"] == "1"
    assert "LOCUST_SKIP_MONKEY_PATCH" not in commands.master_env(settings)


def test_the_form_of_the_web_ui_starts_with_the_declared_fleet() -> None:
    argv = commands.master_argv(SimulatorSettings(cars=36, ramp_per_s=12))
    assert "--users=36" in argv
    assert "--spawn-rate=12" in argv
    assert "--web-host=127.0.0.1" in argv
    assert "--headless" not in argv


@pytest.fixture
def master(tmp_path: Path) -> MasterState:
    plan = FleetPlan(1, load_catalogue(), RunClock(0, 0, 1.0))
    state = MasterState(plan, SimulatorSettings(run_dir=tmp_path, workers=2))
    for worker in range(2):
        state.reported({"worker": worker, "wanted": 10}, [])
    return state


def test_faults_fall_on_different_running_cars(master: MasterState) -> None:
    first = master.plan_faults(b'{"count": 8, "kinds": ["coolant_leak", "bearing_wear"]}')
    second = master.plan_faults(b'{"count": 12, "kinds": ["misfire"], "duration_s": 60}')
    indices = [fault.index for fault in first + second]
    assert sorted(indices) == list(range(20))
    assert {str(fault.kind) for fault in first} == {"coolant_leak", "bearing_wear"}
    with pytest.raises(FaultsError, match="0 synthetic cars"):
        master.plan_faults(b'{"count": 1, "kinds": ["misfire"]}')


def test_a_fault_can_name_its_car(master: MasterState, tmp_path: Path) -> None:
    vin = FleetPlan(1, load_catalogue(), RunClock(0, 0, 1.0)).vin(7)
    request = [{"vin": vin, "kind": "misfire", "duration_s": 60, "onset_ms": 5000}]
    [fault] = master.plan_faults(json.dumps(request).encode())
    assert (fault.index, fault.onset_ms, fault.duration_s) == (7, 5000, 60)
    [written] = json.loads((tmp_path / "truth.json").read_text())["faults"]
    assert (written["vin"], written["failure_ms"]) == (vin, 65_000)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not understood"),
        (b'{"count": 1, "kinds": ["rust"]}', "rust"),
        (b'{"count": 1, "kinds": []}', "No kind"),
        (b'[{"kind": "misfire", "duration_s": 60}]', "index or the VIN"),
        (b'[{"vin": "MC9ABT5E7T9999999", "kind": "misfire", "duration_s": 60}]', "No car"),
        (b'{"count": 1, "kinds": ["misfire"], "when": 3}', "when"),
    ],
)
def test_a_bad_request_for_faults_says_what_is_wrong(
    master: MasterState, body: bytes, words: str
) -> None:
    with pytest.raises(FaultsError, match=words):
        master.plan_faults(body)
    assert master.faults == []


def failure(vin: str) -> dict[str, Any]:
    return {
        "index": 3,
        "vin": "".join(list(vin)),  # as it comes off the wire: another object each time
        "kind": "coolant_leak",
        "code": "P0217",
        "time": 5,
        "reported": True,
    }


def test_the_truth_is_written_now_and_then_and_the_fleet_tells_only_how_much_it_is(
    tmp_path: Path,
) -> None:
    now = 0.0
    plan = FleetPlan(1, load_catalogue(), RunClock(0, 0, 1.0))
    state = MasterState(plan, SimulatorSettings(run_dir=tmp_path), clock=lambda: now)

    def written() -> int:
        return len(json.loads((tmp_path / "truth.json").read_text())["failures"])

    for second in (0.0, 1.0, 9.9):
        now = second
        state.reported({"worker": 0, "wanted": 10}, [failure(plan.vin(3))])
    assert written() == 1
    now = 10.0
    state.keep_truth()
    assert written() == 3
    state.reports.clear()
    fleet = state.fleet()
    assert (fleet["faults"], fleet["failures"]) == (0, 3)
    assert len(state.truth()["failures"]) == 3
    assert state.failures[0].vin is state.failures[2].vin


def test_the_newest_faults_are_shown_with_what_became_of_them(master: MasterState) -> None:
    master.plan_faults(b'{"count": 20, "kinds": ["coolant_leak"]}')
    last = master.faults[-1]
    vin = FleetPlan(1, load_catalogue(), RunClock(0, 0, 1.0)).vin(last.index)
    master.reported({"worker": 0, "wanted": 10}, [failure(vin)])
    shown = master.newest_faults(2)
    assert [one["code"] for one in shown] == [None, "P0217"]
    assert shown[-1]["vin"] == vin


class Worker:
    """A `WorkerControl` on a runner that is not Locust's; keeps what it tells the master."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self.worker_index = 0
        self.told: list[tuple[str, Any]] = []
        self.listeners: dict[str, Any] = {}
        self.control = WorkerControl(SimpleNamespace(runner=self, stats=RequestStats()), settings)

    def register_message(self, name: str, listener: Any, **_: Any) -> None:
        self.listeners[name] = listener

    def send_message(self, name: str, data: Any) -> None:
        self.told.append((name, data))

    def hear(self, name: str, data: Any) -> None:
        self.listeners[name](environment=None, msg=SimpleNamespace(data=data))

    def amiss(self, count: int) -> list[str]:
        """The first so many things that it tells as amiss."""
        with gevent.Timeout(20):
            while True:
                found = [data["reason"] for name, data in self.told if name == wire.AMISS]
                if len(found) >= count:
                    return found
                gevent.sleep(0.05)


def test_what_does_not_happen_to_a_workers_cars_is_told_to_the_master_in_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(SimulatorSettings(cars=3, run_dir=tmp_path))
    worker.hear(wire.EVENT, {"event": {"kind": "drop", "share": 7}, "at_ms": 0})
    [said] = worker.amiss(1)
    assert said.startswith("drop did not begin: The fleet event was not understood")

    def stubborn(_faults: object) -> None:
        raise WearError("Car 1 cannot wear.")

    monkeypatch.setattr(worker.control.fleet, "begin_wear", stubborn)
    fault = {"index": 1, "kind": "misfire", "onset_ms": 0, "duration_s": 60.0}
    worker.hear(wire.FAULTS, [fault])
    worker.hear(wire.FAULTS, [fault])  # told once
    worker.hear(wire.FAULTS, [fault, {"index": 2}])
    assert worker.amiss(3)[1:] == [
        "wear in 1 of the cars did not begin: Car 1 cannot wear.",
        "wear in 2 of the cars did not begin: KeyError('kind')",
    ]


def test_all_cars_stop_at_once_however_long_locust_takes_to_let_its_users_go(
    tmp_path: Path,
) -> None:
    control = Worker(SimulatorSettings(cars=3, run_dir=tmp_path)).control
    for _ in range(3):
        control.car_wanted()
    control.car_unwanted()
    assert control.fleet.wanted == 2
    events.test_stopping.fire(environment=None)
    assert control.fleet.wanted == 0
    for _ in range(2):
        control.car_unwanted()
        assert control.fleet.wanted == 0
    control.car_wanted()
    assert control.fleet.wanted == 1


def test_a_lost_worker_makes_the_run_invalid(master: MasterState, tmp_path: Path) -> None:
    master.write_run()
    assert json.loads((tmp_path / "run.json").read_text())["valid"] is True
    assert problems_of(tmp_path) == []
    master.lost(1, "its process ended")
    document = json.loads((tmp_path / "run.json").read_text())
    assert document["valid"] is False
    assert document["lost_workers"] == [1]
    assert [problem.reason for problem in problems_of(tmp_path)] == ["its process ended"]
