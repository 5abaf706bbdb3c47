"""Cars with real physics and real wear, driven in memory: telemetry and trouble codes, no Kafka."""

from typing import NamedTuple

from motorcade.fleet.clock import RunClock
from motorcade.fleet.messages import DiagnosticTroubleCode
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.simulator.generate.plan import SetPlan, faults_within
from motorcade.simulator.generate.share import Share
from motorcade.simulator.population import FleetPlan
from motorcade.simulator.wear import WearKind

from .telemetry import CATALOGUE, START_MS

HOUR_MS = 3_600_000


class Driven(NamedTuple):
    columns: TelemetryColumns
    codes: list[DiagnosticTroubleCode]


def driven(
    cars: int,
    hours: float,
    faults: int,
    kinds: tuple[WearKind, ...],
    *,
    seed: int = 3,
    interval_s: int = 30,
    wear_s: float = 3600.0,
) -> Driven:
    """All messages of a fleet, some of whose cars wear until they fail."""
    start = START_MS // 5000 * 5000
    end = start + round(hours * HOUR_MS)
    clock = RunClock(start, start, 1.0)
    fleet = FleetPlan(seed, CATALOGUE, clock, (), 5000)
    planned = faults_within(fleet, cars, faults, kinds, start, end, wear_s)
    parts, codes = [], []
    for moment in Share(
        SetPlan(fleet, cars, start, end, interval_s * 1000, start, planned)
    ).moments():
        parts += moment.telemetry
        codes += [
            DiagnosticTroubleCode(one.vin, start, one.code, str(one.kind), one.time_ms, one.time_ms)
            for one in moment.failures
        ]
    return Driven(TelemetryColumns.joined(parts), codes)
