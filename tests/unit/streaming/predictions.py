"""Builds `predictions` records for tests."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.predictions import PredictionAvro, PredictionColumns, Words
from tests.contributions import contributions as of_each

CODEC = PredictionAvro(load_catalogue(), schema_id=1)
THRESHOLD = 1.0

#: A car in coolant trouble, as a scorer sees it.
COOLING = (("coolant_temp", 0.7), ("speed", 0.2), ("battery_voltage", 0.1))


class FakeRecord(NamedTuple):
    """The attributes of a Kafka record that our code reads."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    #: Kafka's own time of it, milliseconds.
    timestamp: int = 0


def encode(
    vins: Sequence[bytes],
    scores: Sequence[float],
    partition: int = 0,
    contributions: Sequence[tuple[str, float]] = COOLING,
    boot: int = 1,
    kind: str = "",
) -> list[bytes]:
    """One prediction for each vin and score (NaN: not scored); seq from 1, offset from 0."""
    n = len(vins)
    score = np.array(scores, dtype=np.float64)
    columns = PredictionColumns(
        vin=np.array(vins, dtype="S17"),
        score=score,
        threshold=np.full(n, THRESHOLD),
        coverage=np.ones(n),
        boot=np.full(n, boot),
        seq=np.arange(1, n + 1),
        time=np.arange(n) * 1000,
        due=np.arange(n) * 1000 + 7,
        partition=np.full(n, partition),
        offset=np.arange(n),
        version=np.full(n, 3),
    )
    reasons = ["no model is live yet" if np.isnan(s) else "" for s in score]
    kinds = Words((kind,), np.zeros(n, dtype=np.int64)) if kind else None
    return CODEC.encode(columns, "autoencoder", reasons, of_each(n, contributions), kinds)
