"""Models whose score is a quadratic form of one standardised sample: PCA and Mahalanobis.

What is absent is first filled with what the signals that are there let expect, under the covariance
of healthy cars (known data regression, Nelson, Taylor and MacGregor, "Missing data methods in PCA
and PLS", 1996). For the Mahalanobis distance that is the same as leaving the absent signals out.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Bools, Floats, Ints
from motorcade.fleet.catalogue import Catalogue
from motorcade.ml.errors import ModelRefusedError, TrainingError
from motorcade.ml.features import Scale, scale_of
from motorcade.ml.models.base import TOP, Examples, Learnt, Scores, TrainingData
from motorcade.ml.models.reconstruction import probe, refuse_unless_finite
from motorcade.ml.store import Manifest, Weights
from motorcade.ml.windows import Floats32, WindowSpec

#: Sets of present signals whose filling is kept; a fleet has few.
_MOST_MASKS = 256


class QuadraticModel:
    """score = |root · x|², x the standardised last sample of a window.

    The parts of the sum are the signals' contributions, which add up to the score (the complete
    decomposition of Alcala and Qin, "Reconstruction-based contribution for process monitoring",
    2009).

    Args:
        weights: `covariance` and `root`, both (features, features) and symmetric, of the
            standardised signals; zeros but for the diagonal at signals that were not learnt.

    Raises:
        ModelRefusedError: see `Model`.
    """

    def __init__(self, manifest: Manifest, weights: Weights, catalogue: Catalogue) -> None:
        self.manifest = manifest
        self.scale = scale_of(manifest)
        self.scale.columns(catalogue)
        n = len(self.scale.names)
        for name in ("covariance", "root"):
            if name not in weights or weights[name].shape != (n, n):
                raise ModelRefusedError(f"The weights hold no {name} of {n} by {n}.")
        self._gaps = Gaps(weights["covariance"].astype(np.float64))
        self._root = weights["root"].astype(np.float64)
        refuse_unless_finite(manifest, self.score(probe(manifest, self.scale))[:4])

    @property
    def window(self) -> WindowSpec:
        """The windows that it scores, of one row."""
        return self.manifest.window

    def score(self, values: Floats32) -> Scores:
        """See `Model`; values (n, 1, features)."""
        inputs, present = self.scale.apply(values[:, -1].astype(np.float64))
        parts = (self._gaps.filled(inputs, present) @ self._root) ** 2
        score = parts.sum(axis=1)
        coverage = self.scale.coverage(present)
        score[coverage < self.manifest.minimum_coverage] = np.nan
        return Scores.of_anomaly(score, coverage, *largest(parts * present))


class Gaps:
    """Fills what is absent with its mean given what is present.

    Args:
        covariance: (features, features) of the standardised signals, positive definite.
    """

    def __init__(self, covariance: Floats) -> None:
        self._covariance = covariance
        self._fillings: dict[bytes, Floats] = {}

    def filled(self, inputs: Floats, present: Bools) -> Floats:
        """Samples without gaps, (n, features).

        Args:
            inputs: (n, features) standardised, 0 where absent.
            present: (n, features).
        """
        whole = inputs.copy()
        gaps = np.flatnonzero(~present.all(axis=1))
        codes, which = np.unique(np.packbits(present[gaps], axis=1), axis=0, return_inverse=True)
        for number, code in enumerate(codes):
            rows = gaps[which.ravel() == number]
            whole[rows] = inputs[rows] @ self._filling(code.tobytes(), present[rows[0]])
        return whole

    def _filling(self, name: bytes, present: Bools) -> Floats:
        filling = self._fillings.get(name)
        if filling is None:
            here, absent = np.flatnonzero(present), np.flatnonzero(~present)
            filling = np.diag(present.astype(np.float64))
            if len(here):
                filling[np.ix_(here, absent)] = np.linalg.solve(
                    self._covariance[np.ix_(here, here)], self._covariance[np.ix_(here, absent)]
                )
            if len(self._fillings) >= _MOST_MASKS:
                self._fillings.clear()
            self._fillings[name] = filling
        return filling


def healthy_samples(part: Examples, data: TrainingData, name: str) -> Floats32:
    """The last sample of the healthy examples, (n, features).

    Raises:
        TrainingError: windows of several rows were asked for.
    """
    if data.window.rows != 1:
        raise TrainingError(
            f"The {name} sees one sample at a time, not windows of {data.window.rows}.",
            "Leave --window out.",
        )
    samples: Floats32 = part.windows.values[part.healthy(data.horizon_ms), -1]
    return samples


def complete(inputs: Floats, present: Bools, learnt: Bools) -> Floats:
    """Rows that carry every learnt signal, or all where those are few, (n, features).

    A covariance of rows whose gaps hold the mean is too small at the signals that have gaps.
    """
    whole = (present | ~learnt).all(axis=1)
    rows: Floats = inputs[whole] if whole.sum() >= 20 * len(learnt) else inputs
    return rows


def learnt_form(scale: Scale, covariance: Floats, form: Floats, **metrics: float) -> Learnt:
    """What fitting gives for the score x' · form · x.

    Args:
        form: (features, features), symmetric, not negative.
    """
    values, vectors = np.linalg.eigh(form)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    fields: dict[str, Any] = {
        "mean": scale.mean.tolist(),
        "std": scale.std.tolist(),
        "learnt": scale.learnt.tolist(),
        "residual": np.ones(len(scale.names)).tolist(),
    }
    return Learnt({"covariance": covariance, "root": root}, fields, {}, metrics)


def largest(parts: NDArray[np.floating[Any]]) -> tuple[Ints, Floats]:
    """(top, share): positions of the largest of (n, features), and their shares of the sum."""
    top = np.argsort(-parts, axis=1, kind="stable")[:, :TOP]
    total = np.maximum(parts.sum(axis=1), 1e-30)
    return top, np.take_along_axis(parts, top, axis=1) / total[:, None]
