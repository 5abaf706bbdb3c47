"""One model judged: all its figures, as they are stored, compared and shown."""

from collections import Counter
from typing import NamedTuple

import msgspec
import numpy as np

from motorcade.fleet.alert_rules import Rule
from motorcade.fleet.arrays import Bools
from motorcade.ml.judging.bootstrap import RESAMPLES, Draws, Figure, areas, counts
from motorcade.ml.judging.events import (
    MINUTE_MS,
    Account,
    Point,
    account,
    healthy_days,
    named,
    point,
    raised,
    summed,
    sweep,
)
from motorcade.ml.judging.metrics import (
    Bin,
    Levels,
    calibration_error,
    lead_quantiles,
    levels,
    poisson_upper,
    ranking,
    reliability,
)
from motorcade.ml.judging.observe import Observed, Said
from motorcade.ml.judging.picture import HEALTHY, Picture, picture

#: False alerts per healthy vehicle-day that a fleet bears.
BUDGET = 0.01
#: How early an alert may come and still announce a failure, in horizons: wear begins before the
#: horizon does, and a car that is about to fail rightly looks ill.
WITHIN = 2.0
#: Thresholds are followed up to this many budgets of false alerts.
_SWEPT = 10.0
NO_ALERT = "no alert"


class Terms(msgspec.Struct, frozen=True):
    """What is asked of every model alike.

    horizon_ms: event time within which failures are to be foretold. within_ms: before a failure in
    which an alert announces it; a vehicle is healthy where no failure is as near as that. budget:
    false alerts per healthy vehicle-day at which models are compared.
    """

    horizon_ms: float
    within_ms: float
    budget: float = BUDGET
    rule: tuple[int, int, float] = (Rule.raise_at, Rule.ceiling, Rule.strong)
    resamples: int = RESAMPLES
    seed: int = 0

    @classmethod
    def of(
        cls, horizon_ms: float, *, budget: float = BUDGET, within_ms: float | None = None
    ) -> "Terms":
        """Those of a horizon."""
        return cls(horizon_ms, within_ms or WITHIN * horizon_ms, budget)


class OfKind(msgspec.Struct, frozen=True):
    """Figures of one kind of failure; leads in minutes of event time."""

    kind: str
    failures: int
    announced: int
    recall: float | None
    lead_median: float | None
    pr_auc: float | None
    roc_auc: float | None


class Operating(msgspec.Struct, frozen=True):
    """What a threshold comes to; lead in minutes of event time."""

    threshold: float
    false_alerts: int
    false_per_day: float
    announced: int
    timely: int
    recall: float
    lead_median: float


class Evaluation(msgspec.Struct, frozen=True):
    """A model on the vehicles that judge. Times are event time.

    messages, scored: of these vehicles. pr_auc, roc_auc: over messages, failing within the horizon
    against healthy; `failing` is the share of failing ones, which is the PR-AUC of chance.
    failures: reported by them. lead: quantiles, minutes, of those announced. false_upper: the upper
    95 % Poisson bound of false alerts per healthy vehicle-day. life_rmse: minutes, of the remaining
    life up to its cap; every vehicle counts the same. confusion: alerts' kinds by kind of failure.
    budget: the best point within the budget; curve: all points of the sweep.
    """

    model: str
    version: int
    architecture: str
    dataset: str
    threshold: float
    horizon_minutes: float
    within_minutes: float
    vehicles: int
    messages: int
    scored: int
    failing: float | None
    pr_auc: Figure
    roc_auc: Figure
    failures: int
    announced: int
    recall: Figure
    lead: dict[str, float]
    lead_median: Figure
    false_alerts: int
    healthy_days: float
    false_per_day: Figure
    false_upper: float | None
    calibration_error: float | None
    reliability: list[Bin]
    life_rmse: float | None
    kinds: list[OfKind]
    confusion: dict[str, dict[str, int]]
    own: Operating
    budget: Operating | None
    curve: list[Operating]

    @property
    def name(self) -> str:
        """NAME:VERSION."""
        return f"{self.model}:{self.version}"


