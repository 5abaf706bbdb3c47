"""Alerts as the stream would raise them from a model's scores, and the failures they announce."""

from bisect import bisect_left
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.alert_rules import (
    Evidence,
    Rule,
    advance,
    calm,
    kind_named,
    kind_of,
    steps,
)
from motorcade.fleet.arrays import Bools, Floats, Ints
from motorcade.fleet.messages import AlertAction
from motorcade.ml.judging.observe import Failure, Observed, Said, Streams

DAY_MS = 24 * 3600 * 1000
MINUTE_MS = 60_000
#: A failure that is announced with this share of the horizon to go is announced in time.
TIMELY = 0.25
#: Ratio of healthy messages above one threshold of a sweep to those above the one before.
_DENSER = 1.5

_ANY = kind_named("any")


class Account(NamedTuple):
    """What alerts came to.

    failures: those before which the vehicle sent anything. lead: (failures,) milliseconds from the
    first alert that announces each to the failure, NaN where none does. first: (failures,) the row
    at which that alert was raised, -1 for none. false: rows at which alerts were raised on healthy
    vehicles.
    """

    failures: tuple[Failure, ...]
    lead: Floats
    first: Ints
    false: Ints

    @property
    def announced(self) -> Bools:
        """Which failures were announced."""
        return np.isfinite(self.lead)


class Point(NamedTuple):
    """What a threshold comes to.

    timely: failures announced in time, see `TIMELY`. lead: median of the announced, milliseconds,
    0 where none is.
    """

    threshold: float
    false_alerts: int
    announced: int
    timely: int
    lead: float


def raised(rule: Rule, streams: Streams, score: Floats, threshold: float) -> Ints:
    """Rows at which alerts are raised, by the rule of the stream: once for a fault that stays.

    Args:
        rule: of the alerts.
        streams: the rows of each vehicle.
        score: (n,), NaN where there is none.
        threshold: of the model.
    """
    step = steps(rule, score, threshold)[streams.order]
    ends = streams.ends
    # A vehicle without an anomalous message keeps its counter at zero.
    hot = np.unique(np.searchsorted(ends, np.flatnonzero(step > 0), side="right") - 1)
    found: list[int] = []
    for vehicle in hot.tolist():
        mine = step[ends[vehicle] : ends[vehicle + 1]]
        scored = np.flatnonzero(mine)
        found += streams[vehicle][scored[_raised_by(rule, mine[scored])]].tolist()
    return np.array(found, dtype=np.int64)


def _raised_by(rule: Rule, step: Ints) -> list[int]:
    """Places in one vehicle's scored messages at which an alert is raised."""
    ups: list[int] = np.flatnonzero(step > 0).tolist()
    taken = step.tolist()
    found: list[int] = []
    state, at = calm(""), 0
    while (turn := bisect_left(ups, at)) < len(ups):
        at = ups[turn]  # Ordinary messages leave a counter at zero.
        while at < len(taken):
            change = advance(
                rule, state, at, taken[at], evidence=Evidence(0, at), kind=lambda: _ANY
            )
            if change is not None:
                state = change.state
                if change.action is AlertAction.RAISED:
                    found.append(at)
            at += 1
            if state.level == 0:
                break
    return found


def account(observed: Observed, alerts: Ints, within_ms: float) -> Account:
    """What alerts announce, and which of them are false.

    An alert announces the failures that come within `within_ms` after it was raised; it is false
    when none does and the vehicle had not failed before in the boot. The second alert before the
    same failure is neither.

    Args:
        observed: the messages.
        alerts: rows at which alerts were raised.
        within_ms: event time before a failure in which an alert announces it.
    """
    of_vehicle: dict[int, list[int]] = {}
    for row in alerts.tolist():
        of_vehicle.setdefault(int(observed.vehicle[row]), []).append(row)
    failures, leads, firsts = [], [], []
    for failure in observed.failures:
        since = failure.time - within_ms
        rows = observed.streams[failure.vehicle]
        time = observed.time[rows]
        if not ((time >= since) & (time < failure.time) & _before(observed, rows, failure)).any():
            continue
        mine = np.array(of_vehicle.get(failure.vehicle, []), dtype=np.int64)
        time = observed.time[mine]
        good = mine[(time >= since) & (time < failure.time) & _before(observed, mine, failure)]
        first = int(good[observed.time[good].argmin()]) if len(good) else -1
        failures.append(failure)
        firsts.append(first)
        leads.append(float(failure.time - observed.time[first]) if len(good) else np.nan)
    return Account(
        tuple(failures),
        np.array(leads, dtype=np.float64),
        np.array(firsts, dtype=np.int64),
        alerts[observed.healthy(within_ms)[alerts]] if len(alerts) else alerts,
    )


def healthy_days(observed: Observed, score: Floats, within_ms: float) -> Floats:
    """Days that each vehicle was driven healthy and scored, shape (vehicles,)."""
    rows = observed.healthy(within_ms) & np.isfinite(score)
    driven = observed.driven[rows] / DAY_MS
    return summed(observed.vehicle[rows], driven, len(observed.vins))


def summed(vehicle: NDArray[np.integer[Any]], values: Floats, vehicles: int) -> Floats:
    """Sums over each vehicle, shape (vehicles,)."""
    found = np.zeros(vehicles)
    np.add.at(found, vehicle, values)
    return found


def sweep(
    observed: Observed,
    score: Floats,
    rule: Rule,
    *,
    within_ms: float,
    horizon_ms: float,
    most_false: float,
) -> list[Point]:
    """What thresholds come to, from the highest healthy score down to too many false alerts.

    Args:
        observed: the messages.
        score: (n,) of a model.
        rule: of the alerts.
        within_ms, horizon_ms: see `account`, `TIMELY`.
        most_false: it ends at the first threshold with more false alerts.
    """
    healthy = score[observed.healthy(within_ms) & np.isfinite(score)]
    points: list[Point] = []
    count = 1.0
    while count <= len(healthy):
        place = len(healthy) - int(count)
        limit = float(np.partition(healthy, place)[place])
        if not points or limit < points[-1].threshold:
            found = account(observed, raised(rule, observed.streams, score, limit), within_ms)
            points.append(point(limit, found, horizon_ms))
            if points[-1].false_alerts > most_false:
                break
        count = max(count + 1, count * _DENSER)
    return points


def point(threshold: float, found: Account, horizon_ms: float) -> Point:
    """An account as a point of a sweep."""
    leads = found.lead[found.announced]
    return Point(
        threshold,
        len(found.false),
        len(leads),
        int((leads >= TIMELY * horizon_ms).sum()),
        float(np.median(leads)) if len(leads) else 0.0,
    )


def named(said: Said, rows: Ints) -> list[str]:
    """The kinds that the alerts raised at some rows would have, by the rule of the stream."""
    features, kinds = said.manifest.features, said.manifest.kinds
    found = []
    for place in np.searchsorted(said.above, rows).tolist():
        signals = [features[number] for number in said.top[place].tolist()]
        foretold = kinds[said.kind[place]] if said.kind[place] >= 0 else ""
        parts = zip(signals, said.share[place].tolist(), strict=True)
        found.append(kind_of(parts, foretold).name)
    return found


def _before(observed: Observed, rows: Ints, failure: Failure) -> Bools:
    earlier: Bools = observed.boot[rows] <= failure.boot
    return earlier
