"""What the master may be asked to play, what it tells workers, and what it shows."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import numpy as np
import psutil
import pytest

from motorcade.fleet.errors import MotorcadeError
from motorcade.simulator import wire
from motorcade.simulator.fleet_events import Drop, FleetEventError, Pace
from motorcade.simulator.master_control import MasterControl, WorkersError
from motorcade.simulator.master_latency import MergedLatency, merge
from motorcade.simulator.master_state import problems_of
from motorcade.simulator.measures import STATES, encode, new_histogram, record
from motorcade.simulator.scenarios.document import ScenarioError
from motorcade.simulator.scenarios.load import load_scenario
from motorcade.simulator.scenarios.request import asked
from motorcade.simulator.settings import SimulatorSettings
from motorcade.simulator.web.tab_rows import CAR_STATES, FAULTS, TABS, rows_of

REPORT = {
    "released": True,
    "stopped": False,
    "wanted": 30,
    "cars": {"127.0.0.1:1883": {"driving": 28, "parked": 1, "reconnecting": 1}},
    "lag_ms": 3.0,
    "cpu_s": 1.5,
    "rss_mib": 90.0,
} | dict.fromkeys(
    (
        *("stopping", "in_flight", "waiting", "sent", "acked", "dropped", "refused", "unheard"),
        *("connects", "disconnects", "connect_failures", "dtcs", "commands"),
    ),
    7,
)


class Runner:
    """Stands for Locust's master runner: keeps what it is told."""

    def __init__(self) -> None:
        self.state = "ready"
        self.user_count = 0
        self.clients: dict[str, Any] = {}
        self.listeners: dict[str, Any] = {}
        self.sent: list[tuple[str, Any]] = []
        self.started: list[tuple[int, float]] = []

    def register_message(self, name: str, listener: Any) -> None:
        self.listeners[name] = listener

    def send_message(self, name: str, data: Any = None, client_id: str | None = None) -> None:
        self.sent.append((name, data))

    def start(self, cars: int, per_s: float) -> None:
        self.state = "running"
        self.started.append((cars, per_s))

    def stop(self) -> None:
        self.state = "stopped"

    def hear(self, name: str, node: str, data: dict[str, Any]) -> None:
        message = SimpleNamespace(node_id=node, data=data)
        self.listeners[name](environment=None, msg=message)

    def events(self) -> list[Any]:
        return [wire.event_from(data)[0] for name, data in self.sent if name == wire.EVENT]