class Verdict(NamedTuple):
    """A model's figures and what is drawn of it."""

    evaluation: Evaluation
    picture: Picture


def evaluate(observed: Observed, said: Said, terms: Terms) -> Verdict:
    """Judge what a model said of every message.

    Args:
        observed: the messages, and what became of the vehicles.
        said: of the model.
        terms: what is asked.
    """
    manifest, rule = said.manifest, Rule(*terms.rule)
    draws = Draws(len(observed.vins), terms.seed, terms.resamples)
    scored = np.isfinite(said.score)
    failing = observed.failing(terms.horizon_ms)
    judged = scored & ~observed.after_failure & observed.known(terms.horizon_ms)
    parted = levels(said.score[judged], failing[judged])
    messages = _messages(observed, said, judged, failing, parted, draws)

    alerts = raised(rule, observed.streams, said.score, manifest.threshold)
    found = account(observed, alerts, terms.within_ms)
    days = healthy_days(observed, said.score, terms.within_ms)
    whole_days = float(days.sum())
    points = sweep(
        observed,
        said.score,
        rule,
        within_ms=terms.within_ms,
        horizon_ms=terms.horizon_ms,
        most_false=max(2.0, _SWEPT * terms.budget * whole_days),
    )
    own = point(manifest.threshold, found, terms.horizon_ms)
    allowed = [one for one in [*points, own] if one.false_alerts <= int(terms.budget * whole_days)]
    best = max(allowed, key=lambda one: (one.timely, one.announced, one.lead), default=None)

    of = len(found.failures)
    bins = _reliability(observed, said, terms)
    vehicles = len(observed.vins)
    home = np.array([one.vehicle for one in found.failures], dtype=np.int64)
    leads = found.lead[found.announced] / MINUTE_MS
    false_of = summed(observed.vehicle[found.false], np.ones(len(found.false)), vehicles)
    evaluation = Evaluation(
        model=manifest.name,
        version=manifest.version,
        architecture=manifest.architecture,
        dataset=manifest.origin.dataset,
        threshold=manifest.threshold,
        horizon_minutes=terms.horizon_ms / MINUTE_MS,
        within_minutes=terms.within_ms / MINUTE_MS,
        vehicles=vehicles,
        messages=len(observed),
        scored=int(scored.sum()),
        failing=messages.share,
        pr_auc=messages.pr,
        roc_auc=messages.roc,
        failures=of,
        announced=int(found.announced.sum()),
        recall=draws.ratio(
            summed(home, found.announced.astype(np.float64), vehicles),
            summed(home, np.ones(of), vehicles),
        ),
        lead=lead_quantiles(leads),
        lead_median=draws.median(leads, home[found.announced]),
        false_alerts=len(found.false),
        healthy_days=whole_days,
        false_per_day=draws.ratio(false_of, days),
        false_upper=poisson_upper(len(found.false), whole_days) if whole_days else None,
        calibration_error=calibration_error(bins) if bins else None,
        reliability=bins,
        life_rmse=_life_error(observed, said),
        kinds=_by_kind(observed, found, judged, failing, parted),
        confusion=_confusion(observed, said, found),
        own=_operating(own, of, whole_days),
        budget=_operating(best, of, whole_days) if best is not None else None,
        curve=[_operating(one, of, whole_days) for one in points],
    )
    drawn = picture(
        observed,
        said,
        found,
        judged,
        horizon_ms=terms.horizon_ms,
        within_ms=terms.within_ms,
        curve=(messages.recall, messages.precision),
    )
    return Verdict(evaluation, drawn)


class _Messages(NamedTuple):
    share: float | None
    pr: Figure
    roc: Figure
    recall: list[float]
    precision: list[float]


