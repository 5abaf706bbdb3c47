"""A baseline: how far a sample lies from healthy cars, measured by their covariance."""

import numpy as np

from motorcade.fleet.catalogue import Catalogue
from motorcade.ml.features import Scale
from motorcade.ml.models.base import FitOptions, Learnt, Objective, TrainingData, Watch
from motorcade.ml.models.quadratic import (
    QuadraticModel,
    complete,
    healthy_samples,
    learnt_form,
)
from motorcade.ml.store import Manifest, Weights
from motorcade.ml.windows import WindowSpec

NAME = "mahalanobis"


class MahalanobisArchitecture:
    """Learns the covariance of healthy samples, shrunk as Ledoit and Wolf (2004) have it."""

    name = NAME
    objective: Objective = "anomaly"
    window = WindowSpec()
    baseline = True

    def fit(self, data: TrainingData, how: FitOptions, watch: Watch) -> Learnt:  # noqa: ARG002
        """See `Architecture`."""
        # Not above: a scorer needs no scikit-learn.
        from sklearn.covariance import LedoitWolf  # type: ignore[import-untyped]

        watch.progress("training", 0, 1, "covariance")
        samples = healthy_samples(data.train, data, NAME)
        scale = Scale.learnt_from(samples, data.catalogue)
        inputs, present = scale.apply(samples.astype(np.float64))
        known = np.flatnonzero(scale.learnt)
        rows = complete(inputs, present, scale.learnt)[:, known]
        found = LedoitWolf(assume_centered=True).fit(rows)
        covariance = np.eye(len(scale.names))
        covariance[np.ix_(known, known)] = found.covariance_
        form = np.zeros_like(covariance)
        # A healthy sample scores 1 in the mean, however many signals there are.
        form[np.ix_(known, known)] = np.linalg.inv(found.covariance_) / len(known)
        watch.progress("training", 1, 1)
        return learnt_form(scale, covariance, form, shrinkage=float(found.shrinkage_))

    def load(self, manifest: Manifest, weights: Weights, catalogue: Catalogue) -> QuadraticModel:
        """See `Architecture`."""
        return QuadraticModel(manifest, weights, catalogue)


ARCHITECTURE = MahalanobisArchitecture()
