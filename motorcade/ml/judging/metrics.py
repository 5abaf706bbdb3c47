"""Figures of merit, each a plain function of arrays. None adjusts points: every message counts."""

from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Bools, Floats, Ints

#: Of lead times, from the shortest on.
LEAD_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
#: Bins of equal width of a reliability curve.
BINS = 15
_RESOLUTION = 1024


class Ranking(NamedTuple):
    """How well scores part failing from healthy messages."""

    pr_auc: float
    roc_auc: float


class Bin(msgspec.Struct, frozen=True):
    """A bin of a reliability curve: messages, mean probability told, share that failed."""

    count: int
    told: float
    failed: float


def ranking(
    score: Floats, failing: Bools, weight: NDArray[np.generic] | None = None
) -> Ranking | None:
    """Average precision, and area under the receiver operating characteristic; None for one class.

    Args:
        score: (n,) finite.
        failing: (n,) the positive class.
        weight: (n,) messages that a row stands for; None: one.
    """
    from sklearn.metrics import (  # type: ignore[import-untyped]
        average_precision_score,
        roc_auc_score,
    )

    if failing.all() or not failing.any():
        return None
    return Ranking(
        float(average_precision_score(failing, score, sample_weight=weight)),
        float(roc_auc_score(failing, score, sample_weight=weight)),
    )


def poisson_upper(events: int, exposure: float, level: float = 0.95) -> float:
    """One-sided upper bound of a rate, exact (Garwood, 1936).

    Args:
        events: counted.
        exposure: in which they were counted; 0 or less gives infinity.
        level: of confidence.
    """
    from scipy.stats import chi2  # type: ignore[import-untyped]

    if exposure <= 0:
        return float("inf")
    return float(chi2.ppf(level, 2 * events + 2)) / 2 / exposure


def reliability(
    probability: NDArray[np.floating[Any]], failed: Bools, bins: int = BINS
) -> list[Bin]:
    """What was told and what came, in bins of equal width that hold anything.

    Args:
        probability: (n,) told, finite.
        failed: (n,) whether it came.
        bins: of the unit interval.
    """
    place = np.clip((probability * bins).astype(np.int64), 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    told = np.bincount(place, probability, minlength=bins)
    came = np.bincount(place, failed, minlength=bins)
    return [
        Bin(int(count[at]), float(told[at] / count[at]), float(came[at] / count[at]))
        for at in np.flatnonzero(count).tolist()
    ]


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error (Naeini, Cooper and Hauskrecht, 2015)."""
    whole = sum(one.count for one in bins)
    return sum(one.count * abs(one.told - one.failed) for one in bins) / whole


def lead_quantiles(lead: Floats) -> dict[str, float]:
    """Quantiles of lead times, in their unit, by name: q05, q25, q50, …; empty for none."""
    if not len(lead):
        return {}
    found = np.quantile(lead, LEAD_QUANTILES)
    names = [f"q{round(100 * share):02d}" for share in LEAD_QUANTILES]
    return dict(zip(names, found.tolist(), strict=True))


class Levels(NamedTuple):
    """Scores in levels of rising score, fine where failing and healthy ones are parted.

    edges: (levels - 1,) scores between them. level: (n,) of each row.
    """

    edges: Floats
    level: Ints

    @property
    def number(self) -> int:
        """How many levels there are."""
        return len(self.edges) + 1


def levels(score: Floats, failing: Bools) -> Levels:
    """Put scores in levels; the highest healthy ones have levels of their own.

    Args:
        score: (n,) finite.
        failing: (n,) the positive class.
    """
    edges = [np.empty(0)]
    if failing.any():
        edges.append(np.quantile(score[failing], np.linspace(0, 1, _RESOLUTION // 2)))
    healthy = score[~failing]
    if len(healthy):
        above = np.geomspace(1 / len(healthy), 1, _RESOLUTION // 2)
        edges.append(np.quantile(healthy, 1 - above))
    found = np.unique(np.concatenate(edges))
    return Levels(found, np.searchsorted(found, score, side="right"))
