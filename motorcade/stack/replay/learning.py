"""From a recorded data set to a champion of remaining life, and what it tells of test vehicles."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from motorcade.fleet.arrays import Floats
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.settings import ProcessSettings
from motorcade.ml.drift.reference import reference_of, write_reference
from motorcade.ml.drift.sample import Sample, Sampled
from motorcade.ml.labels.failures import Failures
from motorcade.ml.labels.split import TEST, by_vehicle
from motorcade.ml.models.base import FitOptions, Model
from motorcade.ml.models.catalogue import architecture, load_model
from motorcade.ml.reading.reader import Reader, open_reader
from motorcade.ml.reading.recording import record_dataset, trouble_codes
from motorcade.ml.reading.records import DatasetRecord
from motorcade.ml.store import Manifest, ModelStore
from motorcade.ml.training.assemble import Limits
from motorcade.ml.training.checkpoints import Progress
from motorcade.ml.training.learn import Plan
from motorcade.ml.training.lives import (
    Candidate,
    Fitted,
    Judged,
    Lives,
    gather,
    judge,
    last_fit,
    last_windows,
)
from motorcade.ml.training.tracking import Tracking
from motorcade.ml.windows import WindowSpec

Tell = Callable[[Progress], None]

#: A longer silence, in steps, begins a new window.
_GAP_STEPS = 15
#: Windows of all examples: 200 MB, of some 5,000 whole boots, teach as well as all do.
_BYTES = 200 << 20
#: Settings of the sequence model (see `sequence_network.Shape`): it sees the last 80 samples in
#: steps of five, each signal's distance from the boot's first 30, and the age.
SEQUENCE: dict[str, float | str] = {
    "heads": "life",
    "recent": 80.0,
    "early": 30.0,
    "age": 1.0,
    "pool": 5.0,
    "convolutions": 2.0,
    "filters": 32.0,
    "units": 0.0,
    "members": 3.0,
}


@dataclass(frozen=True)
class Told:
    """What a stored model says of the test vehicles.

    judged: what the validation vehicles said of it. validation_rmse: the same in steps.
    vehicles: ids, sorted. life: (n,) in steps.
    """

    judged: Judged
    validation_rmse: float
    version: int
    vehicles: tuple[str, ...]
    life: Floats


@dataclass(frozen=True)
class Learning:
    """One learning from what `telemetry` took in since a moment.

    Args:
        settings: where Kafka, the registry and the data folder are.
        name: of the data set.
        since_ms: ingest time of its first record.
        test_vehicles: regular expression of the vehicles that never teach.
        step_ms: event time between two messages of a vehicle.
        longest: messages of a vehicle at most.
        cap: remaining life is told up to this many steps.
        folds: groups of vehicles that judge each other.
        seed: of groups and models.
    """

    settings: ProcessSettings
    name: str
    since_ms: int
    test_vehicles: str
    step_ms: int
    longest: int
    cap: int
    folds: int = 5
    seed: int = 0

    def record(self, tell: Tell) -> DatasetRecord:
        """Give the range its name.

        Raises:
            DatasetError: see `record_dataset`.
        """
        return record_dataset(
            self.settings,
            f"{self.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}",
            since_ms=self.since_ms,
            test_vehicles=self.test_vehicles,
            told=lambda done, total: tell(Progress("recording", done, total)),
        )

    def candidates(self, names: Sequence[str]) -> list[Candidate]:
        """The candidates of these architectures.

        Raises:
            TrainingError: there is no such architecture.
        """
        gap = _GAP_STEPS * self.step_ms
        boot = WindowSpec(rows=-(-self.longest // 50) * 50, max_gap_ms=gap)
        found = []
        for name in names:
            wanted = architecture(name)
            if wanted.objective == "life":
                found.append(Candidate(name, wanted, boot, FitOptions(seed=self.seed)))
                continue
            how = FitOptions(epochs=25, batch=64, patience=8, seed=self.seed, extra=SEQUENCE)
            found.append(Candidate(name, wanted, boot, how, ends_early=True))
        return found

    def gather(self, record: DatasetRecord, candidates: Sequence[Candidate]) -> Lives:
        """Read what may teach.

        Raises:
            MotorcadeError: the data set cannot be read, or is too small.
        """
        plan = Plan(
            horizon_ms=self.cap * self.step_ms // 2,
            life_cap_ms=self.cap * self.step_ms,
            seed=self.seed,
            limits=Limits(bytes=_BYTES),
        )
        return gather(
            load_catalogue(self.settings.signals),
            self._reader(record),
            Failures.of(trouble_codes(self.settings, record.dtc)),
            self._part_of(record),
            list(dict.fromkeys(one.window for one in candidates)),
            plan,
        )

    def judge(self, lives: Lives, candidate: Candidate, tell: Tell) -> Judged:
        """Ask the validation vehicles."""
        return judge(lives, candidate, self.folds, tell)

    def finish(
        self, lives: Lives, judged: Sequence[Judged], record: DatasetRecord, tell: Tell
    ) -> list[Told]:
        """Fit all candidates on all vehicles that may teach, store and track them with what they
        know of the signals, and let the stored models tell the test vehicles' lives."""
        fitted = [last_fit(lives, one, self.folds, tell) for one in judged]
        stored = [self._store(one, record) for one in fitted]
        part_of, sample = self._part_of(record), Sample(lives.catalogue)
        windows = last_windows(
            lives.catalogue,
            Sampled(self._reader(record), sample, lambda vin: part_of(vin) != TEST),
            part_of,
            list(dict.fromkeys(one.candidate.window for one in judged)),
        )
        # Every vehicle but those of the test taught: no score says what a healthy one's is.
        nothing = np.empty(0), np.empty(0, dtype="S17")
        known = reference_of(lives.catalogue.features, sample, *nothing)
        for model in stored:
            write_reference(self._folder(model.manifest), known)
        told = []
        for one, model in zip(judged, stored, strict=True):
            last = windows[one.candidate.window]
            life = model.score(last.values).life / self.step_ms
            vehicles = tuple(vin.decode() for vin in last.vin.tolist())
            error = one.error / self.step_ms
            told.append(Told(one, error, model.manifest.version, vehicles, np.asarray(life)))
        return told

    def _reader(self, record: DatasetRecord) -> Reader:
        return open_reader(self.settings, record, load_catalogue(self.settings.signals))

    def _part_of(self, record: DatasetRecord) -> Callable[[bytes], str]:
        vins = (vin.encode() for vin in record.vins)
        split = by_vehicle(vins, self.seed, test_vehicles=record.test_vehicles)
        return lambda vin: split.part_of[vin]

    def _store(self, fitted: Fitted, record: DatasetRecord) -> Model:
        """Write a model as every other is, and read it back as a scorer does."""
        store = ModelStore.of(self.settings)
        first = fitted.model.manifest
        error = fitted.judged.error / self.step_ms
        manifest = msgspec.structs.replace(
            first,
            version=store.next_version(first.name),
            metrics={**first.metrics, "validation_rmse": error},
            origin=msgspec.structs.replace(
                first.origin,
                dataset=record.name,
                ranges=[tuple(one) for one in record.telemetry],
                schema_ids=list(record.schema_ids),
            ),
        )
        announcement = store.write(manifest, fitted.weights, time.time_ns() // 1_000_000)
        candidate = fitted.judged.candidate
        params = {
            "dataset": record.name,
            "window": f"{candidate.window.rows} x {candidate.window.every_ms} ms",
            "folds": self.folds,
            "seed": self.seed,
            **candidate.how.extra,
        }
        tracking = Tracking(self.settings)
        folder = self._folder(manifest)
        tracking.write(manifest, folder, params, fitted.curves, manifest.metrics)
        read, weights = store.read(announcement)
        return load_model(read, weights, load_catalogue(self.settings.signals))

    def _folder(self, manifest: Manifest) -> Path:
        return ModelStore.of(self.settings).root / manifest.name / str(manifest.version)