def _messages(
    observed: Observed, said: Said, judged: Bools, failing: Bools, parted: Levels, draws: Draws
) -> _Messages:
    positive = failing[judged]
    share = float(positive.mean()) if len(positive) else None
    exact = ranking(said.score[judged], positive) if len(positive) else None
    if exact is None:
        return _Messages(share, Figure(None), Figure(None), [], [])
    shape = len(observed.vins), parted.number
    vehicle = observed.vehicle[judged]
    hits = counts(vehicle[positive], parted.level[positive], shape)
    misses = counts(vehicle[~positive], parted.level[~positive], shape)
    pr, roc = draws.ranking(hits, misses, exact)
    found = np.cumsum(hits.sum(axis=0)[::-1])
    wrong = np.cumsum(misses.sum(axis=0)[::-1])
    shown = found + wrong > 0
    return _Messages(
        share,
        pr,
        roc,
        (found[shown] / found[-1]).tolist(),
        (found[shown] / (found + wrong)[shown]).tolist(),
    )


def _by_kind(
    observed: Observed, found: Account, judged: Bools, failing: Bools, parted: Levels
) -> list[OfKind]:
    """Each kind's messages against those of all healthy vehicles."""
    kind, positive = observed.kind[judged], failing[judged]
    healthy = np.bincount(parted.level[~positive], minlength=parted.number)
    of_failure = np.array([one.kind for one in found.failures], dtype=np.int64)
    rows = []
    for number, name in enumerate(observed.kinds):
        mine = of_failure == number
        if not mine.any():
            continue
        leads = found.lead[mine & found.announced] / MINUTE_MS
        hits = np.bincount(parted.level[positive & (kind == number)], minlength=parted.number)
        pr: float | None = None
        roc: float | None = None
        if hits.any() and healthy.any():
            both = areas(
                np.cumsum(hits[None, ::-1], axis=1, dtype=np.float64),
                np.cumsum(healthy[None, ::-1], axis=1, dtype=np.float64),
            )
            pr, roc = float(both[0][0]), float(both[1][0])
        rows.append(
            OfKind(
                name,
                int(mine.sum()),
                len(leads),
                len(leads) / int(mine.sum()),
                float(np.median(leads)) if len(leads) else None,
                pr,
                roc,
            )
        )
    return rows


def _reliability(observed: Observed, said: Said, terms: Terms) -> list[Bin]:
    """Only of a model whose probabilities are those of the horizon that is asked for."""
    if said.manifest.horizon_ms != terms.horizon_ms:
        return []
    rows = (
        np.isfinite(said.probability) & ~observed.after_failure & observed.known(terms.horizon_ms)
    )
    if not rows.any():
        return []
    return reliability(said.probability[rows], observed.failing(terms.horizon_ms)[rows])


def _life_error(observed: Observed, said: Said) -> float | None:
    cap = said.manifest.life_cap_ms
    if not cap:
        return None
    rows = np.isfinite(said.life) & ~observed.after_failure & observed.known(cap)
    if not rows.any():
        return None
    true = np.minimum(observed.ahead[rows], cap)
    squares = ((said.life[rows] - true) / MINUTE_MS) ** 2
    _, vehicle = np.unique(observed.vehicle[rows], return_inverse=True)
    of_vehicle = np.bincount(vehicle, squares) / np.bincount(vehicle)
    return float(np.sqrt(of_vehicle.mean()))


def _confusion(observed: Observed, said: Said, found: Account) -> dict[str, dict[str, int]]:
    rows: dict[str, Counter[str]] = {}
    told = found.first[found.announced]
    kinds = [observed.kinds[one.kind] for one in found.failures]
    names = iter(named(said, told))
    for kind, announced in zip(kinds, found.announced.tolist(), strict=True):
        rows.setdefault(kind, Counter())[next(names) if announced else NO_ALERT] += 1
    if len(found.false):
        rows[HEALTHY] = Counter(named(said, found.false))
    return {kind: dict(sorted(row.items())) for kind, row in sorted(rows.items())}


def _operating(one: Point, failures: int, days: float) -> Operating:
    return Operating(
        one.threshold,
        one.false_alerts,
        one.false_alerts / days if days else 0.0,
        one.announced,
        one.timely,
        one.announced / failures if failures else 0.0,
        one.lead / MINUTE_MS,
    )
