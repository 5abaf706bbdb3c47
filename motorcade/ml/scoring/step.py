"""The step: one prediction for each telemetry record, scored or with the reason why not."""

from collections import Counter as Tally
from typing import NamedTuple

import numpy as np
from prometheus_client import Counter

from motorcade.fleet.arrays import Floats
from motorcade.fleet.predictions import Contributions, PredictionAvro, PredictionColumns
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.fleet.topics import PREDICTIONS, TELEMETRY
from motorcade.ml.autoencoder import Autoencoder
from motorcade.ml.scoring.records import TelemetryRecords
from motorcade.runtime.derive import Output
from motorcade.runtime.kafka import Record

NO_MODEL = "no model is live yet"

_PREDICTIONS = Counter("motorcade_predictions_total", "Predictions by outcome", ["outcome"])
_ANOMALOUS = Counter("motorcade_anomalous_total", "Messages scored above the threshold")


class _Parts(NamedTuple):
    """What a batch's predictions consist of; rows in the order of its records."""

    score: Floats
    coverage: Floats
    outcomes: list[str]
    reasons: list[str]
    contributions: Contributions


class ScoreStep:
    """Derives `predictions` from `telemetry`.

    `live` may be replaced between batches; a batch is scored by one model throughout.
    """

    name = "score"
    group = "score"
    source = TELEMETRY
    outputs: tuple[str, ...] = (PREDICTIONS,)
    history = 0

    def __init__(self, records: TelemetryRecords, predictions: PredictionAvro, model: str) -> None:
        """Nothing is live at first.

        Args:
            records, predictions: codecs of source and output.
            model: name that predictions carry.
        """
        self._records = records
        self._predictions = predictions
        self._model = model
        self.live: Autoencoder | None = None

    async def assigned(self, partition: int) -> None:
        """Nothing to build: a score depends on its record alone."""

    def revoked(self, partition: int) -> None:
        """Nothing to forget."""

    def process(self, records: list[Record]) -> list[Output]:
        """One prediction for each record."""
        live = self.live
        columns, broken = self._records.decode(records)
        parts = _not_live(len(records)) if live is None else _scored(live, columns)
        for row, reason in broken.items():
            parts.score[row] = np.nan
            parts.coverage[row] = 0.0
            parts.outcomes[row], parts.reasons[row] = "undecodable", reason
            parts.contributions.present[row] = False
        threshold = np.nan if live is None else live.manifest.threshold
        for outcome, count in Tally(parts.outcomes).items():
            _PREDICTIONS.labels(outcome).inc(count)
        _ANOMALOUS.inc(int((parts.score > threshold).sum()))
        predictions = PredictionColumns(
            vin=columns.vin,
            score=parts.score,
            threshold=np.full(len(records), threshold),
            coverage=parts.coverage,
            boot=columns.boot,
            seq=columns.seq,
            time=columns.time,
            due=columns.due,
            partition=np.fromiter((r.partition for r in records), np.int64, len(records)),
            offset=np.fromiter((r.offset for r in records), np.int64, len(records)),
            version=np.full(len(records), 0 if live is None else live.manifest.version),
        )
        values = self._predictions.encode(
            predictions, self._model, parts.reasons, parts.contributions
        )
        return [
            Output(PREDICTIONS, record.partition, record.key or b"", value, record.offset)
            for record, value in zip(records, values, strict=True)
        ]


def _not_live(n: int) -> _Parts:
    return _Parts(
        np.full(n, np.nan), np.zeros(n), ["no_model"] * n, [NO_MODEL] * n, Contributions.none(n)
    )


def _scored(live: Autoencoder, columns: TelemetryColumns) -> _Parts:
    scores = live.score(columns.values)
    manifest = live.manifest
    low = np.isnan(scores.score)
    names = tuple(manifest.features)
    contributions = Contributions(names, scores.top.astype(np.int64), scores.share, ~low)
    outcomes = ["scored"] * len(columns)
    reasons = [""] * len(columns)
    for row in np.flatnonzero(low).tolist():
        outcomes[row] = "low_coverage"
        reasons[row] = (
            f"coverage {scores.coverage[row]:.2f} is below the model's minimum "
            f"{manifest.minimum_coverage:.2f}"
        )
    return _Parts(scores.score, scores.coverage, outcomes, reasons, contributions)
