"""The cars of one worker: rows of a block stepped together, sampled, encoded and sent in ticks.

Everything here runs on the worker's event loop, except `wanted`, which Locust's users set, and
`reports`, which Locust's side takes from.
"""

import asyncio
import logging
import resource
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from motorcade.fleet.arrays import Ints
from motorcade.fleet.telemetry import TelemetryColumns, TelemetryJson
from motorcade.runtime.mqtt_options import access
from motorcade.simulator import ledger
from motorcade.simulator.blocks import CarBlock, block_of
from motorcade.simulator.car_session import CarKit, CarSession
from motorcade.simulator.measures import Batch, Measures, encode
from motorcade.simulator.population import FleetPlan
from motorcade.simulator.schedule import Schedule
from motorcade.simulator.settings import SimulatorSettings
from motorcade.simulator.wear import Failure, PlannedFault

_log = logging.getLogger(__name__)

#: All that is due is sent in ticks: one wake-up for many messages is what keeps them cheap.
_TICK_S = 0.05
_REPORT_S = 1.0
_LEDGER_S = 10.0
#: How long a car that stops waits for its last acknowledgements.
_DRAIN_S = 10.0
#: Event time that a car still drives after its diagnosis reported a failure, until it is parked.
_LIMP_MS = 60_000
_GATE_POLL_S = 0.2


@dataclass(frozen=True)
class Report:
    """One second of a worker: `state` for the master, `batch` for Locust's statistics."""

    state: dict[str, Any]
    failures: list[dict[str, Any]]
    batch: Batch


