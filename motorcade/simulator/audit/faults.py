"""Were failures announced, and with what lead; alerts against the truth that only we know."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from motorcade.fleet.messages import Alert, AlertAction, CommandState
from motorcade.simulator.audit.records import AlertRecord, DtcRecord, ResponseRecord

_DAY_MS = 24 * 3600 * 1000
_MINUTE_MS = 60 * 1000


@dataclass(frozen=True)
class Announcement:
    """A failure and the first alert between its onset and its DTC; lead in simulated minutes."""

    vin: str
    kind: str
    code: str
    lead_minutes: float | None


@dataclass(frozen=True)
class FaultAccounts:
    """Failures and alerts of a run; healthy_vehicle_days is event time driven without a fault.

    median_lead_minutes is of the announced failures, None when none was. raised counts distinct
    alerts, answered those for which the car answered SUCCEEDED.
    """

    announcements: tuple[Announcement, ...] = ()
    failures: int = 0
    announced: int = 0
    median_lead_minutes: float | None = None
    raised: int = 0
    raised_twice: int = 0
    false_alerts: int = 0
    healthy_vehicle_days: float = 0.0
    answered: int = 0


def account_faults(
    onsets: Mapping[str, int],
    dtcs: Sequence[DtcRecord],
    alerts: Sequence[AlertRecord],
    responses: Sequence[ResponseRecord],
    command_of: Mapping[str, str],
    driven: Mapping[str, tuple[int, int]],
) -> tuple[FaultAccounts, list[int]]:
    """Judge alerts by the truth.

    Args:
        onsets: event time in milliseconds at which wear began, by VIN of the faulty cars.
        dtcs: failures as the cars reported them.
        alerts: every record of `alerts`.
        responses: every record of `commands.status`.
        command_of: id of the command of each alert id.
        driven: event time of the first and the last refined message, by VIN.

    Returns:
        The account, and milliseconds from each answered alert's record to the answer's.
    """
    raised = [a for a in alerts if a.alert.action is AlertAction.RAISED]
    distinct = {a.alert.id: a for a in reversed(raised)}
    false = [
        a
        for a in distinct.values()
        if a.alert.vin not in onsets or a.alert.time < onsets[a.alert.vin]
    ]
    of_car: dict[str, list[Alert]] = {}
    for a in distinct.values():
        of_car.setdefault(a.alert.vin, []).append(a.alert)
    announcements = []
    for record in {r.dtc.vin: r for r in reversed(dtcs)}.values():
        dtc = record.dtc
        leads = [
            (dtc.time - alert.time) / _MINUTE_MS
            for alert in of_car.get(dtc.vin, ())
            if onsets.get(dtc.vin, 0) <= alert.time < dtc.time
        ]
        announcements.append(Announcement(dtc.vin, dtc.kind, dtc.code, max(leads, default=None)))
    succeeded = {
        r.response.id: r.ingested
        for r in reversed(responses)
        if r.response.status is CommandState.SUCCEEDED
    }
    answers = [
        succeeded[command_of[i]] - a.ingested
        for i, a in distinct.items()
        if command_of.get(i) in succeeded
    ]
    leads = [a.lead_minutes for a in announcements if a.lead_minutes is not None]
    account = FaultAccounts(
        announcements=tuple(sorted(announcements, key=lambda a: a.vin)),
        failures=len(announcements),
        announced=len(leads),
        median_lead_minutes=float(np.median(leads)) if leads else None,
        raised=len(distinct),
        raised_twice=len(raised) - len(distinct),
        false_alerts=len(false),
        healthy_vehicle_days=_healthy_days(onsets, driven),
        answered=len(answers),
    )
    return account, answers


def _healthy_days(onsets: Mapping[str, int], driven: Mapping[str, tuple[int, int]]) -> float:
    """Event time between a car's first and last message, up to the onset of its fault, summed."""
    total = 0
    for vin, (first, last) in driven.items():
        total += max(0, min(last, onsets.get(vin, last)) - first)
    return total / _DAY_MS
