"""Thresholds: what healthy cars that never trained a model score, message by message."""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from motorcade.fleet.arrays import Floats, Ids, Ints
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.errors import TrainingError
from motorcade.ml.judging.evaluation import BUDGET
from motorcade.ml.judging.events import DAY_MS
from motorcade.ml.labels.failures import Failures
from motorcade.ml.labels.split import SHARES
from motorcade.ml.models.base import Model
from motorcade.ml.store import Manifest
from motorcade.ml.training import threshold
from motorcade.ml.windows import WindowSpec, WindowState

#: In a manifest's metrics: healthy vehicle-days that its threshold was chosen on.
_DAYS = "held_back_days"
#: A longer silence was not driven; as a window's.
_SILENCE_MS = WindowSpec().max_gap_ms


class Scored(NamedTuple):
    """Scores of every healthy message of some cars; vin, time and score, shape (n,)."""

    score: Floats
    vin: Ids
    time: Ints


class Calibration(NamedTuple):
    """A threshold, and what it means on the cars that it was chosen on."""

    threshold: float
    metrics: dict[str, float]


def score_healthy(
    models: Sequence[Model],
    catalogue: Catalogue,
    batches: Iterable[TelemetryColumns],
    failures: Failures,
    vins: Collection[bytes],
    horizon_ms: int,
) -> list[Scored]:
    """Score all messages of some cars in one reading, by several models.

    Every message, and not the thinned examples: alerts count consecutive ones.

    Args:
        models: what scores.
        catalogue: decides the features.
        batches: the data set's telemetry.
        failures: tells the healthy messages.
        vins: the cars.
        horizon_ms: event time before a failure in which a car is not healthy.
    """
    features = catalogue.feature_columns
    states = [WindowState(model.window, len(features)) for model in models]
    found: list[list[Scored]] = [[] for _ in models]
    for batch in batches:
        names, row = np.unique(batch.vin, return_inverse=True)
        wanted = np.array([name in vins for name in names.tolist()], dtype=bool)
        columns = batch.take(wanted[row])
        if not len(columns):
            continue
        healthy = failures.healthy(columns.vin, columns.boot, columns.time, horizon_ms)
        for model, state, parts in zip(models, states, found, strict=True):
            windows = state.push(columns, features, healthy)
            windows = windows.take(windows.filled >= model.manifest.least_filled)
            if not len(windows):
                continue
            score = model.score(windows.values).score
            known = np.isfinite(score)
            parts.append(Scored(score[known], windows.vin[known], windows.time[known]))
    return [
        Scored(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        if parts
        else Scored(np.empty(0), np.empty(0, "S17"), np.empty(0, np.int64))
        for parts in found
    ]


def choose(scored: Scored, given: float | None) -> Calibration:
    """A threshold, and what it means.

    Args:
        scored: every healthy message of cars that trained nothing.
        given: the threshold that fitting has chosen already; None: it is chosen here.

    Raises:
        TrainingError: no threshold is given and no message could be scored.
    """
    if not len(scored.score):
        if given is not None:
            return Calibration(given, {_DAYS: 0.0})
        raise TrainingError(
            "No held-back message carries enough of the learnt features to be scored.",
            "Record more vehicles that send most features.",
        )
    limit = threshold.choose(*scored) if given is None else given
    peaks = threshold.peaks(*scored, limit)
    return Calibration(
        limit,
        {
            "held_back_median": float(np.median(scored.score)),
            "held_back_above_threshold": float(np.mean(scored.score > limit)),
            "held_back_peak": float(max(peaks.values())),
            _DAYS: days_driven(scored),
        },
    )


def days_driven(scored: Scored) -> float:
    """Vehicle-days for which cars drove while they were scored."""
    order = np.lexsort((scored.time, scored.vin))
    vin, time = scored.vin[order], scored.time[order]
    step = np.diff(time)
    driven = (vin[1:] == vin[:-1]) & (step <= _SILENCE_MS)
    return float(step[driven].sum()) / DAY_MS


def too_few(manifest: Manifest) -> str:
    """A note for people where the cars that chose a threshold are too few for the budget of false
    alerts: the oddest of so many days is surpassed about once in as many others. Else empty."""
    days = manifest.metrics.get(_DAYS, math.inf)
    cars = manifest.origin.vehicles["calibrate"]
    needed = 1 / BUDGET
    if days >= needed:
        return ""
    said = (
        f"The threshold stands on {days:.2g} healthy vehicle-days of {cars} cars, which cannot "
        f"show that false alerts keep to {BUDGET:g} a day: that takes {needed:.0f} such days"
    )
    if not days:
        return f"{said}."
    in_all = cars * needed / days / SHARES["calibrate"]
    digits = 1 - math.floor(math.log10(in_all))
    return f"{said}, a data set of about {round(in_all, digits):,.0f} cars that drive as long."
