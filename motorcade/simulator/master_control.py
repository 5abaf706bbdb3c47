"""The master's side of Locust: knows its workers, notices when one is lost, orders them about."""

import logging
import socket
from dataclasses import dataclass
from functools import partial
from typing import Any

import gevent
import psutil
from gevent.event import Event
from locust import events, runners

from motorcade.fleet.errors import MotorcadeError
from motorcade.simulator import wire
from motorcade.simulator.dispatcher import FleetDispatcher
from motorcade.simulator.fleet_plan import plan_of
from motorcade.simulator.master_state import MasterState
from motorcade.simulator.settings import SimulatorSettings

_log = logging.getLogger(__name__)

_WATCH_S = 0.5
_LEDGER_S = 30.0


class WorkersError(MotorcadeError):
    """Workers did not do what they were asked in time."""


@dataclass
class Worker:
    """A worker by its Locust node id; `process` when it runs on this machine."""

    index: int
    process: psutil.Process | None
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
        environment.dispatcher_class = partial(
            FleetDispatcher, index_of=self._index_of, workers=settings.workers
        )
        for name, listener in (
            (wire.HELLO, self._hello),
            (wire.REPORT, self._report),
            (wire.LOST, self._gave_up),
            (wire.LEDGER_WRITTEN, self._ledger_written),
        ):
            self._runner.register_message(name, listener)
        events.test_start.add_listener(self._started)
        events.test_stop.add_listener(self._stopped)
        self.state.write_run()
        self.state.write_truth()
        gevent.spawn(self._watch)

    # -- what the web UI asks for -----------------------------------------------------------------

    def fleet(self) -> dict[str, Any]:
        """The fleet as one JSON document, with what Locust says of the run."""
        return {"state": self._runner.state, "users": self._runner.user_count, **self.state.fleet()}

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
        self._workers[msg.node_id] = Worker(index, process)
        if self._running:  # it takes the place of one that was lost: the same cars, newer boots
            runner = self._runner
            gevent.spawn(runner.start, runner.target_user_count, runner.spawn_rate)

    def _report(self, environment: Any, msg: Any) -> None:
        del environment
        if msg.node_id in self._workers and not self._workers[msg.node_id].lost:
            self.state.reported(msg.data["state"], msg.data["failures"])

    def _gave_up(self, environment: Any, msg: Any) -> None:
        del environment
        if (worker := self._workers.get(msg.node_id)) is not None:
            self._lose(msg.node_id, worker, msg.data["reason"])

    def _ledger_written(self, environment: Any, msg: Any) -> None:
        del environment
        self._written[msg.data["request"]][msg.data["worker"]] = msg.data["path"]
        self._all_written.set()

    def _started(self, **_: Any) -> None:
        for name in self.waiting_for:
            index = int(name.split()[1])
            self.state.lost(index, "was not there when the cars were started")

    def _stopped(self, **_: Any) -> None:
        self.state.write_run()
        self.state.write_truth()

    # -- watching -------------------------------------------------------------------------------

    def _watch(self) -> None:
        while True:
            for node, worker in list(self._workers.items()):
                if not worker.lost and (reason := self._loss(node, worker)):
                    self._lose(node, worker, reason)
            gevent.sleep(_WATCH_S)

    def _loss(self, node: str, worker: Worker) -> str:
        """Why a worker counts as lost; empty while it does not. Leaving an idle run is no loss."""
        client = self._runner.clients.get(node)
        if worker.dead:
            return "its process ended"
        if client is not None and client.state == runners.STATE_MISSING:
            return f"no heartbeat for {runners.HEARTBEAT_LIVENESS} s"
        if client is None and self._running:
            return "it quit while cars were running"
        return ""

    @property
    def _running(self) -> bool:
        return self._runner.state in (runners.STATE_SPAWNING, runners.STATE_RUNNING)

    def _lose(self, node: str, worker: Worker, reason: str) -> None:
        worker.lost = True
        if not self._running:
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
