"""Turns what a load run leaves into its document: series from its looks, and its manifest."""

import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from motorcade.fleet import topics
from motorcade.simulator.report import document as report_document
from motorcade.simulator.report import page
from motorcade.simulator.report.document import (
    Broke,
    Document,
    Event,
    Limit,
    LimitStep,
    Machine,
    Manifest,
    Saturated,
    Series,
    Stage,
)
from motorcade.simulator.scenarios.model import Scenario
from motorcade.simulator.settings import SimulatorSettings
from motorcade.stack.load.options import LoadOptions
from motorcade.stack.load.runner import Finished
from motorcade.stack.load.seek import Seeker
from motorcade.stack.load.watch import Sample, percentile

_PACKAGES = (
    "aiokafka",
    "confluent-kafka",
    "locust",
    "gevent",
    "gmqtt",
    "msgspec",
    "numpy",
    "tensorflow-cpu",
    "uvloop",
)
#: Counters of the fleet whose growth is a rate.
_FLEET_RATES = ("sent", "acked", "connects", "connect_failures", "disconnects", "dropped")
_TOPIC_RATES = {
    "raw": topics.RAW,
    "refined": topics.TELEMETRY,
    "quarantined": topics.DLQ,
    "scored": topics.PREDICTIONS,
}

_Figures = Mapping[str, float | None]


def keep(finished: Finished, scenario: Scenario, options: LoadOptions) -> None:
    """Write the run's document and report, where they are wanted.

    Raises:
        DocumentError, PageError: a file cannot be written.
    """
    if options.document is None and options.report is None:
        return
    document = document_of(finished, scenario, options.command)
    if options.document is not None:
        report_document.write(document, options.document)
    if options.report is not None:
        page.write(document, options.report)


def document_of(finished: Finished, scenario: Scenario, command: str) -> Document:
    """The document of a run."""
    return Document(
        manifest=manifest_of(finished, scenario, command),
        verdict=finished.verdict,
        stages=[
            Stage(one["name"], one["from_ms"], one["to_ms"] or finished.ended_ms)
            for one in finished.spans
        ],
        events=[
            Event(
                one.happening.time_ms,
                one.happening.kind,
                one.happening.detail,
                one.seconds if one.happening.recovers else None,
            )
            for one in finished.recoveries
        ],
        series=series_of(finished.samples),
        limit=None if finished.seeker is None else _limit(finished.seeker),
    )


def manifest_of(finished: Finished, scenario: Scenario, command: str) -> Manifest:
    """Versions, machine, seed, scenario and settings of a run."""
    return Manifest(
        motorcade=version("motorcade"),
        python=platform.python_version(),
        packages={name: found for name in _PACKAGES if (found := _version(name)) is not None},
        machine=Machine(
            _processor(),
            psutil.cpu_count() or 1,
            psutil.virtual_memory().total / 2**30,
            f"{platform.system()} {platform.release()}",
        ),
        seed=scenario.fleet.seed,
        scenario=scenario.model_dump(mode="json"),
        settings=_public(finished.settings),
        command=command,
        started=finished.started_ms,
        ended=finished.ended_ms,
    )


def series_of(samples: Sequence[Sample]) -> Series:
    """Figures over time of a run's looks, oldest first."""
    rows: list[_Figures] = []
    before: Sample | None = None
    for sample in samples:
        rows.append(_figures(sample, before))
        before = sample
    names = sorted({name for row in rows for name in row})
    return Series(
        [sample.time_ms for sample in samples],
        {name: [_rounded(row.get(name)) for row in rows] for name in names},
    )


def _figures(sample: Sample, before: Sample | None) -> _Figures:
    found: dict[str, float | None] = {"machine.busy": sample.machine}
    if sample.fleet:
        found |= {f"cars.{state}": n for state, n in sample.fleet.get("cars", {}).items()}
        found["cars.connected"] = sample.connected
        found["generator.lag_ms"] = sample.fleet.get("lag_ms")
        for name, recent in sample.fleet.get("recent", {}).items():
            # A second in which nothing happened has no latency.
            for share in ("p50", "p99") if recent["n"] else ():
                found[f"latency.{name}.{share}"] = recent[share]
    if sample.kafka is not None:
        found |= {f"lag.{group}": n for group, n in sample.kafka.lag.items()}
        for rank in (50, 99):
            found[f"latency.kafka.p{rank}"] = percentile(sample.kafka.latencies_ms, rank)
    if sample.drops is not None:
        found["broker.drops"] = sample.drops
    found |= {f"rss.{name}": mib for name, mib in sample.rss_mib.items()}
    if before is not None and (seconds := (sample.time_ms - before.time_ms) / 1000) > 0:
        found |= _rates(sample, before, seconds)
    return found


def _rates(sample: Sample, before: Sample, seconds: float) -> _Figures:
    found: dict[str, float | None] = {}
    for name, used in sample.cpu_s.items():
        found[f"cpu.{name}"] = max(0.0, used - before.cpu_s.get(name, 0.0)) / seconds
    if sample.fleet and before.fleet:
        for name in _FLEET_RATES:
            grown = sample.fleet.get(name, 0) - before.fleet.get(name, 0)
            found[f"rate.{name}"] = max(0, grown) / seconds
    if sample.kafka is not None and before.kafka is not None:
        for name, topic in _TOPIC_RATES.items():
            grown = sample.kafka.counts.get(topic, 0) - before.kafka.counts.get(topic, 0)
            found[f"rate.{name}"] = max(0, grown) / seconds
    return found


def _rounded(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.5g}")


def _limit(seeker: Seeker) -> Limit:
    search = seeker.search
    broke = None
    if search.broke is not None and search.broke.broken:
        worst = search.broke.broken[0]
        broke = Broke(worst.level, f"{worst.observed:.4g}, {worst.allowed:g} is allowed")
    culprit = seeker.culprit
    return Limit(
        steps=[
            LimitStep(
                one.load,
                one.offered,
                one.phase.value,
                one.held,
                [level.level for level in one.broken],
                {name: _rounded(value) for name, value in one.observed.items()},
            )
            for one in search.steps
        ],
        ending="" if search.ending is None else search.ending.value,
        confirmed_rate=search.confirmed,
        broke=broke,
        saturated=None if culprit is None else Saturated(culprit.component, [*culprit.evidence]),
    )


def _public(settings: SimulatorSettings) -> dict[str, object]:
    """Settings without secrets, which are only ever in files that settings name."""
    found: dict[str, object] = settings.model_dump(mode="json", exclude_none=True)
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
