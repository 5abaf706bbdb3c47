"""The cars of one worker: rows of a block stepped together, sampled, encoded and sent in ticks.

Everything here runs on the worker's event loop, except `wanted`, which Locust's users set, and
`reports`, which Locust's side takes from.
"""

import asyncio
import logging
import resource
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np

from motorcade.fleet.arrays import Ints
from motorcade.fleet.avro import TELEMETRY_SUBJECT
from motorcade.runtime.mqtt_options import access
from motorcade.runtime.mqtt_packets import encode_properties
from motorcade.simulator import ledger, measures
from motorcade.simulator.blocks import CarBlock, block_of
from motorcade.simulator.breakdowns import Breakdowns
from motorcade.simulator.car_kit import CarKit
from motorcade.simulator.car_session import CarSession
from motorcade.simulator.deliveries import Deliveries
from motorcade.simulator.fleet_events import (
    Disturbances,
    FleetEvent,
    Garbage,
    Offline,
    Pace,
    chosen,
    groups_of,
)
from motorcade.simulator.gate import released
from motorcade.simulator.hits import Hits
from motorcade.simulator.measures import Measures, Report, Tally, encode, keep
from motorcade.simulator.payload import AvroPayload, content_type_of, topic_of
from motorcade.simulator.population import FleetPlan
from motorcade.simulator.schedule import Schedule
from motorcade.simulator.settings import SimulatorSettings
from motorcade.simulator.sources import source_addresses
from motorcade.simulator.talk import Talk
from motorcade.simulator.wear import PlannedFault

_log = logging.getLogger(__name__)

#: All that is due is sent in ticks: one wake-up for many messages is what keeps them cheap. A tick
#: is a fiftieth of the interval within these bounds.
_SHORTEST_TICK_S, _LONGEST_TICK_S = 0.05, 0.2
_REPORT_S = 1.0
_LEDGER_S = 10.0
#: How long a car that stops waits for its last acknowledgements.
_DRAIN_S = 10.0
#: Cars that connect at one time, and how many more may begin in a tick when all of those hang.
_CONNECTING, _STILL = 256, 16
#: Rows that are built in one go: enough that NumPy is quick, and others have their turn between.
_ROWS = 1024
#: Samples are made so far ahead, as long as the cars stand still: in batches of many ticks, which
#: halves what they cost.
_AHEAD_MS = 1000


