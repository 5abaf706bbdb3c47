"""Faults in recordings of a real car: models taught by some drives find them in others, or not.

motorcade bench recorded-faults FOLDER [--models NAME,…] [--json FILE]

FOLDER holds the recordings of eron93br/carOBD. Drives are dealt into folds; each fold judges models
that the other folds taught. The car never reported a trouble code, so faults are put into copies of
the drives (inject.py): each begins eight minutes before the drive's end, where a code is reported.
Models of what is normal learn from healthy messages alone; trees learn from the codes of other
drives. False alarms are counted on the drives as they were recorded. Training, windows, scores and
alerts are those of the stream.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from bench import arguments
from bench.recorded_faults.inject import FAULTS
from bench.recorded_faults.judge import Drive, Fold, Rows, fold_of, summed_up
from motorcade.fleet.catalogue import Catalogue, load_catalogue
from motorcade.fleet.messages import DiagnosticTroubleCode
from motorcade.fleet.telemetry import TelemetryColumns
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


def show(one: dict[str, Any]) -> None:
    """A model's figures, as text."""
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
            + "".join(f"; {n} at {budget} false/h" for budget, n in row["found_within"].items())
        )


def main() -> None:
    """Train, judge, print."""
    parser = arguments.parser("recorded-faults", __doc__)
    parser.add_argument("folder", type=Path, help="of the recorded drives, CSV")
    parser.add_argument("--models", default="pca,mahalanobis,boosted", help="to train and judge")
    parser.add_argument("--json", type=Path, help="write every figure to this file, too")
    options = parser.parse_args()
    catalogue = load_catalogue(HERE / "signals.yaml")
    names = options.models.split(",")
    recordings = load_drives(options.folder, catalogue, load_mapping(HERE / "recordings.yaml"))
    order = np.random.default_rng(0).permutation(len(recordings)).tolist()
    every = [copies(recordings, number, catalogue) for number in order]
    folds: list[list[Fold]] = []
    for fold in range(FOLDS):
        mine = order[fold::FOLDS]
        others = [one for drives in every for one in drives if one.number not in mine]
        drives = [one for drives in every for one in drives if one.number in mine]
        folds.append(fold_of(taught(names, catalogue, others), catalogue, drives))
        print(f"fold {fold + 1} of {FOLDS}: {len(mine)} drives", flush=True)
    found = [
        summed_up(name, [fold[number] for fold in folds], INTERVAL_MS)
        for number, name in enumerate(names)
    ]
    for one in found:
        show(one)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
