"""Audits a finished run: reads ledgers, truth and topics, and judges them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from motorcade.fleet.arrays import Ints
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.messages import AlertAction
from motorcade.fleet.settings import ProcessSettings
from motorcade.simulator import ledger
from motorcade.simulator.audit import read
from motorcade.simulator.audit.faults import FaultAccounts, account_faults
from motorcade.simulator.audit.reconcile import reconcile
from motorcade.simulator.audit.records import (
    AlertRecord,
    Claims,
    QuarantinedRecords,
    RawRecords,
)
from motorcade.simulator.audit.verdict import (
    Generator,
    Latency,
    Limits,
    ProcessUsage,
    Verdict,
    judge,
)
from motorcade.simulator.intervals import IntervalSet
from motorcade.simulator.master_state import problems_of

#: Told of each topic as it is read: its name and how many more records.
OnRead = Callable[[str, int], None]


@dataclass(frozen=True)
class Surroundings:
    """What the audit cannot read from topics: the broker's own words and the processes' usage."""

    durability: str
    broker_drops: int | None
    usage: tuple[ProcessUsage, ...] = ()


class _Fault(msgspec.Struct):
    """A planned fault as the simulator's master wrote it; other fields do not matter here."""

    vin: str
    onset_ms: int


class _Truth(msgspec.Struct):
    faults: list[_Fault]


async def audit(
    settings: ProcessSettings,
    run_dir: Path,
    surroundings: Surroundings,
    *,
    limits: Limits | None = None,
    on_read: OnRead = lambda _topic, _count: None,
) -> Verdict:
    """Read everything and judge it; the run must have drained.

    Raises:
        MotorcadeError: a ledger, the truth or a topic cannot be read.
    """
    catalogue = load_catalogue(settings.signals)
    account = ledger.load(run_dir)
    raw = await read.read_raw(settings, lambda n: on_read("telemetry.raw", n))
    refined = await read.read_refined(settings, catalogue, lambda n: on_read("telemetry", n))
    quarantined = await read.read_quarantined(settings, lambda n: on_read("telemetry.dlq", n))
    predictions = await read.read_predictions(
        settings, catalogue, lambda n: on_read("predictions", n)
    )
    alerts = await read.read_alerts(settings)
    commands = await read.read_commands(settings)
    accounts = reconcile(
        _claims(account.sent()),
        _claims(account.acknowledged()),
        raw,
        refined,
        quarantined,
        predictions,
    )
    faults = account_faults(
        _onsets(run_dir),
        await read.read_dtcs(settings),
        alerts,
        await read.read_responses(settings),
        {c.parameters["alert"]: c.id for c in commands if "alert" in c.parameters},
        refined,
    )
    lag = account.histograms["lag"]
    generator = Generator(
        lost_workers=len({problem.worker for problem in problems_of(run_dir)}),
        lag_p99_ms=lag.get_value_at_percentile(99) / 1000 if lag.total_count else 0.0,
    )
    return judge(
        accounts,
        faults,
        _latencies(raw, quarantined, alerts, faults),
        generator,
        surroundings.broker_drops,
        surroundings.durability,
        limits=limits or Limits(),
        usage=surroundings.usage,
    )


def _claims(boots: Iterable[tuple[str, int, IntervalSet]]) -> Claims:
    rows = [
        (vin.encode("ascii"), boot, first, last)
        for vin, boot, seqs in boots
        for first, last in seqs.spans
    ]
    numbers = np.array([row[1:] for row in rows], dtype=np.int64).reshape(len(rows), 3)
    return Claims(np.array([row[0] for row in rows], dtype="S17"), *numbers.T)


def _onsets(run_dir: Path) -> dict[str, int]:
    """Event time at which wear began, by VIN."""
    path = run_dir / "truth.json"
    try:
        truth = msgspec.json.decode(path.read_bytes(), type=_Truth)
    except (OSError, msgspec.DecodeError) as error:
        raise MotorcadeError(f"The truth about faults, {path}, cannot be read: {error}.") from error
    return {fault.vin: fault.onset_ms for fault in truth.faults}


def _latencies(
    raw: RawRecords,
    quarantined: QuarantinedRecords,
    alerts: Sequence[AlertRecord],
    faults: FaultAccounts,
) -> dict[str, Latency]:
    # What a broken rule quarantined may hold any due time; it measures nothing.
    timed = (raw.due > 0) & ~np.isin(raw.place, quarantined.source)
    return {
        "due → Kafka": Latency.of(raw.ingested[timed] - raw.due[timed]),
        "due → alert": Latency.of(
            _integers(
                a.ingested - a.alert.due for a in alerts if a.alert.action is AlertAction.RAISED
            )
        ),
        "alert → acknowledged by the car": Latency.of(
            _integers(answer - raised for raised, answer in faults.answers_ms)
        ),
    }


def _integers(values: Iterable[int]) -> Ints:
    return np.fromiter(values, dtype=np.int64)
