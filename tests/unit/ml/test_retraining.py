"""Retraining: when one is due, what its journal keeps, and how it goes on; trainings are played."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from motorcade.fleet.errors import MotorcadeError, UnreachableError
from motorcade.fleet.settings import ProcessSettings
from motorcade.ml.errors import DatasetError, TrainingError
from motorcade.ml.judging.promotion import Decision
from motorcade.ml.retraining import run
from motorcade.ml.retraining.journal import Journal, Outcome, Plan, Retraining
from motorcade.ml.retraining.schedule import due_ms
from motorcade.ml.training.checkpoints import Progress
from motorcade.ml.training.run import Request, Trained

HOUR = 3_600_000
PLAN = Plan(("mahalanobis", "pca"))


class Played:
    """Trainings and recordings that do as they are told, and are counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.recorded: list[str] = []
        self.trained: list[str] = []
        self.outcome: dict[str, Callable[[], tuple[str, int] | None]] = {}
        monkeypatch.setattr(run, "record_dataset", self._record)
        monkeypatch.setattr(run, "train", self._train)

    def _record(self, _: ProcessSettings, name: str, **__: Any) -> SimpleNamespace:
        self.recorded.append(name)
        return SimpleNamespace(name=name, records=10, vehicles=2, codes=0)

    def _train(
        self, _: ProcessSettings, request: Request, tell: Callable[[Progress], None]
    ) -> Trained:
        for phase in ("reading", "training", "scoring", "announcing"):
            tell(Progress(phase, 0, 1))
        winner = self.outcome.get(request.model, lambda: None)()
        self.trained.append(request.model)
        version: Any = SimpleNamespace(version=len(self.trained))
        return Trained(version, None, Decision(winner, "because", {}))


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(monkeypatch)


@pytest.fixture
def settings(tmp_path: Path) -> ProcessSettings:
    return ProcessSettings(data_dir=tmp_path)


class Lines:
    """What was said."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def __call__(self, step: str, /, **_: Any) -> None:
        self.steps.append(step)


def last(settings: ProcessSettings) -> Retraining:
    found = Journal.of(settings).last(PLAN)
    assert found is not None
    return found


def failing(error: MotorcadeError) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_every_step_says_one_line_and_the_last_promoted_is_champion(
    settings: ProcessSettings, played: Played
) -> None:
    played.outcome["pca"] = lambda: ("pca", 7)
    said = Lines()
    done = run.retrain(settings, PLAN, "asked for", said)
    model = ["train", "evaluate", "promote", "result"]
    assert said.steps == ["begin", "record", *model, *model, "end"]
    assert done.champion == "pca:7"
    assert done.ended >= done.begun
    assert last(settings) == done


def test_after_kafka_was_away_only_what_was_not_done_is_done(
    settings: ProcessSettings, played: Played
) -> None:
    played.outcome["pca"] = failing(UnreachableError("Kafka is away."))
    with pytest.raises(UnreachableError):
        run.retrain(settings, PLAN, "schedule", Lines())
    assert not last(settings).ended
    del played.outcome["pca"]
    said = Lines()
    done = run.retrain(settings, PLAN, "schedule", said)
    assert said.steps[0] == "resume"
    assert len(played.recorded) == 1
    assert played.trained == ["mahalanobis", "pca"]
    assert [one.model for one in done.outcomes] == ["mahalanobis", "pca"]
    assert done.champion == ""


def test_it_stops_where_it_is_asked_to_and_goes_on_later(
    settings: ProcessSettings, played: Played
) -> None:
    said = Lines()
    with pytest.raises(run.StoppedError):
        run.retrain(settings, PLAN, "schedule", said, lambda: "result" in said.steps)
    assert [one.model for one in last(settings).outcomes] == ["mahalanobis"]
    run.retrain(settings, PLAN, "schedule", Lines())
    assert played.trained == ["mahalanobis", "pca"]


def test_a_model_that_cannot_be_taught_is_left_out_with_the_reason(
    settings: ProcessSettings, played: Played
) -> None:
    played.outcome["mahalanobis"] = failing(TrainingError("Too few records."))
    done = run.retrain(settings, PLAN, "asked for", Lines())
    assert [(one.version, one.why) for one in done.outcomes] == [
        (0, "left out: Too few records."),
        (1, "because"),
    ]


def test_where_none_can_be_taught_it_is_given_up_and_the_next_one_begins_anew(
    settings: ProcessSettings, played: Played
) -> None:
    played.outcome = dict.fromkeys(PLAN.models, failing(TrainingError("Too few records.")))
    with pytest.raises(TrainingError, match="None of mahalanobis, pca"):
        run.retrain(settings, PLAN, "asked for", Lines())
    given_up = last(settings)
    assert given_up.ended
    assert "None of" in given_up.problem
    assert len(given_up.outcomes) == 2
    played.outcome = {}
    said = Lines()
    run.retrain(settings, PLAN, "asked for", said)
    assert said.steps[0] == "begin"


def test_another_plan_is_another_journal_and_a_broken_file_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    first = journal.begin(PLAN, "asked for", 1_000)
    second = journal.begin(PLAN, "asked for", 2_000)
    other = journal.begin(Plan(("pca",)), "asked for", 3_000)
    assert journal.last(PLAN) == second
    assert journal.last(other.plan) == other
    assert first.name < second.name
    (tmp_path / f"{other.name}.json").write_text("{")
    with pytest.raises(DatasetError, match=other.name):
        journal.last(PLAN)


@pytest.mark.parametrize(
    ("begun", "ended", "due"),
    [(None, 0, 100 * HOUR), (99, 0, 100), (99, 99, 123), (50, 51, 100)],
    ids=["never", "interrupted", "just now", "long ago"],
)
def test_the_next_is_due_a_pause_after_the_last_began(
    begun: int | None, ended: int, due: int
) -> None:
    one = None
    if begun is not None:
        one = Retraining(1, "r", PLAN, "schedule", begun * HOUR, ended=ended * HOUR)
        due *= HOUR
    assert due_ms(one, 24 * HOUR, 100 * HOUR) == due


def test_the_champion_is_the_last_one_that_was_promoted() -> None:
    outcomes = (Outcome("a", 1, "a:1", ""), Outcome("b", 1, "", ""))
    one = Retraining(1, "r", PLAN, "schedule", 0, outcomes=outcomes)
    assert one.champion == "a:1"
    assert one.changed(outcomes=()).champion == ""
