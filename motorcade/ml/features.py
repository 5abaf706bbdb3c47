"""From a matrix of signals to what the model sees: standardised features and a mask."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Bools, Floats, Ints
from motorcade.fleet.catalogue import Catalogue
from motorcade.ml.errors import ModelRefusedError, TrainingError
from motorcade.ml.store import Manifest

#: A feature present in fewer rows is not learnt (a tenth of them, where there are few).
_FEW_ROWS = 100
#: Share of the features that may be absent or constant.
_MOST_STILL = 0.5


@dataclass(frozen=True)
class Scale:
    """Mean and spread of each feature over the training range.

    names: features in catalogue order. mean, std: (features,) in the signal's unit, std > 0.
    learnt: (features,) whether the training range held enough of the feature; one that it did not
    is left out of inputs, scores and coverage, because nothing is known of it.
    """

    names: tuple[str, ...]
    mean: Floats
    std: Floats
    learnt: Bools

    @classmethod
    def learnt_from(cls, rows: NDArray[np.floating[Any]], catalogue: Catalogue) -> "Scale":
        """Mean and spread over the rows that train.

        A spread below a tenth of what the signal's precision resolves would turn rounding into
        anomalies, so it has a floor of one step of the precision.

        Args:
            rows: (n, features) in the signals' units, NaN where absent.
            catalogue: names the features.

        Raises:
            TrainingError: half of the features or more are absent or constant.
        """
        present = np.isfinite(rows)
        count = present.sum(axis=0)
        # Squares of values far from zero would lose their spread to rounding.
        shift = (catalogue.low + catalogue.high)[catalogue.feature_columns] / 2
        shifted = np.where(present, rows - shift, 0.0)
        mean = shifted.sum(axis=0) / np.maximum(count, 1)
        variance = (np.where(present, shifted - mean, 0.0) ** 2).sum(axis=0) / np.maximum(count, 1)
        std = np.sqrt(variance)
        steps = np.array([10.0**-s.precision for s in catalogue.signals if s.feature])
        learnt = count >= min(_FEW_ROWS, max(1, len(rows) // 10))
        still = ~learnt | (std < steps / 10)
        if still.sum() > _MOST_STILL * len(still):
            names = [n for n, quiet in zip(catalogue.features, still, strict=True) if quiet]
            raise TrainingError(
                f"{len(names)} of {len(still)} features are absent or constant in the training "
                f"range: {', '.join(names)}.",
                f"A model of the catalogue {catalogue.name!r} needs most of them to vary: let the "
                "cars drive, and check that they send these signals.",
            )
        return cls(catalogue.features, mean + shift, np.maximum(std, steps), learnt)

    def columns(self, catalogue: Catalogue) -> Ints:
        """Columns of the features in a matrix of all signals, shape (features,).

        Raises:
            ModelRefusedError: the features are not the catalogue's, in its order.
        """
        if self.names != catalogue.features:
            ours, theirs = set(catalogue.features), set(self.names)
            raise ModelRefusedError(
                f"The model's features are not those of the catalogue {catalogue.name!r}: "
                + _difference(theirs - ours, ours - theirs),
                "Train a model for this catalogue: motorcade train MODEL.",
            )
        return catalogue.feature_columns

    def apply(self, features: Floats) -> tuple[Floats, Bools]:
        """Standardise rows of features.

        Args:
            features: (n, features) in the signals' units, NaN where absent.

        Returns:
            (n, features) standardised, 0 (the mean) where absent or not learnt, and the mask of
            what is present.
        """
        present = np.isfinite(features) & self.learnt
        # Absent values are replaced before the arithmetic, so that no NaN passes through it.
        return (np.where(present, features, self.mean) - self.mean) / self.std, present

    def coverage(self, present: Bools) -> Floats:
        """Share of the learnt features present in each row, shape (n,)."""
        shares: Floats = present.sum(axis=1) / self.learnt.sum()
        return shares


def scale_of(manifest: Manifest) -> Scale:
    """The manifest's normalisation.

    Raises:
        ModelRefusedError: its lists do not fit each other, or hold what no training gives.
    """
    n = len(manifest.features)
    lists = (manifest.mean, manifest.std, manifest.learnt, manifest.residual)
    numbers = [*manifest.mean, *manifest.std, *manifest.residual, manifest.threshold]
    if any(len(one) != n for one in lists):
        raise ModelRefusedError(f"The manifest's lists are not all {n} features long.")
    if not np.isfinite(numbers).all() or min(*manifest.std, *manifest.residual) <= 0:
        raise ModelRefusedError("The manifest's normalisation is not finite and positive.")
    if not manifest.threshold > 0 or not 0 < manifest.minimum_coverage <= 1:
        raise ModelRefusedError("The manifest's threshold or minimum coverage is out of range.")
    if not any(manifest.learnt):
        raise ModelRefusedError("The model has learnt no feature.")
    return Scale(
        tuple(manifest.features),
        np.array(manifest.mean),
        np.array(manifest.std),
        np.array(manifest.learnt, dtype=bool),
    )


def _difference(unknown: set[str], missing: set[str]) -> str:
    parts = []
    if unknown:
        parts.append(f"unknown here: {', '.join(sorted(unknown))}")
    if missing:
        parts.append(f"unknown to the model: {', '.join(sorted(missing))}")
    return ("; ".join(parts) or "their order differs") + "."
