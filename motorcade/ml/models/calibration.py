"""From a model's log-odds to probabilities, and the threshold between healthy and failing cars."""

from typing import NamedTuple

import numpy as np

from motorcade.fleet.arrays import Bools, Floats, Ids
from motorcade.ml.models.base import Examples

#: An alert should come this share of the horizon before the failure.
_LEAD = 0.25
#: Share of the failures, in the data that calibrates, that the threshold must not miss.
_ANNOUNCED = 0.95
#: Place between the highest healthy example (0) and that level (1), and log-odds above the healthy
#: example at least. Half way, trees taught by 600 simulated cars raised 8 false alerts in 1,190
#: healthy vehicle-days; one unit further up 3, another fifth 1, for six of 96 minutes' lead.
_NEARER, _MARGIN = 0.9, 0.5


class Sigmoid(NamedTuple):
    """probability = 1 / (1 + exp(-(slope · raw + offset))), Platt's calibration.

    Strictly rising, unlike isotonic steps: thresholds can stand anywhere.
    """

    slope: float
    offset: float

    def log_odds(self, raw: Floats) -> Floats:
        """Calibrated log-odds, shape (n,)."""
        return self.slope * raw + self.offset

    @classmethod
    def fitted(cls, raw: Floats, failed: Bools, weight: Floats) -> "Sigmoid":
        """By weighted maximum likelihood, Newton's method on two numbers.

        Targets are drawn in by Platt's prior, so that examples that are parted without error do
        not make it a step.

        Args:
            raw: (n,) log-odds of the trees.
            failed: (n,) whether a failure came within the horizon.
            weight: (n,) messages that an example stands for.
        """
        positive, negative = weight[failed].sum(), weight[~failed].sum()
        target = np.where(failed, (positive + 1) / (positive + 2), 1 / (negative + 2))
        design = np.stack([raw, np.ones_like(raw)], axis=1)
        found = np.array([1.0, 0.0])
        for _ in range(100):
            p = probability(design @ found)
            gradient = design.T @ (weight * (p - target))
            curvature = (design.T * (weight * p * (1 - p))) @ design
            step = np.linalg.solve(curvature + 1e-9 * np.trace(curvature) * np.eye(2), gradient)
            # A damped step cannot run away where the sigmoid is flat.
            found = found - step / max(1.0, float(np.abs(step).max()))
            if np.abs(step).max() < 1e-9:
                break
        # Falling, or flat: the raw numbers told nothing here, and their order is kept.
        return cls(max(float(found[0]), 1e-3), float(found[1]))


def probability(log_odds: Floats) -> Floats:
    """Of log-odds, without overflow."""
    p: Floats = np.exp(-np.logaddexp(0, -log_odds))
    return p


def expected_failures(log_odds: Floats) -> Floats:
    """-ln(1 - probability): failures to be expected within the horizon.

    As a score it grows on where a probability would stick at 1.
    """
    expected: Floats = np.logaddexp(0, log_odds)
    return expected


def threshold(log_odds: Floats, part: Examples, horizon_ms: int) -> float:
    """Log-odds between the highest healthy example and the level that failing cars reach in time.

    Where there is room, nearer to the failing cars: a fleet has many healthy days for each failure,
    and among them days that are odder than any in the sample. Else just above the healthy ones: a
    false alert costs trust, a late one time.

    Args:
        log_odds: (n,) of the examples.
        part: the examples, of cars that did not train.
        horizon_ms: event time within which failures are to be foretold.
    """
    ahead = part.next_failure_ms
    # A car that fails just beyond the horizon rightly looks ill.
    healthy = part.healthy(2 * horizon_ms)
    low = float(log_odds[healthy].max()) if healthy.any() else float(np.median(log_odds))
    timely = (ahead >= _LEAD * horizon_ms) & (ahead <= horizon_ms)
    reached = _highest(log_odds[timely], part.windows.vin[timely])
    high = float(np.quantile(reached, 1 - _ANNOUNCED)) if len(reached) else -np.inf
    return low + max(_NEARER * (high - low), _MARGIN)


def _highest(values: Floats, vins: Ids) -> Floats:
    """The highest value of each vehicle."""
    names, row = np.unique(vins, return_inverse=True)
    highest = np.full(len(names), -np.inf)
    np.maximum.at(highest, row, values)
    return highest
