"""A baseline: principal components of healthy cars, with Hotelling's T² and the residual's Q.

T² says how unusual a sample is among the directions in which healthy cars vary, Q how far it lies
off them. The score is the combined index of both, each in units of what 1 % of healthy samples
exceed (Yue and Qin, "Reconstruction-based fault identification using a combined index", 2001).
"""

import numpy as np

from motorcade.fleet.arrays import Floats
from motorcade.fleet.catalogue import Catalogue
from motorcade.ml.features import Scale
from motorcade.ml.models.base import FitOptions, Learnt, Objective, TrainingData, Watch
from motorcade.ml.models.quadratic import (
    Gaps,
    QuadraticModel,
    complete,
    healthy_samples,
    learnt_form,
)
from motorcade.ml.store import Manifest, Weights
from motorcade.ml.windows import WindowSpec

NAME = "pca"
#: Share of the variance that the components hold, unless `--set variance=…`.
_VARIANCE = 0.9
_LIMIT = 0.99
#: Variance of a direction in which healthy cars do not vary at all, standardised.
_LEAST = 1e-6


class PcaArchitecture:
    """Learns the components of healthy samples."""

    name = NAME
    objective: Objective = "anomaly"
    window = WindowSpec()
    baseline = True

    def fit(self, data: TrainingData, how: FitOptions, watch: Watch) -> Learnt:
        """See `Architecture`."""
        # Not above: a scorer needs no scikit-learn.
        from sklearn.decomposition import PCA  # type: ignore[import-untyped]

        watch.progress("training", 0, 1, "components")
        samples = healthy_samples(data.train, data, NAME)
        scale = Scale.learnt_from(samples, data.catalogue)
        inputs, present = scale.apply(samples.astype(np.float64))
        known = np.flatnonzero(scale.learnt)
        rows = complete(inputs, present, scale.learnt)[:, known]
        found = PCA(svd_solver="covariance_eigh").fit(rows)
        held = np.cumsum(found.explained_variance_ratio_)
        wanted = float(how.extra.get("variance", _VARIANCE))
        kept = min(int(np.searchsorted(held, wanted)) + 1, max(1, len(known) - 1))
        axes, variances = found.components_, np.maximum(found.explained_variance_, _LEAST)

        covariance = np.eye(len(scale.names))
        covariance[np.ix_(known, known)] = (axes.T * variances) @ axes
        t2, q = np.zeros_like(covariance), np.zeros_like(covariance)
        t2[np.ix_(known, known)] = (axes[:kept].T / variances[:kept]) @ axes[:kept]
        q[np.ix_(known, known)] = axes[kept:].T @ axes[kept:]

        # Limits from cars that did not shape the components.
        held_back = healthy_samples(data.validate, data, NAME).astype(np.float64)
        others = Gaps(covariance).filled(*scale.apply(held_back))
        t2_limit, q_limit = (_limit(others, form) for form in (t2, q))
        watch.progress("training", 1, 1)
        form = t2 / t2_limit + q / q_limit
        return learnt_form(
            scale,
            covariance,
            form,
            components=float(kept),
            variance=float(held[kept - 1]),
            t2_limit=t2_limit,
            q_limit=q_limit,
        )

    def load(self, manifest: Manifest, weights: Weights, catalogue: Catalogue) -> QuadraticModel:
        """See `Architecture`."""
        return QuadraticModel(manifest, weights, catalogue)


def _limit(rows: Floats, form: Floats) -> float:
    """What 1 % of healthy samples (n, features) exceed."""
    squares = np.einsum("nf,fg,ng->n", rows, form, rows, optimize=True)
    return max(float(np.quantile(squares, _LIMIT)), 1e-12)


ARCHITECTURE = PcaArchitecture()
