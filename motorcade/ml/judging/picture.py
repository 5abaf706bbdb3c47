"""What only a report shows of a judged model: curves, scores by class, leads, contributions."""

from typing import NamedTuple

import numpy as np

from motorcade.fleet.arrays import Bools
from motorcade.ml.judging.events import MINUTE_MS, Account
from motorcade.ml.judging.observe import Observed, Said

#: The class of messages that no failure follows.
HEALTHY = "healthy"


class Picture(NamedTuple):
    """What only a report shows.

    recall, precision: of messages, by falling threshold. edges: of `histogram`'s bins of the score,
    whose counts are by class. lead: minutes, by kind. contributions: mean share of the score by
    class, then signal, of messages above the threshold.
    """

    recall: list[float]
    precision: list[float]
    edges: list[float]
    histogram: dict[str, list[int]]
    lead: dict[str, list[float]]
    contributions: dict[str, dict[str, float]]


def picture(
    observed: Observed,
    said: Said,
    found: Account,
    judged: Bools,
    *,
    horizon_ms: float,
    within_ms: float,
    curve: tuple[list[float], list[float]],
) -> Picture:
    """What is drawn of a model.

    Args:
        observed: the messages, and what became of the vehicles.
        said: of the model.
        found: what its alerts came to.
        judged: (n,) messages that are failing or healthy beyond doubt, and scored.
        horizon_ms, within_ms: see `Terms`.
        curve: recall and precision of messages, by falling threshold.
    """
    return Picture(
        *curve,
        *_histogram(observed, said, judged, observed.failing(horizon_ms)),
        _leads(observed, found),
        _contributions(observed, said, within_ms),
    )


def _histogram(
    observed: Observed, said: Said, judged: Bools, failing: Bools
) -> tuple[list[float], dict[str, list[int]]]:
    """The scores of healthy messages and of those before each kind of failure."""
    score = said.score[judged]
    if not len(score):
        return [], {}
    low, high = float(score.min()), float(score.max())
    # Errors and expectations spread over decades; a score that may be negative does not.
    edges = (
        np.geomspace(max(low, 1e-9 * max(high, 1e-9)), max(high, 1e-9) * 1.001, 81)
        if low >= 0
        else np.linspace(low, high, 81)
    )
    clipped = np.clip(score, edges[0], edges[-1])
    positive, kind = failing[judged], observed.kind[judged]
    classes = {HEALTHY: ~positive} | {
        name: positive & (kind == number) for number, name in enumerate(observed.kinds)
    }
    return edges.tolist(), {
        name: np.histogram(clipped[rows], edges)[0].tolist()
        for name, rows in classes.items()
        if rows.any()
    }


def _leads(observed: Observed, found: Account) -> dict[str, list[float]]:
    leads: dict[str, list[float]] = {}
    for failure, lead in zip(found.failures, found.lead.tolist(), strict=True):
        if np.isfinite(lead):
            leads.setdefault(observed.kinds[failure.kind], []).append(lead / MINUTE_MS)
    return dict(sorted(leads.items()))


def _contributions(observed: Observed, said: Said, within_ms: float) -> dict[str, dict[str, float]]:
    features = said.manifest.features
    healthy = observed.healthy(within_ms)[said.above]
    coming = observed.failing(within_ms)[said.above]
    kind = observed.kind[said.above]
    classes = {HEALTHY: healthy} | {
        name: coming & (kind == number) for number, name in enumerate(observed.kinds)
    }
    found: dict[str, dict[str, float]] = {}
    for name, rows in classes.items():
        if rows.any():
            top, share = said.top[rows].astype(np.int64), said.share[rows].astype(np.float64)
            shares = np.bincount(top.ravel(), share.ravel(), minlength=len(features)) / len(top)
            found[name] = dict(zip(features, shares.tolist(), strict=True))
    return found
