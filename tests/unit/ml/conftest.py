"""One small model for all tests of this folder: importing TensorFlow and training take seconds."""

import pytest

from motorcade.ml.models.autoencoder import ARCHITECTURE, Autoencoder
from motorcade.ml.store import Manifest, Weights

from .learning import learnt_by
from .telemetry import CATALOGUE, correlated


@pytest.fixture(scope="session")
def learnt() -> tuple[Manifest, Weights]:
    candidate = learnt_by(ARCHITECTURE, correlated(), epochs=12)
    return candidate.manifest, candidate.weights


@pytest.fixture(scope="session")
def model(learnt: tuple[Manifest, Weights]) -> Autoencoder:
    return Autoencoder(*learnt, CATALOGUE)
