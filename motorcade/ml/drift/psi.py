"""The population stability index, and the limit up to which chance explains it.

PSI = Σ (p - q) ln(p / q) over bins. Of two independent samples of one population it is about
(1/n + 1/m) · χ² with one degree of freedom less than bins (Yurdakul 2018, Statistical Properties
of Population Stability Index, Western Michigan University; Yurdakul and Naranjo 2020, J. Risk
Model Validation 14(3)): a fixed limit alarms on every small sample, and on no large one.

Messages of a car are not independent. So the spread is estimated between vehicles, and the index
compared with χ² of matching mean and variance, as Rao and Scott do (1984, Ann. Statist. 12(1)) for
tables of clustered samples; F instead of χ², because the spread itself is estimated from few
vehicles (Thomas and Rao 1987, J. Amer. Statist. Assoc. 82(398)), with as many degrees of freedom
as vehicles: at theirs, more, one look in nine alarmed where one in twenty should.
"""

import math
from typing import NamedTuple

import numpy as np

from motorcade.fleet.arrays import Floats
from motorcade.ml.drift.histogram import Histogram

#: Below this a shift is of no consequence, however sure (Siddiqi 2006, Credit Risk Scorecards).
MATERIAL = 0.1
#: Chance of an alarm in one look at all signals when nothing has drifted.
ALPHA = 0.01
#: What a bin counts for beyond its messages, so that an empty one has a logarithm.
_SMOOTHING = 0.5


class Index(NamedTuple):
    """A population stability index. chance: the limit that chance explains; inf: too few cars."""

    psi: float
    chance: float


def psi(reference: Histogram, recent: Histogram, alpha: float) -> Index:
    """Compare two samples in the same bins.

    Args:
        reference, recent: of the same edges.
        alpha: chance of an index above the limit when nothing has drifted.
    """
    counts = np.array([reference.counts, recent.counts], dtype=np.float64)
    used = counts.sum(axis=0) > 0
    if min(reference.messages, recent.messages) == 0:
        return Index(math.nan, math.inf)
    if used.sum() < 2:
        return Index(0.0, 0.0)
    counts = counts[:, used]
    smooth = counts + _SMOOTHING
    q, p = smooth / smooth.sum(axis=1, keepdims=True)
    found = float(((p - q) * np.log(p / q)).sum())
    return Index(found, _limit(reference, recent, (p + q) / 2, used, alpha))


def _limit(
    reference: Histogram, recent: Histogram, shares: Floats, used: Floats, alpha: float
) -> float:
    from scipy.stats import chi2, f  # type: ignore[import-untyped]

    samples = (reference, recent)
    if min(sample.vehicles for sample in samples) < 2:
        return math.inf
    # Small shifts d make PSI = Σ d² / share: a form whose weights are eigenvalues of this.
    root = np.sqrt(shares)
    weights = np.outer(root, root)
    parts = [np.array(sample.covariance)[np.ix_(used, used)] / weights for sample in samples]
    whole = parts[0] + parts[1]
    mean, square = float(np.trace(whole)), float((whole**2).sum())
    independent = sum(1 / sample.messages for sample in samples)
    limit = independent * float(chi2.isf(alpha, len(shares) - 1))
    if mean > 0:
        freedom = mean**2 / square
        # Welch and Satterthwaite: how many vehicles the sum of both estimates is worth.
        worth = mean**2 / sum(
            float(np.trace(part)) ** 2 / (sample.vehicles - 1)
            for part, sample in zip(parts, samples, strict=True)
        )
        limit = max(limit, mean * float(f.isf(alpha, freedom, worth)))
    return limit
