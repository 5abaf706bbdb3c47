"""Shares of values in bins, and how sure they are: bins from quantiles, messages by vehicle."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Floats, Ids

#: Bins of equal share that quantiles make; one more holds what is absent.
BINS = 10


class Histogram(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many messages of a sample lie in each of k bins; the last one is of absent values.

    counts: (k,). vehicles: that sent them. covariance: (k, k) of the shares, from the differences
    between vehicles: messages of one car resemble each other, so that a thousand of them say less
    than a thousand of as many cars would.
    """

    counts: list[int]
    vehicles: int
    covariance: list[list[float]]

    @property
    def messages(self) -> int:
        """How many messages there are."""
        return sum(self.counts)


def edges_of(values: NDArray[np.float32], bins: int = BINS) -> Floats:
    """Edges between bins of about equal share, rising; one bin more than edges.

    A value that alone is more than a bin's share (a constant, a level of a stepped signal) gets a
    bin of its own, so that a move down shows as well as a move up.

    Args:
        values: (n,) in the signal's unit, NaN where absent.
        bins: how many.
    """
    present = np.sort(values[np.isfinite(values)].astype(np.float64))
    if not len(present):
        return np.empty(0)
    quantiles = np.quantile(present, np.arange(1, bins) / bins, method="inverted_cdf")
    edges = np.unique(quantiles)
    ties = np.searchsorted(present, edges, "right") - np.searchsorted(present, edges, "left")
    heavy = edges[ties > len(present) / bins]
    found: Floats = np.unique(np.concatenate([edges, np.nextafter(heavy, -np.inf)]))
    return found


def histogram(values: NDArray[np.float32], vins: Ids, edges: Floats) -> Histogram:
    """Count values in bins: up to and with the first edge, …, beyond the last one, absent.

    The covariance of the shares is that of a sample of clusters (Cochran, Sampling Techniques,
    3rd ed. 1977, ch. 9.5; here the vehicles): of the sums by vehicle of each message's deviation.

    Args:
        values: (n,) in the signal's unit, NaN where absent.
        vins: (n,) who sent them.
        edges: (k - 2,), as `edges_of` gives them.
    """
    k = len(edges) + 2
    bins = np.where(
        np.isfinite(values), np.searchsorted(edges, values.astype(np.float64), "left"), k - 1
    )
    names, vehicle = np.unique(vins, return_inverse=True)
    found = np.bincount(vehicle * k + bins, minlength=len(names) * k).reshape(len(names), k)
    counts = found.sum(axis=0)
    n = int(counts.sum())
    if not n:
        return Histogram([0] * k, 0, np.zeros((k, k)).tolist())
    off = found - found.sum(axis=1, keepdims=True) * (counts / n)
    spread = off.T @ off / n**2 * (len(names) / max(1, len(names) - 1))
    return Histogram(counts.tolist(), len(names), spread.tolist())
