"""A worker's side of Locust: users come and go, orders come from the master, reports go there."""

import gc
import logging
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import gevent
import numpy as np
from locust import events
from locust.stats import StatsEntry, bucket_response_time

from motorcade.fleet.errors import MotorcadeError, SettingsError
from motorcade.simulator import wire
from motorcade.simulator.descriptors import make_room
from motorcade.simulator.fleet_plan import plan_of
from motorcade.simulator.loop_thread import LoopThread
from motorcade.simulator.measures import Batch
from motorcade.simulator.settings import SimulatorSettings
from motorcade.simulator.worker_fleet import WorkerFleet, share

_log = logging.getLogger(__name__)

#: Names in Locust's statistics: few and fixed, a topic in a name would freeze its UI.
CONNECT = "connect"
RECONNECT = "reconnect"
TELEMETRY = "telemetry → PUBACK"
_METHOD = "MQTT"
_PUMP_S = 0.5
_POLL_S = 0.02
#: Locust's master waits a minute for its workers.
_STOP_S = 55.0


class WorkerControl:
    """Ties the worker's fleet, on its own loop, to Locust's greenlets.

    Raises:
        MotorcadeError: the settings do not fit: worker number, descriptors, catalogue, drives.
    """

    def __init__(self, environment: Any, settings: SimulatorSettings) -> None:
        self._environment = environment
        self._runner = environment.runner
        index = settings.worker
        self.index = self._runner.worker_index if index is None else index
        if not 0 <= self.index < settings.workers:
            raise SettingsError(
                f"This is worker {self.index}, but the fleet is divided over {settings.workers}.",
                "Set MOTORCADE_WORKER to 0 … MOTORCADE_WORKERS-1.",
            )
        make_room(share(settings.cars, self.index, settings.workers))
        self.fleet = WorkerFleet(plan_of(settings), settings, self.index)
        self._failure = ""
        #: What was amiss, each told once: the same may befall thousands of cars.
        self._told: set[str] = set()
        self._ledgers = 0
        _calm_collector()
        self._loop = LoopThread()
        self._runner.register_message(wire.FAULTS, self._begin_wear)
        self._runner.register_message(wire.EVENT, self._begin_event)
        self._runner.register_message(wire.LEDGER, self._flush_ledger, concurrent=True)
        events.test_stopping.add_listener(self._stopping)
        events.test_stop.add_listener(self._stopped)
        self._loop.spawn(self.fleet.run(), self._failed)
        gevent.spawn(self._pump)

    # -- users ----------------------------------------------------------------------------------

    def car_wanted(self) -> None:
        """One more user: the next car of this worker starts."""
        self.fleet.wanted += 1

    def car_unwanted(self) -> None:
        """One user less: the last car of this worker stops, unless all of them do already."""
        self.fleet.wanted = max(0, self.fleet.wanted - 1)

    # -- Locust's messages and events -------------------------------------------------------------

    def _begin_wear(self, environment: Any, msg: Any) -> None:
        del environment
        self._begin(
            f"wear in {len(msg.data)} of the cars",
            lambda: self.fleet.begin_wear([wire.fault_from(one) for one in msg.data]),
        )

    def _begin_event(self, environment: Any, msg: Any) -> None:
        del environment
        kind = msg.data["event"]["kind"]
        self._begin(kind, lambda: self.fleet.begin_event(*wire.event_from(msg.data)))

    def _begin(self, what: str, begin: Callable[[], None]) -> None:
        """Have something happen to the cars; should it fail, the run is not what it says it is."""

        def attempt() -> None:
            try:
                begin()
            except Exception as error:  # noqa: BLE001 - whatever it was, the master must know
                _log.error("%s did not begin", what, exc_info=error)
                words = str(error) if isinstance(error, MotorcadeError) else repr(error)
                self.fleet.amiss.append(f"{what} did not begin: {words}")

        self._loop.call(attempt)

    def _flush_ledger(self, environment: Any, msg: Any) -> None:
        del environment
        self._write_ledger()
        data = {**msg.data, "worker": self.index, "path": str(self.fleet.ledger_path)}
        self._runner.send_message(wire.LEDGER_WRITTEN, data)

    def _stopping(self, **_: Any) -> None:
        """The cars stop at once: Locust takes seconds to let its users go, one by one, and those
        that went on driving meanwhile would be late."""
        self.fleet.wanted = 0

    def _stopped(self, **_: Any) -> None:
        """The users are gone: let the cars finish, and put the ledger in its final state."""
        deadline = time.monotonic() + _STOP_S
        while not self.fleet.stopped and time.monotonic() < deadline and not self._failure:
            gevent.sleep(_POLL_S)
        self._write_ledger()
        self._tell()

    def _write_ledger(self) -> None:
        wanted = self._ledgers + 1
        self._loop.call(self._write_on_loop)
        deadline = time.monotonic() + _STOP_S
        while self._ledgers < wanted and time.monotonic() < deadline:
            gevent.sleep(_POLL_S)

    def _write_on_loop(self) -> None:
        self.fleet.write_ledger().add_done_callback(self._ledger_written)

    def _ledger_written(self, written: Future[None]) -> None:
        if (error := written.exception()) is not None:
            self._failed(f"the ledger cannot be written: {error}")
        self._ledgers += 1

    def _failed(self, reason: str) -> None:
        self._failure = self._failure or reason

    # -- reports --------------------------------------------------------------------------------

    def _pump(self) -> None:
        while not (self.fleet.built or self._failure):
            gevent.sleep(_POLL_S)
        self._runner.send_message(
            wire.HELLO, {"worker": self.index, "pid": os.getpid(), "host": socket.gethostname()}
        )
        while not self._failure:
            self._tell()
            gevent.sleep(_PUMP_S)
        _log.error("worker %d ends: %s", self.index, self._failure)
        self._runner.send_message(wire.LOST, {"worker": self.index, "reason": self._failure})
        self._environment.process_exit_code = 1
        self._runner.quit()

    def _tell(self) -> None:
        while self.fleet.amiss:
            if (reason := self.fleet.amiss.popleft()) not in self._told:
                self._told.add(reason)
                self._runner.send_message(wire.AMISS, {"worker": self.index, "reason": reason})
        while self.fleet.reports:
            report = self.fleet.reports.popleft()
            feed(self._environment.stats, report.batch)
            data = {"state": report.state, "failures": report.failures}
            self._runner.send_message(wire.REPORT, data)


def _calm_collector() -> None:
    """Look for garbage less often: a full round walks all of the cars' objects and stops them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def feed(stats: Any, batch: Batch) -> None:
    """Add a batch of latencies to Locust's statistics, as one entry per name."""
    named = (
        (CONNECT, batch.connect_ms),
        (RECONNECT, batch.reconnect_ms),
        (TELEMETRY, batch.puback_ms),
    )
    for name, milliseconds in named:
        if not milliseconds:
            continue
        now = time.time()
        entry = StatsEntry(stats, name, _METHOD)
        entry.num_requests = len(milliseconds)
        entry.total_response_time = sum(milliseconds)
        entry.min_response_time = min(milliseconds)
        entry.max_response_time = max(milliseconds)
        entry.start_time = entry.last_request_timestamp = now
        entry.num_reqs_per_sec[int(now)] = len(milliseconds)
        whole, counts = np.unique(np.rint(milliseconds), return_counts=True)
        for one, count in zip(whole.tolist(), counts.tolist(), strict=True):
            entry.response_times[bucket_response_time(one)] += count
        stats.entries[(name, _METHOD)].extend(entry)
        stats.total.extend(entry)
