"""One training, from a named data set to a stored model that is tracked and perhaps live."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.messages import ModelAnnouncement
from motorcade.fleet.settings import ProcessSettings
from motorcade.ml.announce import announce
from motorcade.ml.drift.reference import reference_of, write_reference
from motorcade.ml.drift.sample import Sample, Sampled
from motorcade.ml.errors import TrainingError
from motorcade.ml.judging.promotion import Decision
from motorcade.ml.judging.run import decide_on, live_champion
from motorcade.ml.labels.failures import HORIZON_MS
from motorcade.ml.labels.split import TEST
from motorcade.ml.models.base import Architecture, FitOptions
from motorcade.ml.models.catalogue import architecture, baselines_of
from motorcade.ml.store import Manifest, ModelStore
from motorcade.ml.training.assemble import Limits
from motorcade.ml.training.checkpoints import Checkpoint, Progress, folder_of
from motorcade.ml.training.learn import Candidate, Plan, Task, learn
from motorcade.ml.training.lesson import Lesson, open_lesson, recorded
from motorcade.ml.training.tracking import Tracking, mark_champion

Promote = Literal["auto", "always", "never"]


class Request(msgspec.Struct, frozen=True):
    """What to train, on what and how."""

    model: str = "autoencoder"
    #: A recorded data set; empty: what `telemetry` took in between `since_ms` and `until_ms` is
    #: recorded first, under a name of its own.
    dataset: str = ""
    since_ms: int | None = None
    until_ms: int | None = None
    #: How it is read: columnar or tensorflow-io.
    reader: str = "columnar"
    #: Event time before a failure in which a car is not healthy, and failures are foretold.
    horizon_ms: int = HORIZON_MS
    #: Remaining life is learnt up to this; None: it is no question.
    life_cap_ms: int | None = None
    #: Samples of a window and event time of each; None: as the model is made for.
    rows: int | None = None
    every_ms: int | None = None
    max_gap_ms: int | None = None
    epochs: int | None = None
    seed: int = 0
    #: Share of the event time, at its end, that is kept for judging: training knows nothing of it.
    later: float = 0.0
    #: Settings of fitting, or of the architecture itself.
    settings: dict[str, float | str] = {}
    limits: Limits = Limits()
    #: auto: live if it beats the baselines and the champion on the vehicles that judge; always:
    #: live at once; never.
    promote: Promote = "always"


class Trained(NamedTuple):
    """A stored model, its announcement if it is live, and what was decided where it was compared.

    Where a baseline is better than the model, that baseline is live.
    """

    manifest: Manifest
    announcement: ModelAnnouncement | None
    decision: Decision | None = None


class _Stored(NamedTuple):
    candidate: Candidate
    announcement: ModelAnnouncement
    checkpoint: Checkpoint
    params: dict[str, Any]


def train(
    settings: ProcessSettings, request: Request, progress: Callable[[Progress], None]
) -> Trained:
    """Train a model on recorded telemetry, store it, track it, and make it live if it may be.

    Interrupted at any moment, the same request goes on from the last finished epoch.

    Raises:
        TrainingError: too few records or vehicles, features that cannot be learnt, no such model.
        DatasetError: there is no such data set, or it does not fit the catalogue.
        RangeError: a range is not in Kafka, or no longer.
        UnreachableError: Kafka or the registry does not answer.
    """
    wanted = architecture(request.model)
    beside = _beside(wanted, request)
    catalogue = load_catalogue(settings.signals)
    store = ModelStore.of(settings)
    record = recorded(settings, request.dataset, request.since_ms, request.until_ms, progress)
    plan = Plan(request.horizon_ms, request.life_cap_ms, request.seed, request.limits)
    lesson = open_lesson(
        settings, record, catalogue, plan, later=request.later, reader=request.reader
    )
    there = lesson.models(store, beside)
    missing = [] if wanted.baseline else [name for name in beside if name not in there]
    part_of = lesson.split.part_of
    sample = Sample(catalogue)
    candidates = learn(
        catalogue,
        Sampled(lesson.batches, sample, lambda vin: part_of[vin] != TEST),
        lesson.total,
        lesson.failures,
        lambda vin: part_of[vin],
        [
            _task(settings, request, architecture(name), lesson, progress)
            for name in (wanted.name, *missing)
        ],
        plan,
        progress,
    )
    stored = [_store(store, candidate, lesson) for candidate in candidates]
    for one in stored:
        healthy = one.candidate.healthy
        write_reference(
            store.root / one.announcement.path,
            reference_of(catalogue.features, sample, healthy.score, healthy.vin),
        )
    first = stored[0].candidate.manifest
    mine = first.name, first.version
    decision, winner = None, None
    if request.promote == "always":
        winner = mine
    elif request.promote == "auto":
        rivals = lesson.models(store, beside).values()
        champion = live_champion(settings)
        decision = decide_on(settings, record, store, first, list(rivals), champion, progress)
        winner = decision.winner
        for place in {mine, winner or mine}:
            store.write_comparison(*place, decision.comparison)
    announcement = None if winner is None else _announce(settings, store, winner, progress)
    _track(settings, store, stored, decision, winner, progress)
    return Trained(first, announcement if winner == mine else None, decision)


def _beside(wanted: Architecture, request: Request) -> tuple[str, ...]:
    """The baselines that the model is compared with."""
    if request.promote != "auto":
        return ()
    return baselines_of(wanted.objective, life=request.life_cap_ms is not None)


def _announce(
    settings: ProcessSettings,
    store: ModelStore,
    winner: tuple[str, int],
    progress: Callable[[Progress], None],
) -> ModelAnnouncement:
    name, version = winner
    progress(Progress("announcing", 0, 1))
    announcement = store.announcement(name, version, time.time_ns() // 1_000_000)
    announcement = asyncio.run(announce(settings, announcement))
    progress(Progress("announcing", 1, 1, f"{name} {version} is live"))
    return announcement


def _track(
    settings: ProcessSettings,
    store: ModelStore,
    stored: Sequence[_Stored],
    decision: Decision | None,
    winner: tuple[str, int] | None,
    progress: Callable[[Progress], None],
) -> None:
    """Write all trainings down; after that they are done."""
    progress(Progress("tracking", 0, len(stored)))
    tracking = Tracking(settings)
    for number, one in enumerate(stored, 1):
        manifest = one.candidate.manifest
        metrics = manifest.metrics | _held_out(decision, manifest)
        folder = store.root / one.announcement.path
        tracking.write(manifest, folder, one.params, one.candidate.curves, metrics)
        one.checkpoint.done()
        progress(Progress("tracking", number, len(stored)))
    if winner is not None and (problem := mark_champion(settings, *winner)):
        progress(Progress("tracking", len(stored), len(stored), problem))


def _held_out(decision: Decision | None, manifest: Manifest) -> dict[str, float]:
    """A model's figures on the vehicles that judge, where it was judged."""
    if decision is None:
        return {}
    found = decision.comparison["models"].get(f"{manifest.name}:{manifest.version}", {})
    figures = {
        "test_pr_auc": found.get("pr_auc", {}).get("value"),
        "test_roc_auc": found.get("roc_auc", {}).get("value"),
        "test_recall": found.get("recall", {}).get("value"),
        "test_lead_minutes": found.get("lead_median", {}).get("value"),
        "test_false_per_day": found.get("false_per_day", {}).get("value"),
        "test_life_rmse_minutes": found.get("life_rmse"),
    }
    return {name: value for name, value in figures.items() if value is not None}


