"""What training comes to, without any I/O of its own: data in, models with thresholds out."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import msgspec

from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.errors import TrainingError
from motorcade.ml.labels.failures import HORIZON_MS, Failures
from motorcade.ml.models.base import Architecture, FitOptions, Learnt, Model, Watch
from motorcade.ml.store import FORMAT, Manifest, Origin, Weights
from motorcade.ml.training.assemble import Assembled, Limits, assemble
from motorcade.ml.training.calibrate import Scored, choose, score_healthy
from motorcade.ml.training.checkpoints import Progress
from motorcade.ml.windows import WindowSpec

_LIBRARIES = ("motorcade", "numpy", "tensorflow-cpu", "scikit-learn")


class Plan(msgspec.Struct, frozen=True):
    """What to learn, whatever the data set."""

    horizon_ms: int = HORIZON_MS
    life_cap_ms: int | None = None
    seed: int = 0
    limits: Limits = Limits()


class Task(NamedTuple):
    """One model to train."""

    architecture: Architecture
    window: WindowSpec
    how: FitOptions
    watch: Watch
    #: Left out, with a word, where the data cannot teach it.
    optional: bool = False


class Candidate(NamedTuple):
    """A trained model with its threshold; its version is yet to be given."""

    task: Task
    manifest: Manifest
    weights: Weights
    model: Model
    curves: dict[str, list[float]]
    #: What it gives healthy messages of vehicles that did not train it.
    healthy: Scored


def learn(
    catalogue: Catalogue,
    batches: Iterable[TelemetryColumns],
    total: int,
    failures: Failures,
    part_of: Callable[[bytes], str],
    tasks: Sequence[Task],
    plan: Plan,
    tell: Callable[[Progress], None],
) -> list[Candidate]:
    """Train models on one data set, in two readings of it: one to learn, one for thresholds.

    Args:
        catalogue: decides the features.
        batches: the same rows in the same order whenever iterated.
        total: rows in all, for the progress.
        failures: trouble codes that were reported.
        part_of: the part of a vehicle.
        tasks: the models.
        plan: horizon, seed, limits.
        tell: told of all progress.

    Returns:
        A candidate per task, less the optional ones that the data cannot teach; version, data set
        and ranges of its manifest are to be completed.

    Raises:
        TrainingError: the data cannot teach a model; the message says what is missing.
    """
    assembled = assemble(
        catalogue,
        _counted(batches, total, tell, "reading"),
        failures,
        part_of,
        list(dict.fromkeys(task.window for task in tasks)),
        horizon_ms=plan.horizon_ms,
        life_cap_ms=plan.life_cap_ms,
        seed=plan.seed,
        limits=plan.limits,
    )
    fitted = [
        (task, *found)
        for task in tasks
        if (found := _fitted(task, assembled, plan, catalogue, tell)) is not None
    ]
    scored = score_healthy(
        [model for _, _, model in fitted],
        catalogue,
        _counted(batches, total, tell, "calibrating"),
        failures,
        assembled.calibrating,
        plan.horizon_ms,
    )
    candidates = []
    for (task, learnt, model), scores in zip(fitted, scored, strict=True):
        chosen = choose(scores, learnt.fields.get("threshold"))
        manifest = msgspec.structs.replace(
            model.manifest,
            threshold=chosen.threshold,
            metrics=model.manifest.metrics | chosen.metrics,
        )
        final = task.architecture.load(manifest, learnt.weights, catalogue)
        candidates.append(Candidate(task, manifest, learnt.weights, final, learnt.curves, scores))
    return candidates


def _fitted(
    task: Task,
    assembled: Assembled,
    plan: Plan,
    catalogue: Catalogue,
    tell: Callable[[Progress], None],
) -> tuple[Learnt, Model] | None:
    try:
        return fit(task, assembled, plan, catalogue)
    except TrainingError as error:
        if not task.optional:
            raise
        tell(Progress(f"{task.architecture.name} left out", 1, 1, error.what))
        return None


def fit(task: Task, assembled: Assembled, plan: Plan, catalogue: Catalogue) -> tuple[Learnt, Model]:
    """Fit one model on what was assembled; its threshold is the architecture's own, or 1.

    Raises:
        TrainingError: the data cannot teach it.
    """
    data = assembled.data[task.window]
    learnt = task.architecture.fit(data, task.how, task.watch)
    n = len(catalogue.features)
    fields: dict[str, Any] = {
        "mean": [0.0] * n,
        "std": [1.0] * n,
        "learnt": [True] * n,
        "residual": [1.0] * n,
        # Any will do until it has scored the calibration part.
        "threshold": 1.0,
        "kinds": list(data.train.kinds),
        "life_cap_ms": plan.life_cap_ms,
        "extra": {},
    } | learnt.fields
    manifest = Manifest(
        format=FORMAT,
        name=task.architecture.name,
        version=0,
        architecture=task.architecture.name,
        created=time.time_ns() // 1_000_000,
        catalogue=catalogue.name,
        features=list(catalogue.features),
        minimum_coverage=plan.limits.coverage,
        origin=Origin(
            ranges=[],
            schema_ids=[],
            dataset="",
            records=assembled.records,
            vehicles=assembled.vehicles,
            seed=plan.seed,
        ),
        metrics=learnt.metrics,
        window=task.window,
        horizon_ms=plan.horizon_ms,
        libraries=_libraries(),
        **fields,
    )
    return learnt, task.architecture.load(manifest, learnt.weights, catalogue)


def _libraries() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _counted(
    batches: Iterable[TelemetryColumns],
    total: int,
    tell: Callable[[Progress], None],
    phase: str,
) -> Iterator[TelemetryColumns]:
    done = 0
    tell(Progress(phase, 0, total))
    for batch in batches:
        done += len(batch)
        tell(Progress(phase, done, total))
        yield batch
    # Batches that were cut short are done, too.
    tell(Progress(phase, total, total))
