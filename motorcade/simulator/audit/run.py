"""Audits a finished run: reads ledgers, truth and topics, and judges them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from hdrh.histogram import HdrHistogram

from motorcade.fleet import topics
from motorcade.fleet.avro import PREDICTIONS_SUBJECT, TELEMETRY_SUBJECT
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.messages import AlertAction
from motorcade.fleet.settings import ProcessSettings
from motorcade.runtime.registry import schema_id
from motorcade.simulator import ledger
from motorcade.simulator.audit import partitions, read
from motorcade.simulator.audit.delivery import Claim, Delivery, Excuse, deliver
from motorcade.simulator.audit.faults import FaultAccounts, account_faults
from motorcade.simulator.audit.judge import judge
from motorcade.simulator.audit.latency import Latency
from motorcade.simulator.audit.limits import Limits
from motorcade.simulator.audit.partition import Part
from motorcade.simulator.audit.payloads import Places
from motorcade.simulator.audit.read import OnRead, Since
from motorcade.simulator.audit.reconcile import reconcile
from motorcade.simulator.audit.records import AlertRecord
from motorcade.simulator.audit.verdict import (
    ALERT_TO_CAR,
    CONNECT,
    DUE_TO_ALERT,
    DUE_TO_KAFKA,
    DUE_TO_PREDICTION,
    DUE_TO_PUBACK,
    RECONNECT,
    BrokerAccount,
    Check,
    Findings,
    Fleet,
    Generator,
    ProcessUsage,
    Scope,
    Verdict,
    also,
)
from motorcade.simulator.intervals import IntervalSet
from motorcade.simulator.master_state import problems_of
from motorcade.simulator.measures import new_histogram, record


@dataclass(frozen=True)
class Surroundings:
    """What the audit cannot read from topics: the broker's own words, usage, what befell the run.

    Attributes:
        durability: what the broker says of itself; broker_drops: its own count, None if unknown.
        usage: of the processes.
        broker: name of the broker.
        cars, connected: cars wanted, and connected when the ramp was over; None if not observed.
        recovered_s: what the slowest event took until all was as before; infinite if it never was.
        rate_share: messages/s over the stages as a share of what they ask for.
        asked_restarts: how often the run itself made a process start again, by its name: it killed
            it, or took away what it needs.
        excuses: losses that the broker's durability allows, by events of the run.
    """

    durability: str
    broker_drops: int | None
    usage: tuple[ProcessUsage, ...] = ()
    broker: str = ""
    cars: int | None = None
    connected: int | None = None
    recovered_s: float | None = None
    rate_share: float | None = None
    asked_restarts: Mapping[str, int] = field(default_factory=dict)
    excuses: tuple[Excuse, ...] = ()


@dataclass(frozen=True)
class Extent:
    """How far the audit can read, and from where.

    Attributes:
        scope: without Kafka, only the raw topic, or the whole pipeline.
        raw: the raw topic. places: where somebody else's payloads hold their identity.
        since: offsets at which the run began, see `read.ends`; empty: all there is.
    """

    scope: Scope = Scope.PIPELINE
    raw: str = topics.RAW
    places: Places | None = None
    since: Since = field(default_factory=dict)


class _Fault(msgspec.Struct):
    """A planned fault as the simulator's master wrote it; other fields do not matter here."""

    vin: str
    onset_ms: int


class _Truth(msgspec.Struct):
    faults: list[_Fault]


class _Run(msgspec.Struct):
    qos: int = 1
    workers: int = 1


@dataclass(frozen=True)
class _Told:
    """What the topics tell; no faults where only cars can tell of them."""

    parts: Sequence[Part] = ()
    faults: FaultAccounts | None = None
    alerts: Sequence[AlertRecord] = ()
    answers_ms: Sequence[int] = ()


async def audit(
    settings: ProcessSettings,
    run_dir: Path,
    surroundings: Surroundings,
    *,
    limits: Limits | None = None,
    extent: Extent | None = None,
    on_read: OnRead = lambda _topic, _count: None,
) -> Verdict:
    """Read everything and judge it; the run must have drained.

    Args:
        settings: where Kafka and registry are.
        run_dir: ledgers and truth.
        surroundings: what others observed.
        limits: what is judged.
        extent: how far to read; everything by default.
        on_read: told of each topic as it is read; may be called from another thread.

    Raises:
        MotorcadeError: a ledger, the truth or a topic cannot be read.
    """
    extent = extent or Extent()
    account = ledger.load(run_dir)
    problems = problems_of(run_dir)
    run = _read(run_dir / "run.json", _Run)
    qos = run.qos
    first_boot = min((boot for _, boot in account.boots), default=0) if extent.since else 0
    told = await _told(settings, run_dir, extent, first_boot, on_read)
    fleet = _fleet(account, surroundings)
    delivery = await _delivery(settings, account, told.parts, surroundings.excuses, qos)
    usage = [
        replace(one, cpu_us_per_message=one.cpu_seconds * 1e6 / delivery.sent)
        if delivery.sent
        else one
        for one in surroundings.usage
    ]
    findings = Findings(
        scope=extent.scope,
        qos=qos,
        accounts=reconcile(delivery, told.parts, fleet.overtaken),
        fleet=fleet,
        faults=told.faults or FaultAccounts(failures=len({dtc.vin for dtc in account.dtcs})),
        latencies=_latencies(account, told, extent.scope, qos),
        generator=Generator(
            lost_workers=len({one.worker for one in problems if one.worker is not None}),
            lag_p99_ms=Latency.of(account.histograms["lag"]).p99,
        ),
        broker=BrokerAccount(
            surroundings.broker,
            surroundings.durability,
            surroundings.broker_drops,
            delivery.excused,
            tuple(f"{n:,} {reason}" for reason, n in delivery.reasons.most_common()),
        ),
        usage=tuple(usage),
        asked_restarts=surroundings.asked_restarts,
        lost_examples=delivery.examples,
    )
    amiss = [*generator_problems(account, run.workers), *(one.reason for one in problems)]
    check = Check(
        "problems of the generator", "; ".join(amiss) or "none", "none", not amiss, generator=True
    )
    return also(judge(findings, limits or Limits()), check)


