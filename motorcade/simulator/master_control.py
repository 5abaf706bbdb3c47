"""The master's side of Locust: knows its workers, notices when one is lost, orders them about."""

import logging
import socket
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import gevent
import msgspec
import psutil
from gevent.event import Event
from locust import events, runners

from motorcade.fleet.errors import MotorcadeError
from motorcade.simulator import wire
from motorcade.simulator.dispatcher import FleetDispatcher
from motorcade.simulator.fleet_events import (
    FleetEvent,
    FleetEventError,
    Pace,
    event_of,
    values_of,
)
from motorcade.simulator.fleet_plan import plan_of
from motorcade.simulator.master_state import MasterState, describe
from motorcade.simulator.scenarios.model import Scenario
from motorcade.simulator.scenarios.player import ScenarioPlayer
from motorcade.simulator.settings import SimulatorSettings

_log = logging.getLogger(__name__)

_WATCH_S = 0.5
_LEDGER_S = 30.0
#: An event begins so much later than it is sent: then all workers begin it at the same moment.
_EVENT_LEAD_MS = 300
#: A worker on this machine whose process lives may be silent for so long: busy workers miss
#: heartbeats, only one that hangs says nothing at all for minutes.
_SILENCE_S = 180.0


class WorkersError(MotorcadeError):
    """Workers did not do what they were asked in time."""


@dataclass
class Worker:
    """A worker by its Locust node id; `process` when it runs on this machine."""

    index: int
    process: psutil.Process | None
    #: Monotonic second of its last report.
    heard_s: float
    lost: bool = False

    @property
    def dead(self) -> bool:
        """Whether its process has ended; unknown, so False, on another machine."""
        if self.process is None:
            return False
        try:
            return not self.process.is_running() or self.process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