def share(cars: int, worker: int, workers: int) -> int:
    """How many of the cars 0 … cars-1 are worker's: those whose index is worker modulo workers."""
    return max(0, -(-(cars - worker) // workers))


class WorkerFleet:
    """Rows 0, 1, 2, … are the cars worker, worker+workers, worker+2·workers, … of the fleet.

    Attributes:
        wanted: how many cars shall run; always the first ones, so a fleet of N is cars 0 … N-1.
        reports: one `Report` a second, oldest first, see `measures.keep`.
        released: whether everything in `wait_for` has answered, so that cars may connect.
        amiss: what did not happen as it should though the worker goes on; Locust's side takes it.
    """

    def __init__(self, plan: FleetPlan, settings: SimulatorSettings, worker: int) -> None:
        self.wanted = 0
        self.released = False
        self.reports: deque[Report] = deque()
        self.amiss: deque[str] = deque()
        self._plan = plan
        self._settings = settings
        self._worker = worker
        self._declared = share(settings.cars, worker, settings.workers)
        self._started_ms = _wall_ms()
        self._measures = Measures()
        self._tally = Tally(len(settings.brokers))
        self._deliveries = Deliveries()
        self._talk = Talk(plan, settings, self._measures, self._deliveries)
        self._kit = CarKit(
            endpoints=settings.brokers,
            qos=settings.qos,
            in_flight=settings.in_flight,
            buffer=settings.buffer,
            keepalive_s=settings.keepalive_s,
            session_expiry_s=settings.session_expiry_s,
            aliases=1 if settings.topic_alias else 0,
            access=access(settings),
            sources=source_addresses(settings.cars, settings.brokers, settings.source_addresses),
            topic=topic_of(settings.topic_template),
            properties=encode_properties({"content_type": content_type_of(settings)}),
            measures=self._measures,
            tally=self._tally,
            deliveries=self._deliveries,
            now_ms=_wall_ms,
            consumed=settings.consumed,
        )
        self._schedule = Schedule(
            _interval_ms(settings.interval_s), plan.clock.wall_start_ms, settings.cars
        )
        self._ahead_ms = 0
        self._disturbances = Disturbances()
        self._running = 0
        self._wanted_at: list[float] = []  # by row, monotonic seconds
        self._sessions: list[CarSession | None] = []
        self._hits = Hits(self._sessions, self.amiss)
        self._bringing_up: dict[int, asyncio.Task[None]] = {}
        self._ending: dict[int, asyncio.Task[None]] = {}
        none = np.zeros(0, dtype=np.int64)
        self._block: CarBlock = block_of(plan, none, plan.clock.event_ms(self._started_ms))
        self._breakdowns = Breakdowns(parks=self._block.parks_when_failed)
        self._writer = ThreadPoolExecutor(1, "ledger")
        self._written: Future[None] | None = None

    @property
    def ledger_path(self) -> Path:
        return ledger.path_of(self._settings.run_dir, self._worker, self._started_ms)

    @property
    def stopped(self) -> bool:
        """Whether no car runs, starts or stops any more."""
        return not (self.wanted or self._running or self._ending)

    @property
    def built(self) -> bool:
        """Whether all declared cars are there, so that a ramp has nothing to do but connect."""
        return len(self._sessions) >= self._declared

    async def run(self) -> None:
        """Build the cars, wait for the release, then drive until the process ends.

        Raises:
            MotorcadeError: the cars cannot be built, or the schema of their payload is not known.
            OSError: the ledger cannot be written.
        """
        await self._learn_schema()
        await self._build()
        await released(self._settings.wait_for)
        await self._catch_up()
        self.released = True
        loop = asyncio.get_running_loop()
        next_tick = next_report = next_ledger = loop.time()
        while True:
            now = loop.time()
            self._measures.tick_ms.append(max(0.0, now - next_tick) * 1000)
            if now >= next_report:  # before the tick puts new messages in flight
                keep(self.reports, self._report())
                next_report = now + _REPORT_S
            self._tick(_wall_ms())
            if now >= next_ledger and (self._written is None or self._written.done()):
                if self._written is not None:
                    self._written.result()
                self.write_ledger()
                next_ledger = now + _LEDGER_S
            # Ticks that were missed are skipped; the messages due in them are not.
            next_tick = max(next_tick + self._tick_s, loop.time())
            await asyncio.sleep(next_tick - loop.time())

    def begin_wear(self, faults: list[PlannedFault]) -> None:
        """Let faults begin in cars of this worker; those of other workers are left to them."""
        ours = [f for f in faults if f.index % self._settings.workers == self._worker]
        self._block.begin_wear(ours)

    def begin_event(self, event: FleetEvent, at_ms: int) -> None:
        """Let a fleet event begin at `at_ms`, wall clock."""
        self._disturbances.add(event, at_ms)

    def write_ledger(self) -> "Future[None]":
        """Write what is known of every message so far; on a thread of its own, in order."""
        keep(self.reports, self._report())
        file = ledger.LedgerFile(
            worker=self._worker,
            started=self._started_ms,
            written=_wall_ms(),
            complete=self.stopped,
            cpu_s=time.process_time(),
            counts=asdict(self._measures.counts),
            boots=self._deliveries.columns(self._block.vins),
            dtcs=list(self._breakdowns.dtcs),
            histograms=self._histograms(),
        )
        self._written = self._writer.submit(ledger.write, self.ledger_path, file)
        return self._written

    # -- before the first car ---------------------------------------------------------------------

    async def _learn_schema(self) -> None:
        """Avro needs the id under which the registry holds the catalogue's schema."""
        if content_type_of(self._settings) == AvroPayload.content_type:
            # 15 MB and a quarter of a second in every worker, so only where it is needed.
            from motorcade.runtime.registry import schema_id

            number = await schema_id(self._settings, self._plan.catalogue, TELEMETRY_SUBJECT)
            self._talk.payload = AvroPayload(self._plan.catalogue, number)

    async def _build(self) -> None:
        """Build the declared cars, with turns for others between."""
        while not self.built:
            self._grow(min(self._declared, len(self._sessions) + _ROWS))
            await asyncio.sleep(0)

    async def _catch_up(self) -> None:
        """Event time went on at the gate: drive to the present, with turns for others between."""
        at = self._block.event_ms
        while at < (now := self._plan.clock.event_ms(_wall_ms())):
            at = min(now, at + 10 * self._plan.grid_ms)
            self._block.step(at)
            await asyncio.sleep(0)

    # -- one tick -------------------------------------------------------------------------------

    @property
    def _tick_s(self) -> float:
        return min(_LONGEST_TICK_S, max(_SHORTEST_TICK_S, self._schedule.interval_ms / 50_000))

    def _tick(self, now_ms: int) -> None:
        self._follow(now_ms)
        event_ms = self._plan.clock.event_ms(now_ms)
        self._block.step(event_ms)
        for failure in self._block.failures():
            self._breakdowns.happened(failure, self._sessions[failure.row])
        self._schedule.stop(self._breakdowns.park(event_ms, self._sessions))
        for event, detail in self._disturbances.take(now_ms):
            self._disturb(event, detail, now_ms)
        for rows, due in self._schedule.take(now_ms):
            done = self._talk.send(rows, due, self._block, self._sessions)
            self._schedule.stop(done)
            self._measures.lag_ms.append(now_ms - due)
        if now_ms >= self._ahead_ms:
            self._prepare(now_ms)

    def _prepare(self, now_ms: int) -> None:
        """Make samples ahead, until the cars move on; not where a tick has many anyway."""
        moves_ms = self._plan.clock.wall_ms(self._block.event_ms + self._plan.grid_ms)
        until = min(now_ms + _AHEAD_MS, moves_ms - 1)
        rows, due = self._schedule.ahead(until)
        if len(rows) > _ROWS:
            until = int(np.partition(due, _ROWS)[_ROWS]) - 1
            rows, due = rows[due <= until], due[due <= until]
        if len(rows) and until - now_ms > 2000 * self._tick_s:
            self._talk.prepare(rows, due, self._block)
            self._ahead_ms = until

    def _disturb(self, event: FleetEvent, group: int, now_ms: int) -> None:
        """Do to our cars what a fleet event says."""
        seed = self._plan.seed
        if isinstance(event, Pace):
            for rows, due in self._schedule.take(now_ms):  # due at the old pace
                self._talk.send(rows, due, self._block, self._sessions)
            self._schedule.change(_interval_ms(event.interval_s), now_ms)
            return
        indices = self._block.indices
        hit = chosen(event, seed, indices)
        if isinstance(event, Garbage):
            self._talk.break_firmware(hit, now_ms + round(event.seconds * 1000))
            return
        if isinstance(event, Offline):
            hit &= groups_of(event, seed, indices) == group
        self._hits.begin(event, np.flatnonzero(hit).tolist())

    # -- cars come and go -----------------------------------------------------------------------

    def _follow(self, now_ms: int) -> None:
        """Start or stop cars until as many run as are wanted."""
        wanted, running = self.wanted, self._running
        self._wanted_at += [time.monotonic()] * (wanted - len(self._wanted_at))
        del self._wanted_at[wanted:]
        if wanted > running:
            # So many at once that a broker is kept busy; those that hang must not hold up all.
            room = max(_STILL, _CONNECTING - len(self._bringing_up))
            wanted = min(wanted, running + room)
            self._grow(wanted)
            for row in range(running, wanted):
                self._start(row, now_ms)
        for row in range(wanted, running):
            self._stop(row)
        self._running = wanted

    def _start(self, row: int, now_ms: int) -> None:
        boot = self._talk.start(row, now_ms)
        number = self._deliveries.open(row, boot)
        vin = self._block.vins[row].decode("ascii")
        session = CarSession(vin, boot, self._index(row), number, self._kit)
        self._sessions[row] = session
        starting = self._bring_up(row, session, self._wanted_at[row])
        task = asyncio.get_running_loop().create_task(starting)
        self._bringing_up[row] = task
        task.add_done_callback(lambda done: self._done(self._bringing_up, row, done))

    async def _bring_up(self, row: int, session: CarSession, wanted_at: float) -> None:
        if (before := self._ending.get(row)) is not None:
            await asyncio.wait([before])  # two connections of one car would fight for the session
        if not await session.start(wanted_at):
            return
        if self._breakdowns.parked(row):
            session.park()
        elif self._settings.publish:
            self._schedule.start(row, _wall_ms())

    def _stop(self, row: int) -> None:
        self._schedule.stop(row)
        session, self._sessions[row] = self._sessions[row], None
        if (starting := self._bringing_up.get(row)) is not None:
            starting.cancel()
        assert session is not None, "a row that runs has a session"
        self._talk.finish(row, session)
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
            self.amiss.append(f"a car failed: {error!r}")

    # -- rows -----------------------------------------------------------------------------------

    def _index(self, row: int) -> int:
        return self._worker + row * self._settings.workers

    def _grow(self, rows: int) -> None:
        known = len(self._sessions)
        if rows <= known:
            return
        more = np.arange(known, rows, dtype=np.int64)
        indices: Ints = self._worker + more * self._settings.workers
        self._block.grow(indices)
        self._talk.grow(len(indices))
        self._sessions += [None] * len(indices)
        self._schedule.grow(indices)

    # -- edges ----------------------------------------------------------------------------------

    def _report(self) -> Report:
        counts, tally = self._measures.counts, self._tally
        sent, acked, garbage = self._deliveries.settle()
        counts.sent += sent
        counts.acked += acked
        counts.garbage += garbage
        batch = self._measures.flush()
        state = {
            "worker": self._worker,
            "released": self.released,
            "stopped": self.stopped,
            "wanted": self.wanted,
            "cars": {
                endpoint: {name: n for name, n in zip(measures.STATES, cars, strict=True) if n}
                for endpoint, cars in zip(self._settings.brokers, tally.cars, strict=True)
            },
            "stopping": len(self._ending),
            "in_flight": tally.in_flight,
            "waiting": tally.waiting,
            "offline": tally.total(measures.OFFLINE),
            "finished": self._talk.finished,
            "tls": self._kit.access["tls"] is not None,
            **asdict(counts),
            "lag_ms": self._measures.worst_lag_ms,
            "histograms": self._histograms(),
            "cpu_s": time.process_time(),
            "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        return Report(state, self._breakdowns.take(), batch)

    def _histograms(self) -> dict[str, str]:
        return {name: encode(one) for name, one in self._measures.histograms.items()}


def _interval_ms(interval_s: float) -> int:
    return max(1, round(interval_s * 1000))


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