class Master:
    """A `MasterControl` on a runner that is not Locust's."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.runner = Runner()
        self.settings = SimulatorSettings(run_dir=folder, **{"cars": 100, **settings})
        self.control = MasterControl(SimpleNamespace(runner=self.runner), self.settings)

    def worker(self, index: int = 0, *, host: str = "elsewhere", pid: int = 1) -> str:
        node = f"node-{index}"
        self.runner.clients[node] = SimpleNamespace(state="ready", heartbeat=60)
        self.runner.hear(wire.HELLO, node, {"worker": index, "pid": pid, "host": host})
        return node

    def report(self, index: int = 0, **changes: Any) -> None:
        state = {**REPORT, "worker": index, **changes}
        self.runner.hear(wire.REPORT, f"node-{index}", {"state": state, "failures": []})

    def play(self, name: str, **form: str) -> None:
        scenario = asked({"scenario": name, **form}, self.settings)
        assert scenario is not None
        self.control.play(scenario)


@pytest.fixture
def master(tmp_path: Path) -> Master:
    return Master(tmp_path)


def until(reached: Any) -> None:
    with gevent.Timeout(10):
        while not reached():
            gevent.sleep(0.01)


# -- what may be played ---------------------------------------------------------------------------


def test_a_form_without_a_scenario_starts_users_as_ever(master: Master) -> None:
    assert asked({"user_count": "5"}, master.settings) is None
    assert asked({"scenario": "none"}, master.settings) is None


def test_a_form_replaces_the_main_numbers_and_anything_else(master: Master) -> None:
    form = {
        "scenario": "steady",
        "scenario_cars": "80",
        "scenario_ramp": "10",
        "scenario_interval": "500ms",
        "scenario_qos": "1",
        "scenario_set": "stages.0.seconds=30s; wear={cars: 3, kinds: [misfire]};",
    }
    scenario = asked(form, master.settings)
    assert scenario is not None
    assert (scenario.fleet.cars, scenario.ramp.per_s, scenario.publish.interval_s) == (80, 10, 0.5)
    assert scenario.stages[0].seconds == 30
    assert scenario.wear.cars == 3


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"scenario": "steady"}, "the workers were started for 100"),
        ({"scenario": "steady", "scenario_cars": "9", "scenario_qos": "0"}, "publish.qos is 0"),
        ({"scenario": "tunel"}, "There is no scenario"),
        ({"scenario": "/etc/passwd"}, "There is no scenario"),
        ({"scenario": "bridge-loss", "scenario_cars": "9"}, "Locust's master cannot"),
        ({"scenario": "find-the-limit", "scenario_cars": "9"}, "whole pipeline"),
        ({"scenario": "steady", "scenario_cars": "9", "scenario_set": "fleet.car=demo"}, "demo"),
        ({"scenario": "steady", "scenario_cars": "few"}, "it must be a whole number"),
    ],
)
def test_what_the_workers_that_run_cannot_play_is_refused(
    master: Master, form: dict[str, str], words: str
) -> None:
    with pytest.raises(ScenarioError, match=words):
        asked(form, master.settings)


def test_the_scenario_that_the_master_was_started_with_is_played_by_itself(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(
        "name: mine\ndescription: d\nfleet: {cars: 20}\n"
        "stages: [{name: a, seconds: 5}]\nevents: [{at: 1, kind: kill, what: bridge}]\n"
    )
    settings = SimulatorSettings(cars=20, scenario=own)
    scenario = asked({"user_count": "20"}, settings)
    assert scenario is not None
    assert scenario.name == "mine"


def test_nothing_is_played_before_the_workers_have_come_or_while_cars_run(master: Master) -> None:
    with pytest.raises(WorkersError, match="worker 0 has not come"):
        master.play("steady", scenario_cars="30")
    master.worker()
    master.runner.state = "running"
    with pytest.raises(WorkersError, match="still there"):
        master.play("steady", scenario_cars="30")


# -- playing --------------------------------------------------------------------------------------


def test_the_master_plays_a_scenario_to_its_end(master: Master) -> None:
    master.worker()
    control, runner = master.control, master.runner
    changes = "stages=[{name: a, seconds: 1}, {name: b, seconds: 1, cars: 10, interval_s: 1}];"
    events = "events=[{at: b, kind: drop}, {at: b, kind: faults, cars: 2}]; publish.interval_s=4"
    master.play("steady", scenario_cars="29", scenario_ramp="100", scenario_set=changes + events)
    until(lambda: runner.started == [(29, 100)])
    assert control.fleet()["scenario"]["stage"] == "ramp"
    assert runner.events() == [Pace(4)]

    master.report()
    until(lambda: runner.state == "stopped")
    assert runner.started == [(29, 100), (10, 100)]
    assert runner.events() == [Pace(4), Pace(1), Drop()]
    state = control.fleet()["scenario"]
    assert state["done"]
    assert [one["name"] for one in state["stages"]] == ["ramp", "a", "b"]
    assert [one["kind"] for one in state["events"]] == ["drop", "faults"]
    assert len(control.state.faults) == 2


def test_an_event_of_a_scenario_that_cannot_begin_makes_the_run_invalid(
    master: Master, tmp_path: Path
) -> None:
    master.worker()
    changes = "stages=[{name: a, seconds: 1}]; events=[{at: 0, kind: faults, cars: 29}]"
    master.play("steady", scenario_cars="29", scenario_set=changes)
    until(lambda: master.runner.started)
    master.report(wanted=5)  # so few run that there are no cars for the faults
    until(lambda: master.runner.state == "stopped")
    assert not master.control.fleet()["valid"]
    [problem] = problems_of(tmp_path)
    assert problem.worker is None
    assert problem.reason.startswith("faults did not happen: 29 faults were asked for")
    assert master.control.state.lost_workers == []
    assert master.control.fleet()["events"] == []


def test_stopping_the_run_stops_the_scenario(master: Master, tmp_path: Path) -> None:
    from locust import events

    master.worker()
    master.play("steady", scenario_cars="30")
    until(lambda: master.runner.started)
    events.test_stopping.fire(environment=None)
    events.test_stop.fire(environment=None)
    assert master.control.player.playing is None
    state = master.control.fleet()["scenario"]
    assert (state["done"], state["stopped"]) == (False, True)
    written = json.loads((tmp_path / "run.json").read_text())
    assert written["scenario"]["name"] == "steady"


def test_cars_and_interval_can_change_while_a_scenario_is_played(master: Master) -> None:
    master.worker()
    master.play("steady", scenario_cars="30")
    until(lambda: master.runner.started)
    said = master.control.change(cars=60, per_s=20, interval_s=0.5)
    assert said == "Changed to 60 cars at 20/s, a message every 0.5 s"
    until(lambda: master.runner.started[-1] == (60, 20))
    assert master.runner.events()[-1] == Pace(0.5)
    with pytest.raises(WorkersError, match="started for 100"):
        master.control.change(cars=101, per_s=20, interval_s=None)
    master.control.player.halt()


# -- events ---------------------------------------------------------------------------------------


def test_an_event_is_told_to_all_workers_with_the_moment_at_which_it_begins(
    master: Master,
) -> None:
    mark = master.control.begin_event(b'{"kind": "drop", "share": 0.5}')
    [(name, data)] = master.runner.sent
    event, at_ms = wire.event_from(data)
    assert name == wire.EVENT
    assert event == Drop(0.5)
    body = {"kind": "drop", "share": 0.5}
    assert mark == {"time_ms": at_ms, "kind": "drop", "detail": "0.5 of the fleet", "body": body}
    assert master.control.fleet()["events"] == [mark]


@pytest.mark.parametrize("body", [b"{", b"[1]", b'{"kind": "dorp"}', b'{"kind": "faults"}'])
def test_an_event_that_is_none_is_refused(master: Master, body: bytes) -> None:
    with pytest.raises(MotorcadeError):
        master.control.begin_event(body)
    assert master.runner.sent == []
    assert master.control.fleet()["events"] == []


def test_a_worker_that_comes_later_learns_the_interval(master: Master) -> None:
    master.control.begin_event(b'{"kind": "pace", "interval_s": 9}')
    master.runner.sent.clear()
    master.worker()
    assert master.runner.events() == [Pace(9)]
    with pytest.raises(FleetEventError):
        master.control.begin_event(b'{"kind": "pace", "interval_s": 0}')


# -- workers --------------------------------------------------------------------------------------


def test_a_worker_on_this_machine_is_alive_while_its_process_is(master: Master) -> None:
    import socket

    node = master.worker(host=socket.gethostname(), pid=psutil.Process().pid)
    client = master.runner.clients[node]
    master.runner.state = "running"
    client.heartbeat, client.state = -1, "missing"
    until(lambda: client.heartbeat > 0)
    assert master.control.state.problems == []


def test_a_worker_elsewhere_is_lost_without_heartbeats(master: Master) -> None:
    node = master.worker()
    master.runner.state = "running"
    master.runner.clients[node].state = "missing"
    until(lambda: master.control.state.problems)
    assert "no heartbeat" in master.control.state.problems[0].reason


def test_what_a_worker_could_not_do_makes_the_run_invalid_and_loses_no_worker(
    master: Master, tmp_path: Path
) -> None:
    node = master.worker()
    master.runner.hear(wire.AMISS, node, {"worker": 0, "reason": "drop did not begin: why"})
    assert not master.control.fleet()["valid"]
    assert master.control.state.lost_workers == []
    [problem] = problems_of(tmp_path)
    assert problem.reason == "worker 0: drop did not begin: why"


# -- what is shown --------------------------------------------------------------------------------


def histogram(milliseconds: Any) -> str:
    one = new_histogram()
    record(one, milliseconds)
    return encode(one)


def test_latencies_of_workers_merge_into_percentiles_of_all() -> None:
    rng = np.random.default_rng(3)
    parts = [rng.lognormal(3, 1, 20_000) for _ in range(3)]
    merged = merge([{"puback": histogram(one), "lag": histogram([])} for one in parts])
    everything = np.concatenate(parts)
    figures = merged["puback"]
    assert figures["n"] == 60_000
    for name, at in (("p50", 50), ("p99", 99), ("p999", 99.9), ("p9999", 99.99)):
        assert figures[name] == pytest.approx(np.percentile(everything, at), rel=0.02, abs=0.2)
    assert figures["max"] == pytest.approx(everything.max(), rel=0.001)
    assert merged["lag"] == {"p50": 0, "p90": 0, "p99": 0, "p999": 0, "p9999": 0, "max": 0, "n": 0}


def test_latencies_are_merged_once_a_second_however_many_ask() -> None:
    now = 0.0
    latency = MergedLatency(lambda: now)
    few, more = [{"lag": histogram([1])}], [{"lag": histogram([1, 2])}]
    assert latency.of(few)["lag"]["n"] == 1
    assert latency.of(more)["lag"]["n"] == 1
    now = 1.0
    assert latency.of(more)["lag"]["n"] == 2


def test_recent_latencies_are_those_since_the_last_merge() -> None:
    now = 0.0
    latency = MergedLatency(lambda: now)
    latency.of([{"lag": histogram([1] * 1000)}])
    assert latency.recent["lag"]["n"] == 1000
    now = 1.0
    latency.of([{"lag": histogram([1] * 1000 + [500] * 10)}])
    assert latency.recent["lag"]["n"] == 10
    assert latency.recent["lag"]["p50"] == pytest.approx(500, rel=0.01)
    now = 2.0
    latency.of([{"lag": histogram([1])}])  # a worker that started again has forgotten
    assert latency.recent["lag"]["n"] == 0


def test_every_tab_has_rows_and_shows_only_its_columns(tmp_path: Path) -> None:
    master = Master(tmp_path, workers=2)
    for index in range(2):
        master.worker(index)
        texts = {"connect": histogram([1, 2, 3]), "lag": histogram([5])}
        master.report(index, histograms=texts, offline=2, garbage=1, sent=1234)
    master.control.begin_event(b'{"kind": "garbage", "share": 0.1, "seconds": 5}')
    master.control.begin_event(b'{"kind": "faults", "count": 1, "kinds": ["misfire"]}')
    master.play("tunnel", scenario_cars="58")
    until(lambda: master.control.fleet()["scenario"]["stage"] == "hold")
    fleet = master.control.fleet()
    assert fleet["connected"] == 58
    assert (fleet["offline"], fleet["garbage"], fleet["sent"]) == (4, 2, 2468)
    assert "histograms" not in fleet["workers"][0]
    rows = rows_of({**fleet, "newest_faults": master.control.state.newest_faults(FAULTS)})
    for key, (_, columns, _) in TABS.items():
        assert rows[key], key
        assert all(set(row) <= {name for name, _ in columns} for row in rows[key]), key
    assert rows["fleet"][-1]["driving"] == "56"
    assert rows["delivery"][-1]["sent"] == "2,468"
    assert [row["what"] for row in rows["latency"]] == ["wanted → CONNACK", "generator's lag"]
    assert [row["what"] for row in rows["stages"]][:2] == ["ramp", "hold"]
    assert [row["state"] for row in rows["stages"]][:2] == ["done", "now"]
    master.control.player.halt()


def test_the_fleet_tab_shows_every_state_a_car_can_be_in() -> None:
    assert set(CAR_STATES) == set(STATES)


def test_stages_show_what_is_due_to_the_stack(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    scenario = load_scenario("broker-node-loss", ["fleet.cars=30"])
    own.write_text(json.dumps(scenario.model_dump(mode="json")))
    master = Master(tmp_path, scenario=own)
    master.worker()
    master.report()
    master.play("broker-node-loss", scenario_cars="29")
    until(lambda: master.control.fleet()["scenario"]["stage"] == "hold")
    last = rows_of({**master.control.fleet(), "newest_faults": []})["stages"][-1]
    assert last["what"] == "kill broker-node 2 for 15 s"
    assert last["state"] == "due at hold+45s"
    assert last["from"]
    master.control.player.halt()
