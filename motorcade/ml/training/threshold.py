"""The threshold: high enough that healthy cars of the held-back range raise no alert."""

import numpy as np

from motorcade.fleet.arrays import Floats, Ids, Ints

#: Share of held-back messages that may be above the threshold. Alone they raise nothing: an alert
#: takes several more anomalous than ordinary messages of one car.
QUANTILE = 0.995
#: Largest level that the alerts' leaky counter may reach on a held-back healthy car; alerts are
#: raised at 4.
PEAK = 2
#: Held-back cars are a sample: the fleet's worst healthy car is beyond the sample's. At 1.25 a
#: model of 300 simulated cars raised 4 false alerts in 480 vehicle-days; the margin costs two of
#: fifty minutes' lead.
MARGIN = 1.5


def peaks(scores: Floats, vins: Ids, times: Ints, threshold: float) -> dict[bytes, int]:
    """Highest level that each car's leaky counter reaches: up one above the threshold, else down.

    Args:
        scores, vins, times: (n,) of each scored message, in any order.
    """
    order = np.lexsort((times, vins))
    vins, above = vins[order], scores[order] > threshold
    found: dict[bytes, int] = {}
    starts = np.flatnonzero(np.r_[True, vins[1:] != vins[:-1]])
    for start, end in zip(starts, np.r_[starts[1:], len(vins)], strict=True):
        level = peak = 0
        for up in above[start:end].tolist():
            level = level + 1 if up else max(0, level - 1)
            peak = max(peak, level)
        found[vins[start]] = peak
    return found


def choose(scores: Floats, vins: Ids, times: Ints) -> float:
    """The threshold from held-back messages of healthy cars, none of which trained the model.

    The quantile bounds how often a message is anomalous; cars differ, so it is raised until no
    held-back car's counter passes `PEAK`; the margin covers the cars that are not in the sample.
    """
    threshold = float(np.quantile(scores, QUANTILE))
    above = np.sort(scores[scores > threshold])
    low, high = -1, len(above) - 1
    # Bisection over the scores themselves: a counter never peaks higher under a higher threshold.
    while high - low > 1:
        middle = (low + high) // 2
        if max(peaks(scores, vins, times, float(above[middle])).values()) > PEAK:
            low = middle
        else:
            high = middle
    if max(peaks(scores, vins, times, threshold).values()) > PEAK:
        threshold = float(above[high])
    return threshold * MARGIN
