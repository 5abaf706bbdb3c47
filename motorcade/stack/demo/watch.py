"""Watches a running demo: figures every second, and every alert, answer, failure and crash."""

import asyncio
import time
from dataclasses import dataclass, field

from motorcade.fleet import topics
from motorcade.fleet.errors import DecodeError
from motorcade.fleet.messages import (
    Alert,
    AlertAction,
    CommandResponse,
    DiagnosticTroubleCode,
    decode,
)
from motorcade.fleet.settings import ProcessSettings
from motorcade.runtime.kafka import Record, consumer, partitions_of, started
from motorcade.runtime.kafka import TopicPartition as Place
from motorcade.stack.brokers.base import DropCount
from motorcade.stack.keeper import Keeper
from motorcade.stack.pipeline import Pipeline
from motorcade.stack.screen import Screen
from motorcade.stack.simulation import Simulation
from motorcade.stack.usage import UsageMeter

_EVERY_S = 1.0
_TOPICS = (topics.ALERTS, topics.COMMANDS_STATUS, topics.DTC)


@dataclass
class Watch:
    """What the demo's screen shows; also counts what the stages wait for.

    Attributes:
        alerts, answers, failures: events seen so far.
        connected: cars that are connected.
        counts: records in each topic.
    """

    settings: ProcessSettings
    keeper: Keeper
    pipeline: Pipeline
    screen: Screen
    meter: UsageMeter
    drops: DropCount
    simulation: Simulation | None = None
    alerts: int = 0
    answers: int = 0
    failures: int = 0
    connected: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    _crashes: int = 0

    async def figures(self) -> None:
        """Refresh the figures until cancelled."""
        before, at = await self.pipeline.counts(), time.monotonic()
        while True:
            await asyncio.sleep(_EVERY_S)
            self.meter.sample()
            self._report_crashes()
            self.counts, now = await self.pipeline.counts(), time.monotonic()
            rates = {t: (n - before[t]) / (now - at) for t, n in self.counts.items()}
            before, at = self.counts, now
            await self._look_at_fleet()
            self.screen.figures(
                {
                    "cars connected": f"{self.connected:,}",
                    "telemetry.raw": _figure(self.counts[topics.RAW], rates[topics.RAW]),
                    "refined": _figure(self.counts[topics.TELEMETRY], rates[topics.TELEMETRY]),
                    "quarantined": f"{self.counts[topics.DLQ]:,}",
                    "predictions": _figure(
                        self.counts[topics.PREDICTIONS], rates[topics.PREDICTIONS]
                    ),
                    "alerts · answers · failures": (
                        f"{self.alerts} · {self.answers} · {self.failures}"
                    ),
                }
            )

    async def events(self) -> None:
        """Show alerts, answers and failures as they come, until cancelled."""
        async with started(consumer(self.settings), self.settings) as client:
            places = [Place(t, p) for t in _TOPICS for p in await partitions_of(client, t)]
            client.assign(places)
            await client.seek_to_end(*places)
            while True:
                fetched = await client.getmany(timeout_ms=500)
                records = [record for batch in fetched.values() for record in batch]
                for record in sorted(records, key=lambda record: record.timestamp):
                    self._show(record)

    def _show(self, record: Record) -> None:
        value = record.value or b""
        try:
            if record.topic == topics.ALERTS:
                alert = decode(Alert, value)
                if alert.action is AlertAction.RAISED:
                    self.alerts += 1
                    self.screen.event(
                        f"alert: {alert.vin} {alert.kind}, score {alert.score:.1f} over "
                        f"{alert.threshold:.1f} ({', '.join(alert.signals)})",
                        "yellow",
                    )
            elif record.topic == topics.COMMANDS_STATUS:
                answer = decode(CommandResponse, value)
                if answer.status.final:
                    self.answers += 1
                    self.screen.event(f"driver of {answer.vin} warned: {answer.status}", "green")
            else:
                dtc = decode(DiagnosticTroubleCode, value)
                self.failures += 1
                self.screen.event(f"failure: {dtc.vin} {dtc.code} {dtc.kind}", "red")
        except DecodeError as error:
            self.screen.event(f"{record.topic}: {error.what}", "red")

    def _report_crashes(self) -> None:
        crashes = self.keeper.restarts()
        for crash in crashes[self._crashes :]:
            self.screen.event(f"{crash.name} {crash.how}; it is started again", "bold red")
        self._crashes = len(crashes)

    async def _look_at_fleet(self) -> None:
        if self.simulation is not None:
            self.connected = int((await self.simulation.fleet())["connected"])


def _figure(count: int, rate: float) -> str:
    return f"{count:>10,}   {rate:,.0f}/s"
