"""Were failures announced, and with what lead; alerts against the truth that only we know."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from motorcade.fleet.messages import AlertAction, CommandState
from motorcade.simulator.audit.records import (
    AlertRecord,
    DtcRecord,
    RefinedRecords,
    ResponseRecord,
)

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
    """Failures and alerts of a run; healthy_vehicle_days is event time driven without a fault."""

    announcements: tuple[Announcement, ...]
    raised: int
    raised_twice: int
    false_alerts: int
    healthy_vehicle_days: float
    answered: int
    #: Alert records raised for which the car answered SUCCEEDED: (alert ingested, answer ingested).
    answers_ms: tuple[tuple[int, int], ...]

    @property
    def failures(self) -> int:
        return len(self.announcements)

    @property
    def announced(self) -> int:
        return sum(a.lead_minutes is not None for a in self.announcements)

    @property
    def median_lead_minutes(self) -> float:
        """Median lead of the announced failures; NaN when none was."""
        leads = [a.lead_minutes for a in self.announcements if a.lead_minutes is not None]
        return float(np.median(leads)) if leads else float("nan")


def account_faults(
    onsets: Mapping[str, int],
    dtcs: Sequence[DtcRecord],
    alerts: Sequence[AlertRecord],
    responses: Sequence[ResponseRecord],
    command_of: Mapping[str, str],
    refined: RefinedRecords,
) -> FaultAccounts:
    """Judge alerts by the truth.

    Args:
        onsets: event time in milliseconds at which wear began, by VIN of the faulty cars.
        dtcs: failures as the cars reported them.
        alerts: every record of `alerts`.
        responses: every record of `commands.status`.
        command_of: id of the command of each alert id.
        refined: gives how long healthy cars drove.
    """
    raised = [a for a in alerts if a.alert.action is AlertAction.RAISED]
    distinct = {a.alert.id: a for a in reversed(raised)}
    false = [
        a
        for a in distinct.values()
        if a.alert.vin not in onsets or a.alert.time < onsets[a.alert.vin]
    ]
    announcements = []
    for record in {r.dtc.vin: r for r in reversed(dtcs)}.values():
        dtc = record.dtc
        leads = [
            (dtc.time - a.alert.time) / _MINUTE_MS
            for a in distinct.values()
            if a.alert.vin == dtc.vin and onsets.get(dtc.vin, 0) <= a.alert.time < dtc.time
        ]
        announcements.append(Announcement(dtc.vin, dtc.kind, dtc.code, max(leads, default=None)))
    succeeded = {
        r.response.id: r.ingested
        for r in reversed(responses)
        if r.response.status is CommandState.SUCCEEDED
    }
    answers = [
        (a.ingested, succeeded[command_of[i]])
        for i, a in distinct.items()
        if command_of.get(i) in succeeded
    ]
    return FaultAccounts(
        announcements=tuple(sorted(announcements, key=lambda a: a.vin)),
        raised=len(distinct),
        raised_twice=len(raised) - len(distinct),
        false_alerts=len(false),
        healthy_vehicle_days=_healthy_days(onsets, refined),
        answered=len(answers),
        answers_ms=tuple(answers),
    )


def _healthy_days(onsets: Mapping[str, int], refined: RefinedRecords) -> float:
    """Event time between a car's first and last message, up to the onset of its fault, summed."""
    if not len(refined.vin):
        return 0.0
    vins, car = np.unique(refined.vin, return_inverse=True)
    first = np.full(len(vins), np.iinfo(np.int64).max)
    last = np.zeros(len(vins), dtype=np.int64)
    np.minimum.at(first, car, refined.time)
    np.maximum.at(last, car, refined.time)
    for position, vin in enumerate(vins.tolist()):
        onset = onsets.get(vin.decode("ascii"))
        if onset is not None:
            last[position] = max(first[position], min(last[position], onset))
    return float((last - first).sum()) / _DAY_MS
