"""How good told remaining lives are: RMSE and the score of the PHM08 challenge, in cycles."""

import numpy as np

from motorcade.fleet.arrays import Floats

#: Cycles beyond which nothing shows yet: lives are compared up to this, as everybody does since
#: Heimes, "Recurrent neural networks for remaining useful life estimation", PHM08.
CAP = 125
#: The challenge's score: exp(|d| / a) - 1, a = 13 where told too short, 10 where told too long
#: (Saxena, Goebel, Simon and Eklund, PHM08, equation 12): what is told too long is worse.
_EARLY, _LATE = 13.0, 10.0


def rmse(told: Floats, true: Floats) -> float:
    """Root mean square error, both (n,) in cycles."""
    return float(np.sqrt(np.mean((told - true) ** 2)))


def phm08(told: Floats, true: Floats) -> float:
    """Sum of the challenge's penalties, both (n,) in cycles; 0 is perfect."""
    d = told - true
    return float(np.where(d < 0, np.expm1(-d / _EARLY), np.expm1(d / _LATE)).sum())


def capped(cycles: Floats) -> Floats:
    """Lives as they are compared, (n,)."""
    return np.minimum(cycles.astype(np.float64), CAP)
