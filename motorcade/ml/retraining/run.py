"""One retraining: record → train → evaluate → promote, for each model in turn."""

import time
from collections.abc import Callable
from typing import Any, Protocol

from motorcade.fleet.errors import MotorcadeError, UnreachableError
from motorcade.fleet.settings import ProcessSettings
from motorcade.ml.errors import TrainingError
from motorcade.ml.models.catalogue import architecture
from motorcade.ml.reading.recording import record_dataset
from motorcade.ml.reading.records import DatasetRecord, DatasetStore
from motorcade.ml.retraining.journal import Journal, Outcome, Plan, Retraining
from motorcade.ml.training.assemble import Limits
from motorcade.ml.training.checkpoints import Progress
from motorcade.ml.training.run import Request, train

#: The step that a phase of training belongs to; those before judging begins are training.
_STEP_OF = {"scoring": "evaluate", "judging": "evaluate", "announcing": "promote"}


class Say(Protocol):
    """Tells of a step that is done, in one line."""

    def __call__(self, step: str, /, **facts: Any) -> None:
        """The step, and what there is to know of it."""


class StoppedError(MotorcadeError):
    """A retraining was asked to stop; the same plan goes on where it was."""


class _Steps:
    """Progress of a training, as steps: a line when one is done. It stops where it is asked to."""

    def __init__(self, model: str, say: Say, stop: Callable[[], bool]) -> None:
        self._model = model
        self._say = say
        self._stop = stop
        self._step = "train"
        self._began = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        _stop_if(self._stop)
        step = _STEP_OF.get(progress.phase, self._step)
        if step != self._step:
            self.end(step)

    def end(self, following: str = "") -> None:
        """The step is done, and another one begins."""
        self._say(self._step, model=self._model, seconds=_since(self._began))
        self._step, self._began = following, time.monotonic()


def retrain(
    settings: ProcessSettings,
    plan: Plan,
    reason: str,
    say: Say,
    stop: Callable[[], bool] = lambda: False,
) -> Retraining:
    """Retrain once; one of the same plan that was interrupted goes on from its last step.

    Each model is trained with its baselines, and compared with them and with the champion on
    vehicles that taught none of them. The best one is champion afterwards; the old one stays where
    nothing is better.

    Args:
        settings: where Kafka, the registry and the data folder are.
        plan: what is trained, on what.
        reason: why now, for the journal.
        say: told of every step that is done.
        stop: asked often; True leaves it to be gone on with.

    Returns:
        What it came to.

    Raises:
        StoppedError: it was asked to stop.
        UnreachableError: Kafka or the registry does not answer; the same plan goes on later.
        MotorcadeError: nothing can be recorded, or the data can teach or judge none of the models;
            it is given up.
    """
    for name in plan.models:
        architecture(name)
    journal = Journal.of(settings)
    now = time.time_ns() // 1_000_000
    one = journal.last(plan)
    if one is None or one.ended:
        one = journal.begin(plan, reason, now)
        say("begin", retraining=one.name, reason=reason, models=", ".join(plan.models))
    else:
        say("resume", retraining=one.name, done=[done.model for done in one.outcomes])
    try:
        return _go_on(settings, journal, one, say, stop)
    except (UnreachableError, StoppedError):
        raise
    except MotorcadeError as error:
        so_far = journal.last(plan) or one
        journal.write(so_far.changed(ended=time.time_ns() // 1_000_000, problem=error.what))
        raise


def _go_on(
    settings: ProcessSettings,
    journal: Journal,
    one: Retraining,
    say: Say,
    stop: Callable[[], bool],
) -> Retraining:
    if not one.dataset:
        began = time.monotonic()
        record = _record(settings, one, stop)
        one = one.changed(dataset=record.name)
        journal.write(one)
        say(
            "record",
            dataset=record.name,
            records=record.records,
            vehicles=record.vehicles,
            codes=record.codes,
            seconds=_since(began),
        )
    done = {outcome.model for outcome in one.outcomes}
    for model in one.plan.models:
        if model in done:
            continue
        try:
            outcome = _train(settings, one, model, say, stop)
        except (UnreachableError, StoppedError):
            raise
        except MotorcadeError as error:
            if len(one.plan.models) == 1:
                raise
            outcome = Outcome(model, 0, "", f"left out: {error.what}")
            say("result", model=model, why=outcome.why)
        one = one.changed(outcomes=(*one.outcomes, outcome))
        journal.write(one)
    if not any(outcome.version for outcome in one.outcomes):
        raise TrainingError(
            f"None of {', '.join(one.plan.models)} could be trained on {one.dataset}.",
            "The lines before say why.",
        )
    one = one.changed(ended=time.time_ns() // 1_000_000)
    journal.write(one)
    say("end", retraining=one.name, champion=one.champion or "stays")
    return one


def _record(settings: ProcessSettings, one: Retraining, stop: Callable[[], bool]) -> DatasetRecord:
    known = {record.name: record for record in DatasetStore.of(settings).list()}
    if one.name in known:  # It was interrupted between writing the one and the other.
        return known[one.name]
    plan = one.plan
    return record_dataset(
        settings,
        one.name,
        since_ms=None if plan.window_ms is None else one.begun - plan.window_ms,
        until_ms=None,
        test_vehicles=plan.test_vehicles,
        told=lambda _done, _total: _stop_if(stop),
    )


def _train(
    settings: ProcessSettings, one: Retraining, model: str, say: Say, stop: Callable[[], bool]
) -> Outcome:
    plan = one.plan
    steps = _Steps(model, say, stop)
    request = Request(
        model=model,
        dataset=one.dataset,
        horizon_ms=plan.horizon_ms,
        life_cap_ms=plan.life_cap_ms,
        epochs=plan.epochs,
        seed=plan.seed,
        later=plan.later,
        settings=plan.settings,
        limits=Limits(records=plan.minimum_records),
        promote="auto",
    )
    trained = train(settings, request, steps)
    steps.end()
    decision = trained.decision
    assert decision is not None  # It was asked to be compared.
    champion = "" if decision.winner is None else "{}:{}".format(*decision.winner)
    outcome = Outcome(model, trained.manifest.version, champion, decision.why)
    say(
        "result",
        model=f"{model}:{outcome.version}",
        champion=champion or "stays",
        why=outcome.why,
    )
    return outcome


def _stop_if(stop: Callable[[], bool]) -> None:
    if stop():
        raise StoppedError(
            "The retraining was asked to stop.", "The same command goes on where it was."
        )


def _since(began: float) -> float:
    return round(time.monotonic() - began, 1)