def _task(
    settings: ProcessSettings,
    request: Request,
    wanted: Architecture,
    lesson: Lesson,
    progress: Callable[[Progress], None],
) -> Task:
    """The asked-for model as the request says; a baseline beside it as it is made for."""
    asked = wanted.name == request.model
    window = wanted.window
    if asked:
        given = {
            "rows": request.rows,
            "every_ms": request.every_ms,
            "max_gap_ms": request.max_gap_ms,
        }
        window = msgspec.structs.replace(
            window, **{name: value for name, value in given.items() if value is not None}
        )
    how = _options(request) if asked else FitOptions(seed=request.seed)
    folder = folder_of(
        settings,
        rows=lesson.record.rows_sha256,
        codes=lesson.record.dtc,
        later=request.later,
        model=wanted.name,
        window=window,
        how=how,
        plan=lesson.plan,
    )
    checkpoint = Checkpoint(folder, progress, "" if asked else wanted.name)
    return Task(wanted, window, how, checkpoint, optional=not asked)


def _options(request: Request) -> FitOptions:
    """Options of fitting; settings that are none of them are the architecture's."""
    kinds = {"epochs": int, "batch": int, "learning_rate": float, "patience": int}
    known: dict[str, Any] = {}
    for name, kind in kinds.items():
        if name in request.settings:
            try:
                known[name] = kind(request.settings[name])
            except ValueError:
                raise TrainingError(
                    f"{name}={request.settings[name]!r} is not a number.", "Correct --set."
                ) from None
    if request.epochs is not None:
        known["epochs"] = request.epochs
    extra = {name: value for name, value in request.settings.items() if name not in kinds}
    return FitOptions(**known, seed=request.seed, extra=extra)


def _store(store: ModelStore, candidate: Candidate, lesson: Lesson) -> _Stored:
    task = candidate.task
    manifest = msgspec.structs.replace(
        candidate.manifest,
        version=store.next_version(candidate.manifest.name),
        origin=msgspec.structs.replace(
            candidate.manifest.origin,
            dataset=lesson.record.name,
            ranges=[tuple(one) for one in lesson.record.telemetry],
            schema_ids=list(lesson.record.schema_ids),
            event_until=lesson.until_ms,
        ),
    )
    announcement = store.write(manifest, candidate.weights, time.time_ns() // 1_000_000)
    params = {
        "dataset": lesson.record.name,
        "window": f"{task.window.rows} x {task.window.every_ms} ms",
        "event_until": lesson.until_ms,
        "horizon_ms": manifest.horizon_ms,
        "life_cap_ms": manifest.life_cap_ms,
        "seed": task.how.seed,
        "epochs": task.how.epochs,
        "batch": task.how.batch,
        "learning_rate": task.how.learning_rate,
        "patience": task.how.patience,
        **task.how.extra,
    }
    assert isinstance(task.watch, Checkpoint)
    return _Stored(candidate._replace(manifest=manifest), announcement, task.watch, params)
