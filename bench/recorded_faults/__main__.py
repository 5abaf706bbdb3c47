"""Faults in recordings of a real car: models taught by some drives find them in others, or not.

`python -m bench.recorded_faults FOLDER [--models NAME,...] [--json FILE]`, FOLDER with the
recordings of eron93br/carOBD. Drives are dealt into folds; each fold judges models that the other
folds taught. The car never reported a trouble code, so faults are put into copies of the drives
(inject.py): each begins eight minutes before the drive's end, where a code is reported. Models of
what is normal learn from healthy messages alone; trees learn from the codes of other drives. False
alarms are counted on the drives as they were recorded. Training, windows, scores and alerts are
those of the stream.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.recorded_faults.inject import FAULTS
from motorcade.fleet.alert_rules import Rule
from motorcade.fleet.catalogue import Catalogue, load_catalogue
from motorcade.fleet.messages import DiagnosticTroubleCode
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.judging.events import raised
from motorcade.ml.judging.metrics import poisson_upper, ranking
from motorcade.ml.judging.observe import observe
from motorcade.ml.labels.failures import Failures
from motorcade.ml.models.base import FitOptions, Model
from motorcade.ml.models.catalogue import architecture
from motorcade.ml.training.assemble import Limits
from motorcade.ml.training.learn import Plan, Task, learn
from motorcade.ml.training.lives import Quiet
from motorcade.ml.windows import WindowSpec
from motorcade.simulator.recorded import RecordedDrive, load_drives, load_mapping

HERE = Path(__file__).parent
START_MS = 1_770_000_000_000
DAY_MS = 86_400_000
#: Event time between two messages of a car, as fleets send them.
INTERVAL_MS = 5_000
#: Event time from a fault's onset to the end of its drive, and what of the drive comes before it.
FAULT_S = 480
BEFORE_S = 480
FOLDS = 4
#: Windows of a minute, of every message.
MINUTE = WindowSpec(rows=12, every_ms=INTERVAL_MS)
#: So many trees are enough for so few drives.
TREES = 60.0
HOUR_S = 3600.0


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


def as_messages(drive: RecordedDrive, number: int, catalogue: Catalogue, fault: str = "") -> Drive:
    """A recording as one car's messages, with a fault in it if one is named."""
    copy = [*FAULTS].index(fault) + 1 if fault else 0
    values = np.full((len(drive.values), len(catalogue.names)), np.nan)
    values[:, drive.columns] = drive.values
    every = INTERVAL_MS // drive.interval_ms
    seconds = np.arange(len(values)) * drive.interval_ms / 1000
    onset = (len(values) - FAULT_S * 1000 // drive.interval_ms) // every * every
    if fault:
        rng = np.random.default_rng(1000 * copy + number)
        values = FAULTS[fault](values, seconds - seconds[onset], catalogue, rng)
    values = values[::every]
    n = len(values)
    boot = START_MS + number * DAY_MS
    time = boot + np.arange(n) * INTERVAL_MS
    vin = np.full(n, f"CAROBD{copy:02}{number:09}".encode(), dtype="S17")
    columns = TelemetryColumns(vin, values, np.full(n, boot), np.arange(n) + 1, time, time)
    return Drive(number, fault, columns, onset // every if fault else n)


def copies(recordings: list[RecordedDrive], number: int, catalogue: Catalogue) -> list[Drive]:
    """A recording as it is, and with each fault in it if it is long enough."""
    drive = recordings[number]
    long_enough = drive.duration_s >= FAULT_S + BEFORE_S
    faults = ["", *FAULTS] if long_enough else [""]
    return [as_messages(drive, number, catalogue, fault) for fault in faults]


def codes_of(drives: list[Drive]) -> list[DiagnosticTroubleCode]:
    """What the cars with a fault report at the end."""
    found = []
    for drive in drives:
        if drive.fault:
            columns, last = drive.columns, int(drive.columns.time[-1])
            vin, boot = columns.vin[0].decode(), int(columns.boot[0])
            found.append(DiagnosticTroubleCode(vin, boot, drive.fault, drive.fault, last + 1, last))
    return found


def taught(names: list[str], catalogue: Catalogue, drives: list[Drive]) -> list[Model]:
    """Models that these drives teach; of eight one validates, and two calibrate."""
    parts = ["train"] * 5 + ["validate", "calibrate", "calibrate"]
    place = {number: at for at, number in enumerate(dict.fromkeys(d.number for d in drives))}
    part_of = {drive.columns.vin[0]: parts[place[drive.number] % 8] for drive in drives}
    tasks = []
    for name in names:
        one = architecture(name)
        window = one.window if one.window.stateless else MINUTE
        how = FitOptions(extra={"trees": TREES} if name == "boosted" else {})
        tasks.append(Task(one, window, how, Quiet(name, lambda _: None)))
    rows = Rows(drives)
    plan = Plan(horizon_ms=FAULT_S * 1000, limits=Limits(records=500, vehicles=8))
    failures = Failures.of(codes_of(drives))
    found = learn(
        catalogue, rows, len(rows), failures, part_of.__getitem__, tasks, plan, lambda _: None
    )
    return [one.model for one in found]


def judged(
    models: list[Model], catalogue: Catalogue, drives: list[Drive]
) -> list[dict[str, dict[str, Any]]]:
    """For each model and each fault: alerts, scores, time driven."""
    by_vin = {drive.columns.vin[0]: drive for drive in drives}
    observed, said = observe(models, catalogue, Rows(drives), [], by_vin, lambda _: None)
    found = []
    for one in said:
        alerts = raised(Rule(), observed.streams, one.score, one.manifest.threshold)
        tally: dict[str, dict[str, Any]] = {}
        for vehicle, vin in enumerate(observed.vins.tolist()):
            drive = by_vin[vin]
            rows = observed.streams[vehicle]
            mine = np.flatnonzero(np.isin(rows, alerts))
            late = mine[mine >= drive.onset]
            row = tally.setdefault(drive.fault, {"drives": 0, "delays": [], "alerts": 0, "s": 0.0})
            row["drives"] += 1
            row["alerts"] += int((mine < drive.onset).sum())
            row["s"] += min(drive.onset, len(rows)) * INTERVAL_MS / 1000
            row.setdefault("scores", []).append(one.score[rows[drive.onset :]])
            row.setdefault("healthy", []).append(one.score[rows[: drive.onset]])
            if len(late):
                row["delays"].append(float((late[0] - drive.onset) * INTERVAL_MS / 60_000))
        found.append(tally)
    return found


def summed_up(model: str, folds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """What all folds say of a model."""
    clean = [fold[""] for fold in folds]
    healthy = np.concatenate([score for fold in clean for score in fold["healthy"]])
    healthy = healthy[np.isfinite(healthy)]
    hours = sum(fold["s"] for fold in clean) / HOUR_S
    false = sum(fold["alerts"] for fold in clean)
    faults = {}
    for fault in FAULTS:
        mine = [fold[fault] for fold in folds if fault in fold]
        scores = np.concatenate([score for fold in mine for score in fold["scores"]])
        scores = scores[np.isfinite(scores)]
        drives = sum(fold["drives"] for fold in mine)
        delays = [delay for fold in mine for delay in fold["delays"]]
        parted = ranking(
            np.concatenate([healthy, scores]), np.arange(len(healthy) + len(scores)) >= len(healthy)
        )
        faults[fault] = {
            "drives": drives,
            "found": len(delays),
            "recall": len(delays) / drives,
            "delay_median_minutes": float(np.median(delays)) if delays else None,
            "roc_auc": parted.roc_auc if parted else None,
        }
    return {
        "model": model,
        "hours": hours,
        "false_alerts": false,
        "false_per_hour": false / hours,
        "false_per_hour_upper": poisson_upper(false, hours),
        "faults": faults,
    }


def main() -> None:
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", default="pca,mahalanobis,boosted")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    catalogue = load_catalogue(HERE / "signals.yaml")
    names = arguments.models.split(",")
    recordings = load_drives(arguments.folder, catalogue, load_mapping(HERE / "recordings.yaml"))
    order = np.random.default_rng(0).permutation(len(recordings)).tolist()
    every = [copies(recordings, number, catalogue) for number in order]
    folds: list[list[dict[str, dict[str, Any]]]] = []
    for fold in range(FOLDS):
        mine = order[fold::FOLDS]
        others = [one for drives in every for one in drives if one.number not in mine]
        drives = [one for drives in every for one in drives if one.number in mine]
        folds.append(judged(taught(names, catalogue, others), catalogue, drives))
        print(f"fold {fold + 1} of {FOLDS}: {len(mine)} drives", flush=True)
    found = [summed_up(name, [fold[number] for fold in folds]) for number, name in enumerate(names)]
    for one in found:
        print(
            f"{one['model']}: {one['false_alerts']} false alerts in {one['hours']:.1f} h, "
            f"at most {one['false_per_hour_upper']:.2f} an hour (95 %)"
        )
        for fault, row in one["faults"].items():
            delay = row["delay_median_minutes"]
            print(
                f"  {fault:32} {row['found']:2} of {row['drives']} found, "
                f"{'–' if delay is None else f'{delay:.1f} min'} after onset, "
                f"ROC-AUC {row['roc_auc']:.3f}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
