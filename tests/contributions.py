"""The same contributions for every prediction of a batch."""

from collections.abc import Sequence

import numpy as np

from motorcade.fleet.predictions import Contributions


def contributions(n: int, parts: Sequence[tuple[str, float]]) -> Contributions:
    """Of n predictions, the (signal, share) given."""
    k = len(parts)
    return Contributions(
        tuple(signal for signal, _ in parts),
        np.tile(np.arange(k), (n, 1)),
        np.tile(np.array([share for _, share in parts], dtype=np.float64), (n, 1)),
        np.full(n, bool(parts)),
    )
