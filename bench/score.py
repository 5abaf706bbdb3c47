"""Scoring: one batched tf.function against `keras.predict` per message, on the same network.

python bench/score.py
"""

import time

import numpy as np

from motorcade.fleet.catalogue import load_catalogue
from motorcade.ml.models.autoencoder import NAME, Autoencoder, build
from motorcade.ml.models.gradient import weights_of
from motorcade.ml.store import FORMAT, Manifest, Origin, Weights

BATCH, PASSES, SINGLES = 5000, 40, 30


def manifest(name: str, threshold: float) -> Manifest:
    """Of an untrained model: what it costs does not depend on what it learnt."""
    catalogue = load_catalogue()
    n = len(catalogue.features)
    return Manifest(
        format=FORMAT,
        name=name,
        version=1,
        architecture=NAME,
        created=0,
        catalogue=catalogue.name,
        features=list(catalogue.features),
        mean=[0.0] * n,
        std=[1.0] * n,
        learnt=[True] * n,
        residual=[1.0] * n,
        threshold=threshold,
        minimum_coverage=0.5,
        origin=Origin(ranges=[], schema_ids=[], dataset="", records={}, vehicles={}, seed=0),
        metrics={},
        libraries={},
    )


def weights() -> Weights:
    """Of an untrained network for the default catalogue."""
    return weights_of(build(len(load_catalogue().features), dtype="float32"))


def main() -> None:
    scorer = Autoencoder(manifest("bench", 1.0), weights(), load_catalogue())
    values = np.random.default_rng(0).normal(size=(BATCH, 1, 18)).astype(np.float32)
    scorer.score(values)
    began = time.process_time()
    for _ in range(PASSES):
        scorer.score(values)
    batched = (time.process_time() - began) / (PASSES * BATCH)

    network = build(len(scorer.scale.names), dtype="float32")
    network.predict(values[:1, 0], verbose=0)
    began = time.process_time()
    for row in range(SINGLES):
        network.predict(values[row : row + 1, 0], verbose=0)
    single = (time.process_time() - began) / SINGLES

    print(f"batched tf.function, {BATCH} a call: {1 / batched:>12,.0f} records per CPU-second")
    print(f"keras.predict per message:        {1 / single:>12,.0f} records per CPU-second")
    print(f"ratio: {single / batched:,.0f}")


if __name__ == "__main__":
    main()
