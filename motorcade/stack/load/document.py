"""The document of a run: its manifest, verdict, stages, events, series and limit."""

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import psutil

from motorcade.fleet import topics
from motorcade.simulator.report import document as doc
from motorcade.simulator.scenarios.model import Scenario
from motorcade.stack.load.limit import Step
from motorcade.stack.load.options import LoadOptions
from motorcade.stack.load.runner import Finished
from motorcade.stack.load.seek import Seeker
from motorcade.stack.load.watch import Sample, percentile

#: Packages whose versions decide how a run performs.
_PACKAGES = (
    "aiokafka",
    "confluent-kafka",
    "gevent",
    "gmqtt",
    "locust",
    "msgspec",
    "numpy",
    "tensorflow-cpu",
    "uvloop",
)
_RATES = {
    "raw": topics.RAW,
    "refined": topics.TELEMETRY,
    "quarantined": topics.DLQ,
    "scored": topics.PREDICTIONS,
}
#: Settings that must not be told.
_SECRET = ("credentials", "key", "password")


def document(scenario: Scenario, options: LoadOptions, finished: Finished) -> doc.Document:
    """Everything that is known of a run."""
    return doc.Document(
        manifest=_manifest(scenario, options, finished),
        verdict=finished.verdict,
        stages=[
            doc.Stage(one["name"], one["from_ms"], one["to_ms"] or finished.ended_ms)
            for one in finished.spans
        ],
        events=[
            doc.Event(r.happening.time_ms, r.happening.kind, r.happening.detail, r.seconds)
            for r in finished.recoveries
        ],
        series=series(finished.samples),
        limit=None if finished.seeker is None else limit(finished.seeker),
    )


def limit(seeker: Seeker) -> doc.Limit:
    """What a search for the limit found."""
    search = seeker.search
    broke = None
    if search.broke is not None:
        worst = search.broke.broken[0]
        broke = doc.Broke(worst.level, f"{worst.observed:,.4g}, {worst.allowed:g} is allowed")
    return doc.Limit(
        steps=[_step(step) for step in search.steps],
        ending="" if search.ending is None else str(search.ending),
        confirmed_rate=search.confirmed,
        broke=broke,
        saturated=None
        if seeker.culprit is None
        else doc.Saturated(seeker.culprit.component, list(seeker.culprit.evidence)),
    )


def _step(step: Step) -> doc.LimitStep:
    return doc.LimitStep(
        load=step.load,
        offered=step.offered,
        phase=str(step.phase),
        held=step.held,
        broken=[
            f"{one.level}: {one.observed:,.4g}, {one.allowed:g} is allowed" for one in step.broken
        ],
        observed=dict(step.observed),
    )


def _manifest(scenario: Scenario, options: LoadOptions, finished: Finished) -> doc.Manifest:
    settings = finished.settings.model_dump(mode="json", exclude_none=True)
    return doc.Manifest(
        motorcade=metadata.version("motorcade"),
        python=platform.python_version(),
        packages={name: version for name in _PACKAGES if (version := _version(name))},
        machine=_machine(),
        seed=scenario.fleet.seed,
        scenario=scenario.model_dump(mode="json"),
        settings={
            name: value
            for name, value in settings.items()
            if not any(word in name for word in _SECRET)
        },
        command=options.command,
        started=finished.started_ms,
        ended=finished.ended_ms,
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _machine() -> doc.Machine:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return doc.Machine(
        cpu=names[0] if names else platform.machine(),
        cores=os.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        kernel=platform.release(),
    )


def series(samples: Sequence[Sample]) -> doc.Series:
    """Looks at a run as figures over time, None where something was not seen."""
    rows = [_levels(one) | _growths(before, one) for before, one in pairwise(samples)]
    names = sorted({name for row in rows for name in row})
    return doc.Series(
        [one.time_ms for one in samples[1:]],
        {name: [row.get(name) for row in rows] for name in names},
    )


def _levels(one: Sample) -> dict[str, float]:
    fleet = one.fleet
    found: dict[str, float] = {"machine.busy": one.machine}
    if fleet:
        found["cars.connected"] = one.connected
        found |= {f"cars.{state}": n for state, n in fleet["cars"].items()}
        found["generator.lag_ms"] = fleet["lag_ms"]
        for name, recent in fleet.get("recent", {}).items():
            if recent["n"]:
                found |= {f"latency.{name}.{p}": recent[p] for p in ("p50", "p99")}
    if one.kafka is not None:
        found |= {f"lag.{group}": lag for group, lag in one.kafka.lag.items()}
        if len(one.kafka.latencies_ms):
            found |= {
                f"latency.kafka.p{share}": percentile(one.kafka.latencies_ms, share)
                for share in (50, 99)
            }
    if one.drops is not None:
        found["broker.drops"] = one.drops
    return found | {f"rss.{name}": rss for name, rss in one.rss_mib.items()}


def _growths(before: Sample, one: Sample) -> dict[str, float]:
    seconds = (one.time_ms - before.time_ms) / 1000
    found = {
        f"cpu.{name}": (used - before.cpu_s.get(name, 0.0)) / seconds
        for name, used in one.cpu_s.items()
    }
    if one.fleet and before.fleet:
        found |= {
            f"rate.{name}": max(0, one.fleet[name] - before.fleet[name]) / seconds
            for name in ("sent", "acked", "connects", "disconnects")
        }
    if one.kafka is not None and before.kafka is not None:
        for name, topic in _RATES.items():
            found[f"rate.{name}"] = (one.kafka.counts[topic] - before.kafka.counts[topic]) / seconds
    return found