def generator_problems(account: ledger.Account, workers: int) -> Iterator[str]:
    """What is amiss with the ledgers of so many workers: without all of them nothing is proven."""
    for worker in sorted(set(range(workers)) ^ account.workers):
        if worker in account.workers:
            yield f"worker {worker} left a ledger, though the run had only {workers} workers"
        else:
            yield f"worker {worker} left no ledger"
    for worker in sorted(account.unfinished):
        yield f"the ledger of worker {worker} is not its last: cars still ran"


async def _told(
    settings: ProcessSettings, run_dir: Path, extent: Extent, first_boot: int, on_read: OnRead
) -> _Told:
    if extent.scope is Scope.CARS:
        return _Told()
    derived = extent.scope is Scope.PIPELINE
    names = [extent.raw]
    schemas = None
    if derived:
        catalogue = load_catalogue(settings.signals)
        names += [topics.TELEMETRY, topics.DLQ, topics.PREDICTIONS]
        schemas = partitions.Schemas(
            await schema_id(settings, catalogue, TELEMETRY_SUBJECT),
            await schema_id(settings, catalogue, PREDICTIONS_SUBJECT),
        )
    ends = await read.ends(settings, names)
    records = sum(end - extent.since.get(tp, 0) for tp, end in ends.items())
    numbers = sorted(number for topic, number in ends if topic == extent.raw)
    first_boot = 0 if extent.places else first_boot  # only our own payloads hold a car's boot
    plan = partitions.Plan(settings, extent.raw, extent.since, schemas, extent.places, first_boot)
    parts = await partitions.account(plan, numbers, records, on_read)
    if not derived:
        return _Told(parts)
    alerts = await read.read_alerts(settings, extent.since)
    commands = await read.read_commands(settings, extent.since)
    faults, answers = account_faults(
        {fault.vin: fault.onset_ms for fault in _read(run_dir / "truth.json", _Truth).faults},
        await read.read_dtcs(settings, extent.since),
        alerts,
        await read.read_responses(settings, extent.since),
        {c.parameters["alert"]: c.id for c in commands if "alert" in c.parameters},
        {vin.decode(): span for part in parts for vin, span in part.driven.items()},
    )
    return _Told(parts, faults, alerts, answers)


async def _delivery(
    settings: ProcessSettings,
    account: ledger.Account,
    parts: Sequence[Part],
    excuses: Sequence[Excuse],
    qos: int,
) -> Delivery:
    endpoints = await read.read_endpoints(settings) if excuses and parts else {}
    unidentified = sum((part.unidentified for part in parts), Counter[bytes]())
    return deliver(
        _claims(account, qos),
        [part.seen for part in parts],
        unidentified,
        excuses,
        endpoints,
    )


def _claims(account: ledger.Account, qos: int) -> Iterator[Claim]:
    for (vin, boot), one in account.boots.items():
        acked = one.acked if qos else ()
        yield Claim(vin, boot, *map(IntervalSet, (one.sent, acked, one.garbage)))


def _fleet(account: ledger.Account, surroundings: Surroundings) -> Fleet:
    boots = account.boots.values()
    counts = account.counts
    return Fleet(
        cars=surroundings.cars,
        connected=surroundings.connected,
        connects=counts.get("connects", 0),
        connect_failures=counts.get("connect_failures", 0),
        disconnects=counts.get("disconnects", 0),
        buffer_dropped=sum(one.dropped for one in boots),
        unsent=sum(one.unsent for one in boots),
        refused=sum(one.refused for one in boots),
        unheard=counts.get("unheard", 0),
        overtaken=counts.get("overtaken", 0),
        recovered_s=surroundings.recovered_s,
        rate_share=surroundings.rate_share,
    )


def _latencies(account: ledger.Account, told: _Told, scope: Scope, qos: int) -> dict[str, Latency]:
    found = {name: account.histograms[name] for name in (CONNECT, RECONNECT)}
    if qos:
        found[DUE_TO_PUBACK] = account.histograms["puback"]
    if scope is not Scope.CARS:
        found[DUE_TO_KAFKA] = _merged(part.kafka for part in told.parts)
    if scope is Scope.PIPELINE:
        found[DUE_TO_PREDICTION] = _merged(part.prediction for part in told.parts)
        found[DUE_TO_ALERT] = _histogram(
            a.ingested - a.alert.due for a in told.alerts if a.alert.action is AlertAction.RAISED
        )
        found[ALERT_TO_CAR] = _histogram(told.answers_ms)
    return {name: Latency.of(histogram) for name, histogram in found.items()}


def _merged(histograms: Iterable[str]) -> Any:
    whole = new_histogram()
    for text in histograms:
        whole.add(HdrHistogram.decode(text))
    return whole


def _histogram(milliseconds: Iterable[int]) -> Any:
    histogram = new_histogram()
    record(histogram, list(milliseconds))
    return histogram


def _read(path: Path, kind: type[Any]) -> Any:
    """A file that the simulator's master wrote into the run folder."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise MotorcadeError(f"{path} cannot be read: {error}.") from error
