"""What models of other drives say of a fold's drives: alerts of the stream, by fault. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from bench.recorded_faults.inject import FAULTS
from motorcade.fleet.alert_rules import Rule
from motorcade.fleet.arrays import Floats
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.judging.events import MINUTE_MS, raised
from motorcade.ml.judging.metrics import poisson_upper, ranking
from motorcade.ml.judging.observe import Streams, observe
from motorcade.ml.models.base import Model

#: False alerts an hour for which recall is told beside that of a model's own threshold.
BUDGETS = (0.1, 0.5)
#: Shares of healthy messages above the thresholds that are tried for a budget.
TRIED = np.geomspace(1e-4, 0.2, 60)
HOUR_MS = 3_600_000


class Drive(NamedTuple):
    """Recording `number` as a car's messages; a fault begins at row `onset`, or past the end."""

    number: int
    fault: str
    columns: TelemetryColumns
    onset: int


class Rows:
    """Drives one after the other, as often as iterated."""

    def __init__(self, drives: list[Drive]) -> None:
        self._drives = drives

    def __iter__(self) -> Iterator[TelemetryColumns]:
        return (drive.columns for drive in self._drives)

    def __len__(self) -> int:
        return sum(len(drive.columns) for drive in self._drives)


class Fold(NamedTuple):
    """What one model says of a fold: the drive of each vehicle, and (n,) scores of all messages."""

    drives: list[Drive]
    streams: Streams
    score: Floats
    threshold: float

    def scores(self, fault: str) -> Floats:
        """Finite scores from the onset of a fault on; of drives as recorded, if it is ""."""
        found = [
            self.score[self.streams[at][drive.onset if fault else 0 :]]
            for at, drive in enumerate(self.drives)
            if drive.fault == fault
        ]
        every = np.concatenate(found) if found else np.empty(0)
        known: Floats = every[np.isfinite(every)]
        return known


@dataclass
class Tally:
    """Alerts at some thresholds: false ones of drives as recorded, and minutes from onset to the
    first alert of each drive whose fault was found.
    """

    false: int = 0
    delays: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in FAULTS})


def fold_of(models: Sequence[Model], catalogue: Catalogue, drives: list[Drive]) -> list[Fold]:
    """For each model, what it says of the drives."""
    by_vin = {drive.columns.vin[0]: drive for drive in drives}
    observed, said = observe(models, catalogue, Rows(drives), [], by_vin, lambda _: None)
    mine = [by_vin[vin] for vin in observed.vins.tolist()]
    return [Fold(mine, observed.streams, one.score, one.manifest.threshold) for one in said]


def tally(folds: Sequence[Fold], thresholds: Sequence[float], interval_ms: int) -> Tally:
    """Alerts of all folds, each at a threshold of its own."""
    found = Tally()
    for fold, threshold in zip(folds, thresholds, strict=True):
        alerts = raised(Rule(), fold.streams, fold.score, threshold)
        for at, drive in enumerate(fold.drives):
            places = np.flatnonzero(np.isin(fold.streams[at], alerts))
            if not drive.fault:
                found.false += len(places)
            elif (late := places[places >= drive.onset]).size:
                found.delays[drive.fault].append(
                    float((late[0] - drive.onset) * interval_ms / MINUTE_MS)
                )
    return found


def summed_up(model: str, folds: Sequence[Fold], interval_ms: int) -> dict[str, Any]:
    """What all folds say of a model: at its own thresholds, and within budgets of false alerts.

    A budget's thresholds leave the same share of each fold's healthy messages above them. They are
    read off the drives that judge, so they tell what a calibration could reach at best.
    """
    own = tally(folds, [fold.threshold for fold in folds], interval_ms)
    clean = [drive for fold in folds for drive in fold.drives if not drive.fault]
    hours = sum(len(drive.columns) for drive in clean) * interval_ms / HOUR_MS
    healthy = [fold.scores("") for fold in folds]
    levels = [np.quantile(scores, 1 - TRIED).tolist() for scores in healthy]
    tried = [tally(folds, thresholds, interval_ms) for thresholds in zip(*levels, strict=True)]
    within = {
        budget: max(
            (one for one in tried if one.false <= budget * hours),
            key=lambda one: sum(map(len, one.delays.values())),
            default=Tally(),
        )
        for budget in BUDGETS
    }
    ordinary = np.concatenate(healthy)
    faults = {}
    for fault in FAULTS:
        drives = sum(drive.fault == fault for fold in folds for drive in fold.drives)
        scores = np.concatenate([fold.scores(fault) for fold in folds])
        parted = ranking(
            np.concatenate([ordinary, scores]),
            np.arange(len(ordinary) + len(scores)) >= len(ordinary),
        )
        delays = own.delays[fault]
        faults[fault] = {
            "drives": drives,
            "found": len(delays),
            "recall": len(delays) / drives,
            "delay_median_minutes": float(np.median(delays)) if delays else None,
            "roc_auc": parted.roc_auc if parted else None,
            "found_within": {
                f"{budget:g}": len(one.delays[fault]) for budget, one in within.items()
            },
        }
    return {
        "model": model,
        "hours": hours,
        "false_alerts": own.false,
        "false_per_hour": own.false / hours,
        "false_per_hour_upper": poisson_upper(own.false, hours),
        "false_alerts_within": {f"{budget:g}": one.false for budget, one in within.items()},
        "faults": faults,
    }