def share(cars: int, worker: int, workers: int) -> int:
    """How many of the cars 0 … cars-1 are worker's: those whose index is worker modulo workers."""
    return max(0, -(-(cars - worker) // workers))


class WorkerFleet:
    """Rows 0, 1, 2, … are the cars worker, worker+workers, worker+2·workers, … of the fleet.

    Attributes:
        wanted: how many cars shall run; always the first ones, so a fleet of N is cars 0 … N-1.
        reports: one `Report` a second, oldest first.
        released: whether everything in `wait_for` has answered, so that cars may connect.
    """

    def __init__(self, plan: FleetPlan, settings: SimulatorSettings, worker: int) -> None:
        self.wanted = 0
        self.released = False
        self.reports: deque[Report] = deque(maxlen=60)
        self._plan = plan
        self._settings = settings
        self._worker = worker
        self._started_ms = _wall_ms()
        self._json = TelemetryJson(plan.catalogue)
        self._measures = Measures()
        self._kit = CarKit(
            qos=settings.qos,
            in_flight=settings.in_flight,
            buffer=settings.buffer,
            keepalive_s=settings.keepalive_s,
            access=access(settings),
            measures=self._measures,
            now_ms=_wall_ms,
        )
        interval_ms = max(1, round(settings.interval_s * 1000))
        self._schedule = Schedule(interval_ms, plan.clock.wall_start_ms)
        self._running = 0
        self._sessions: list[CarSession | None] = []
        self._bringing_up: dict[int, asyncio.Task[None]] = {}
        self._ending: dict[int, asyncio.Task[None]] = {}
        self._boot = np.zeros(0, dtype=np.int64)
        self._seq = np.zeros(0, dtype=np.int64)
        self._boots: list[ledger.Boot] = []
        self._dtcs: list[ledger.DtcRecord] = []
        self._failures: list[dict[str, Any]] = []
        #: Rows that broke down, and the event time from which each is parked.
        self._broken: dict[int, int] = {}
        first = self._indices(0, max(1, share(settings.cars, worker, settings.workers)))
        self._block: CarBlock = block_of(plan, first, plan.clock.event_ms(self._started_ms))
        self._add_rows(first)

    @property
    def ledger_path(self) -> Path:
        return ledger.path_of(self._settings.run_dir, self._worker, self._started_ms)

    @property
    def stopped(self) -> bool:
        """Whether no car runs, starts or stops any more."""
        return not (self.wanted or self._running or self._ending)

    async def run(self) -> None:
        """Wait for the release, then drive until the process ends."""
        await self._gate()
        self.released = True
        loop = asyncio.get_running_loop()
        next_tick = next_report = next_ledger = loop.time()
        while True:
            now = loop.time()
            self._measures.tick_ms.append(max(0.0, now - next_tick) * 1000)
            if now >= next_report:  # before the tick puts new messages in flight
                self.reports.append(self._report())
                next_report = now + _REPORT_S
            self._tick(_wall_ms())
            if now >= next_ledger:
                self.write_ledger()
                next_ledger = now + _LEDGER_S
            # Ticks that were missed are skipped; the messages due in them are not.
            next_tick = max(next_tick + _TICK_S, loop.time())
            await asyncio.sleep(next_tick - loop.time())

    def begin_wear(self, faults: list[PlannedFault]) -> None:
        """Let faults begin in cars of this worker; those of other workers are left to them."""
        ours = [f for f in faults if f.index % self._settings.workers == self._worker]
        self._block.begin_wear(ours)

    def write_ledger(self) -> None:
        """Write what is known of every message so far."""
        self.reports.append(self._report())
        ledger.write(
            self.ledger_path,
            ledger.LedgerFile(
                worker=self._worker,
                started=self._started_ms,
                written=_wall_ms(),
                complete=self.stopped,
                cpu_s=time.process_time(),
                counts=asdict(self._measures.counts),
                boots=[boot.record() for boot in self._boots],
                dtcs=self._dtcs,
                histograms={n: encode(h) for n, h in self._measures.histograms.items()},
            ),
        )

    # -- one tick -------------------------------------------------------------------------------

    def _tick(self, now_ms: int) -> None:
        self._follow(now_ms)
        event_ms = self._plan.clock.event_ms(now_ms)
        self._block.step(event_ms)
        for failure in self._block.failures():
            self._break_down(failure)
        self._park(event_ms)
        for rows, due in self._schedule.take(now_ms):
            self._send(rows, due, now_ms)

    def _send(self, rows: Ints, due: Ints, now_ms: int) -> None:
        self._seq[rows] += 1
        seq = self._seq[rows]
        event_ms = self._plan.clock.event_ms
        columns = TelemetryColumns(
            vin=self._block.vins[rows],
            values=self._block.sample(rows),
            boot=self._boot[rows],
            seq=seq,
            time=np.array([event_ms(one) for one in due.tolist()], dtype=np.int64),
            due=due,
        )
        payloads = self._json.encode(columns)
        sessions = self._sessions
        for row, number, at, payload in zip(
            rows.tolist(), seq.tolist(), due.tolist(), payloads, strict=True
        ):
            session = sessions[row]
            assert session is not None, "a row that runs has a session"
            session.send(number, at, payload)
        self._measures.lag_ms.extend((now_ms - due).tolist())

    # -- cars come and go -----------------------------------------------------------------------

    def _follow(self, now_ms: int) -> None:
        """Start or stop cars until as many run as are wanted."""
        wanted = self.wanted
        self._grow(wanted)
        for row in range(self._running, wanted):
            self._start(row, now_ms)
        for row in range(wanted, self._running):
            self._stop(row)
        self._running = wanted

    def _start(self, row: int, now_ms: int) -> None:
        settings = self._settings
        # A later start of the same car is newer, even if the clock was set back in between.
        self._boot[row] = boot = max(now_ms, int(self._boot[row]) + 1)
        self._seq[row] = 0
        endpoint = settings.brokers[self._index(row) % len(settings.brokers)]
        session = CarSession(self._block.vins[row].decode("ascii"), boot, endpoint, self._kit)
        self._sessions[row] = session
        self._boots.append(session.ledger)
        task = asyncio.get_running_loop().create_task(self._bring_up(row, session))
        self._bringing_up[row] = task
        task.add_done_callback(lambda done: self._done(self._bringing_up, row, done))

    async def _bring_up(self, row: int, session: CarSession) -> None:
        if (before := self._ending.get(row)) is not None:
            await asyncio.wait([before])  # two connections of one car would fight for the session
        if not await session.start():
            return
        if row in self._broken:
            session.parked = True
        else:
            self._schedule.start(row, _wall_ms())

    def _stop(self, row: int) -> None:
        self._schedule.stop(row)
        session, self._sessions[row] = self._sessions[row], None
        if (starting := self._bringing_up.get(row)) is not None:
            starting.cancel()
        assert session is not None, "a row that runs has a session"
        task = asyncio.get_running_loop().create_task(
            self._end(session, starting, self._ending.get(row))
        )
        self._ending[row] = task
        task.add_done_callback(lambda done: self._done(self._ending, row, done))

    async def _end(self, session: CarSession, *before: asyncio.Task[None] | None) -> None:
        await asyncio.gather(*filter(None, before), return_exceptions=True)
        await session.stop(_DRAIN_S)

    def _done(
        self, tasks: dict[int, asyncio.Task[None]], row: int, task: asyncio.Task[None]
    ) -> None:
        if tasks.get(row) is task:
            del tasks[row]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("car %s failed", self._block.vins[row].decode(), exc_info=error)

    def _break_down(self, failure: Failure) -> None:
        """Send the trouble code; the car limps on for a while and is then parked."""
        if self._block.parks_when_failed:
            self._broken[failure.row] = failure.time_ms + _LIMP_MS
        session = self._sessions[failure.row]
        if session is not None:
            self._dtcs.append(
                session.report_failure(
                    failure.code, failure.kind, failure.time_ms, failure.description
                )
            )
        self._failures.append(
            {
                "index": failure.index,
                "vin": failure.vin,
                "kind": str(failure.kind),
                "code": failure.code,
                "time": failure.time_ms,
                "reported": session is not None,
            }
        )

    def _park(self, event_ms: int) -> None:
        for row, from_ms in self._broken.items():
            session = self._sessions[row]
            if session is not None and not session.parked and event_ms >= from_ms:
                session.parked = True
                self._schedule.stop(row)

    # -- rows -----------------------------------------------------------------------------------

    def _index(self, row: int) -> int:
        return self._worker + row * self._settings.workers

    def _indices(self, first: int, last: int) -> Ints:
        rows = np.arange(first, last, dtype=np.int64)
        return self._worker + rows * self._settings.workers

    def _grow(self, rows: int) -> None:
        known = len(self._sessions)
        if rows > known:
            more = self._indices(known, max(rows, known + known // 4))
            self._block.grow(more)
            self._add_rows(more)

    def _add_rows(self, indices: Ints) -> None:
        none = np.zeros(len(indices), dtype=np.int64)
        self._boot = np.concatenate((self._boot, none))
        self._seq = np.concatenate((self._seq, none))
        self._sessions += [None] * len(indices)
        self._schedule.grow(indices)

    # -- edges ----------------------------------------------------------------------------------

    async def _gate(self) -> None:
        """Wait until every URL of `wait_for` answers 200; event time goes on meanwhile."""
        waiting = list(self._settings.wait_for)
        if not waiting:
            return
        _log.info("cars wait for %s", ", ".join(waiting))
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as client:
            while waiting:
                waiting = [url for url in waiting if not await _answers(client, url)]
                self._block.step(self._plan.clock.event_ms(_wall_ms()))
                await asyncio.sleep(_GATE_POLL_S if waiting else 0)

    def _report(self) -> Report:
        batch = self._measures.flush()
        failures, self._failures = self._failures, []
        cars: dict[str, Counter[str]] = {e: Counter() for e in self._settings.brokers}
        in_flight = waiting = 0
        for row, session in enumerate(self._sessions[: self._running]):
            if session is not None:
                endpoint = self._settings.brokers[self._index(row) % len(self._settings.brokers)]
                cars[endpoint][session.state] += 1
                in_flight += session.in_flight
                waiting += session.waiting
        puback = self._measures.histograms["puback"]
        state = {
            "worker": self._worker,
            "released": self.released,
            "stopped": self.stopped,
            "wanted": self.wanted,
            "cars": {endpoint: dict(states) for endpoint, states in cars.items()},
            "stopping": len(self._ending),
            "in_flight": in_flight,
            "waiting": waiting,
            **asdict(self._measures.counts),
            "lag_ms": self._measures.worst_lag_ms,
            "puback_p50_ms": puback.get_value_at_percentile(50) / 1000,
            "puback_p99_ms": puback.get_value_at_percentile(99) / 1000,
            "cpu_s": time.process_time(),
            "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        return Report(state, failures, batch)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


async def _answers(client: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with client.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