class MasterControl:
    """Ties the master's state to Locust's messages and watches over the workers.

    Raises:
        MotorcadeError: the settings do not fit: catalogue, drives.
    """

    def __init__(self, environment: Any, settings: SimulatorSettings) -> None:
        self.settings = settings
        self.state = MasterState(plan_of(settings), settings)
        self._runner = environment.runner
        self._workers: dict[str, Worker] = {}
        self._written: dict[int, dict[int, str]] = {}
        self._all_written = Event()
        self._interval_s = settings.interval_s
        self.player = ScenarioPlayer(self._runner, self, self._runner.stop)
        environment.dispatcher_class = partial(
            FleetDispatcher, index_of=self._index_of, workers=settings.workers
        )
        for name, listener in (
            (wire.HELLO, self._hello),
            (wire.REPORT, self._report),
            (wire.LOST, self._gave_up),
            (wire.AMISS, self._went_wrong),
            (wire.LEDGER_WRITTEN, self._ledger_written),
        ):
            self._runner.register_message(name, listener)
        events.test_start.add_listener(self._started)
        events.test_stopping.add_listener(self._stopping)
        events.test_stop.add_listener(self._stopped)
        self.state.write_run()
        self.state.keep_truth()
        gevent.spawn(self._watch)

    # -- what the web UI asks for -----------------------------------------------------------------

    def fleet(self) -> dict[str, Any]:
        """The fleet as one JSON document, with what Locust says of the run."""
        return {
            "state": self._runner.state,
            "users": self._runner.user_count,
            "interval_s": self._interval_s,
            **self.state.fleet(),
            "scenario": self._scenario(),
        }

    @property
    def waiting_for(self) -> list[str]:
        """Workers that have not come yet."""
        there = {worker.index for worker in self._workers.values() if not worker.lost}
        return [f"worker {n}" for n in range(self.settings.workers) if n not in there]

    def begin_faults(self, body: bytes) -> list[dict[str, Any]]:
        """Plan the faults that a request asks for and let the workers begin them.

        Raises:
            FaultsError: the request is malformed, or asks for what cannot be.
        """
        faults = [wire.fault_to(fault) for fault in self.state.plan_faults(body)]
        self._runner.send_message(wire.FAULTS, faults)
        return faults

    def play(self, scenario: Scenario) -> None:
        """Begin a scenario; `asked` has checked that it can be played.

        Raises:
            WorkersError: cars still run, or workers have not come.
        """
        if self.running or self._runner.state == runners.STATE_STOPPING:
            raise WorkersError("Cars of the last run are still there.", "Stop it and wait.")
        if self.waiting_for:
            missing = ", ".join(self.waiting_for)
            raise WorkersError(f"{missing} has not come yet.", "Wait for it, or look at its log.")
        self.player.play(scenario)

    def change(self, *, cars: float | None, per_s: float, interval_s: float | None) -> str:
        """Change the fleet while a scenario is played; returns what was done.

        Raises:
            WorkersError: more cars are asked for than the workers were started for.
        """
        done = []
        if cars is not None:
            if cars > self.settings.cars:
                raise WorkersError(
                    f"The workers were started for {self.settings.cars:,} cars.", "Ask for fewer."
                )
            self.player.resize(int(cars), per_s)
            done.append(f"{int(cars):,} cars at {per_s:g}/s")
        if interval_s is not None:
            self.set_interval(interval_s)
            done.append(f"a message every {interval_s:g} s")
        self.state.happened("change", ", ".join(done))
        return f"Changed to {', '.join(done)}"

    def begin_event(self, body: bytes) -> dict[str, Any]:
        """Let an event happen to the fleet, as `POST /motorcade/events` asks; returns its mark.

        Raises:
            FaultsError, FleetEventError: it was not understood, or cannot be.
        """
        try:
            values = msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            raise FleetEventError(f"The event is not JSON: {error}.") from error
        if not isinstance(values, dict):
            raise FleetEventError("An event is a JSON object with its kind.")
        return self.happen(values)

    def happen(self, body: dict[str, Any]) -> dict[str, Any]:
        """As `begin_event`, from plain values."""
        if body.get("kind") == "faults":
            wanted = {name: value for name, value in body.items() if name != "kind"}
            faults = self.begin_faults(msgspec.json.encode(wanted))
            kinds = ", ".join(sorted({str(fault["kind"]) for fault in faults}))
            return self.state.happened("faults", f"{len(faults)} cars: {kinds}")
        event = event_of(body)
        kind, detail = describe(event)
        return self.state.happened(kind, detail, self._send(event), values_of(event))

    def failed(self, what: str) -> None:
        """A part of the scenario could not be played: the run is invalid."""
        self.state.failed(what)

    def set_interval(self, seconds: float) -> None:
        """Have all cars publish at this interval from now on."""
        if seconds != self._interval_s:
            self._send(Pace(seconds))

    @property
    def connected(self) -> int:
        """Cars that are connected."""
        return self.state.connected

    def _send(self, event: FleetEvent) -> int:
        """Tell all workers; returns when the event begins, wall-clock milliseconds."""
        at_ms = time.time_ns() // 1_000_000 + _EVENT_LEAD_MS
        if isinstance(event, Pace):
            self._interval_s = event.interval_s
        self._runner.send_message(wire.EVENT, wire.event_to(event, at_ms))
        return at_ms

    def _scenario(self) -> dict[str, Any] | None:
        state = self.player.state()
        if state is None:
            return None
        began_ms = state["stages"][0]["from_ms"]
        return {**state, "events": [e for e in self.state.events if e["time_ms"] >= began_ms]}

    def flush_ledgers(self) -> list[str]:
        """Have every worker write its ledger; returns the paths.

        Raises:
            WorkersError: a worker has not answered within half a minute.
        """
        request = len(self._written)
        self._written[request] = {}
        self._all_written.clear()
        self._runner.send_message(wire.LEDGER, {"request": request})
        with gevent.Timeout(_LEDGER_S, exception=False):
            while not self._expected() <= set(self._written[request]):
                self._all_written.wait(1)
                self._all_written.clear()
        written = self._written[request]
        if silent := self._expected() - set(written):
            names = ", ".join(str(worker) for worker in sorted(silent))
            raise WorkersError(f"No ledger came from worker {names} within {_LEDGER_S:g} s.")
        return [written[worker] for worker in sorted(written)]

    def _expected(self) -> set[int]:
        return {worker.index for worker in self._workers.values() if not worker.lost}

    # -- Locust's messages and events -------------------------------------------------------------

    def _hello(self, environment: Any, msg: Any) -> None:
        del environment
        index = int(msg.data["worker"])
        process = None
        if msg.data["host"] == socket.gethostname():
            try:
                process = psutil.Process(msg.data["pid"])
            except psutil.NoSuchProcess:
                _log.warning("worker %d has ended already", index)
                return
        twins = [w for w in self._workers.values() if w.index == index and not w.lost]
        if any(not twin.dead for twin in twins):
            # Two workers with one number would run the same cars.
            _log.error("a second worker %d came and is sent away", index)
            self._runner.send_message("quit", None, msg.node_id)
            return
        self._workers[msg.node_id] = Worker(index, process, time.monotonic())
        if self._interval_s != self.settings.interval_s:  # it has only the settings' own
            self._send(Pace(self._interval_s))
        if self.running:  # it takes the place of one that was lost: the same cars, newer boots
            runner = self._runner
            gevent.spawn(runner.start, runner.target_user_count, runner.spawn_rate)

    def _report(self, environment: Any, msg: Any) -> None:
        del environment
        if msg.node_id in self._workers and not self._workers[msg.node_id].lost:
            self._workers[msg.node_id].heard_s = time.monotonic()
            self.state.reported(msg.data["state"], msg.data["failures"])

    def _gave_up(self, environment: Any, msg: Any) -> None:
        del environment
        if (worker := self._workers.get(msg.node_id)) is not None:
            self._lose(msg.node_id, worker, msg.data["reason"])

    def _went_wrong(self, environment: Any, msg: Any) -> None:
        del environment
        reason = f"worker {msg.data['worker']}: {msg.data['reason']}"
        _log.error("the run is invalid: %s", reason)
        self.state.failed(reason)

    def _ledger_written(self, environment: Any, msg: Any) -> None:
        del environment
        self._written[msg.data["request"]][msg.data["worker"]] = msg.data["path"]
        self._all_written.set()

    def _started(self, **_: Any) -> None:
        for name in self.waiting_for:
            index = int(name.split()[1])
            self.state.lost(index, "was not there when the cars were started")

    def _stopping(self, **_: Any) -> None:
        self.player.halt()

    def _stopped(self, **_: Any) -> None:
        self.state.write_run(self._scenario())
        self.state.write_truth()

    # -- watching -------------------------------------------------------------------------------

    def _watch(self) -> None:
        while True:
            for node, worker in list(self._workers.items()):
                if not worker.lost and (reason := self._loss(node, worker)):
                    self._lose(node, worker, reason)
            self.state.keep_truth()
            gevent.sleep(_WATCH_S)

    def _loss(self, node: str, worker: Worker) -> str:
        """Why a worker counts as lost; empty while it does not. Leaving an idle run is no loss."""
        client = self._runner.clients.get(node)
        if worker.dead:
            return "its process ended"
        if client is not None and worker.process is not None:
            if time.monotonic() - worker.heard_s > _SILENCE_S:
                return f"its process lives, but it has said nothing for {_SILENCE_S:g} s"
            client.heartbeat = runners.HEARTBEAT_LIVENESS
            return ""
        if client is not None and client.state == runners.STATE_MISSING:
            return f"no heartbeat for {runners.HEARTBEAT_LIVENESS} s"
        if client is None and self.running:
            return "it quit while cars were running"
        return ""

    @property
    def running(self) -> bool:
        """Whether cars run or are being started."""
        return self._runner.state in (runners.STATE_SPAWNING, runners.STATE_RUNNING)

    def _lose(self, node: str, worker: Worker, reason: str) -> None:
        worker.lost = True
        if not self.running:
            _log.info("worker %d left: %s", worker.index, reason)
            self.state.reports.pop(worker.index, None)
            return
        _log.error("worker %d is lost, the run is invalid: %s", worker.index, reason)
        self.state.lost(worker.index, reason)
        if (client := self._runner.clients.get(node)) is not None:
            client.heartbeat = -1  # Locust would go on for a minute as if it were there

    def _index_of(self, node: str) -> int | None:
        worker = self._workers.get(node)
        return None if worker is None or worker.lost else worker.index
