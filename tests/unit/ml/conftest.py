"""One small model for all tests of this folder: importing TensorFlow and training take seconds."""

import pytest

from motorcade.ml.autoencoder import Autoencoder
from motorcade.ml.store import Manifest, Weights
from motorcade.ml.train import Request, learn

from .telemetry import CATALOGUE, Batches, correlated


@pytest.fixture(scope="session")
def learnt() -> tuple[Manifest, Weights]:
    columns = correlated()
    request = Request(epochs=12)
    return learn(CATALOGUE, Batches(columns), len(columns), [], request, lambda _: None)


@pytest.fixture(scope="session")
def model(learnt: tuple[Manifest, Weights]) -> Autoencoder:
    return Autoencoder(*learnt, CATALOGUE)
