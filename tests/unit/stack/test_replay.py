"""A benchmark's arithmetic, and the order of its models, which the truth does not decide."""

import json
import re
import signal
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from motorcade.fleet.arrays import Floats
from motorcade.fleet.errors import MotorcadeError, SettingsError
from motorcade.ml.models.base import FitOptions
from motorcade.ml.models.catalogue import architecture
from motorcade.ml.training.lives import Candidate, Judged
from motorcade.ml.windows import WindowSpec
from motorcade.stack import bringup, show
from motorcade.stack.replay import page
from motorcade.stack.replay.judge import capped, phm08, rmse
from motorcade.stack.replay.learning import Told
from motorcade.stack.replay.options import ReplayOptions
from motorcade.stack.replay.result import Result, result_of
from motorcade.stack.replay.run import CmapssReplay
from motorcade.stack.replay_cli import app


def test_rmse_is_the_root_of_the_mean_square() -> None:
    assert rmse(np.array([3.0, 10.0]), np.array([0.0, 6.0])) == pytest.approx(np.sqrt(12.5))
    assert rmse(np.array([5.0]), np.array([5.0])) == 0.0


def test_the_phm08_score_punishes_what_is_told_too_long_more() -> None:
    true: Floats = np.array([50.0])

    assert phm08(true, true) == 0.0
    # e^(13/13) - 1 where 13 cycles too short, e^(10/10) - 1 where 10 too long.
    assert phm08(true - 13, true) == pytest.approx(np.e - 1)
    assert phm08(true + 10, true) == pytest.approx(np.e - 1)
    both = phm08(np.array([37.0, 60.0]), np.array([50.0, 50.0]))
    assert both == pytest.approx(2 * (np.e - 1))
    assert phm08(true + 20, true) > phm08(true - 20, true)


def test_lives_are_compared_up_to_125_cycles() -> None:
    assert capped(np.array([7, 125, 145])).tolist() == [7, 125, 125]


def told(name: str, validation: float, *life: float) -> Told:
    candidate = Candidate(name, architecture(name), WindowSpec(rows=50), FitOptions())
    judged = Judged(candidate, validation * 60_000, 1.0)
    vehicles = tuple(f"CMAPSSFD00110000{n}" for n in range(1, len(life) + 1))
    return Told(judged, validation, 3, vehicles, np.array(life))


ENGINES = ("CMAPSSFD001100001", "CMAPSSFD001100002")


def result() -> Result:
    models = [
        told("life-ridge", 15.0, 100.0, 20.0),
        told("life-trees", 10.0, 90.0, 30.0),
        # Chosen by what training engines said, though the truth is kinder to the ridge.
        told("life-kernel", 9.0, 80.0, 50.0),
    ]
    about = {"training_engines": 2, "folds": 2, "messages": 10, "refined": 10}
    return result_of("FD001", models, ENGINES, np.array([145.0, 20.0]), 85.0, about)


def test_the_validation_engines_choose_the_champion_and_not_the_truth() -> None:
    document = result().document()

    assert document["champion"] == "life-kernel"
    assert document["rmse"] == pytest.approx(np.sqrt((45**2 + 30**2) / 2))
    assert document["phm08"] == pytest.approx(np.expm1(45 / 13) + np.expm1(30 / 10))
    assert document["baseline"] == "life-trees"
    assert document["baseline_rmse"] == pytest.approx(np.sqrt((35**2 + 10**2) / 2))
    assert [one["name"] for one in document["models"]] == [
        "life-kernel",
        "life-trees",
        "life-ridge",
        "mean life",
    ]
    assert document["configurations_tried"] == 3
    assert document["engines"][0] == {"vehicle": ENGINES[0], "true": 145, "told": 80.0}
    json.dumps(document)


def test_an_engine_of_which_nothing_is_told_is_an_error() -> None:
    models = [told("life-ridge", 15.0, 100.0, float("nan"))]

    with pytest.raises(MotorcadeError, match=r"life-ridge tells no remaining life of 1 .*100002"):
        result_of("FD001", models, ENGINES, np.array([1.0, 2.0]), 85.0, {})


def test_the_page_holds_every_model_and_needs_nothing_else(tmp_path: Path) -> None:
    page.write(result(), tmp_path / "page.html")

    text = (tmp_path / "page.html").read_text()
    assert all(name in text for name in ("life-kernel", "life-trees", "life-ridge", "mean life"))
    assert text.count('<div class="box">') == 2
    assert not re.search(r'(src|href)="', text[: text.index("<script>")])


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"models": ("autoencoder",)}, "autoencoder tells no remaining life"),
        ({"models": ()}, "names none"),
        ({"folds": 1}, "at least 2"),
        ({"engines": 4}, "too few"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_starts(
    changed: dict[str, object], problem: str
) -> None:
    with pytest.raises(SettingsError, match=problem):
        ReplayOptions(Path(), **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(("when", "stopped"), [("__init__", False), ("run", True)])
def test_ctrl_c_says_that_nothing_was_judged_and_stops_what_was_started(
    when: str, stopped: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    stops: list[Path] = []
    monkeypatch.setattr(CmapssReplay, "__init__", lambda *_: None)
    monkeypatch.setattr(CmapssReplay, when, interrupt)
    monkeypatch.setattr(bringup, "stop", lambda folder: stops.append(folder.path))
    monkeypatch.setattr(show, "fetch", lambda *_: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    state = tmp_path / "state"
    done = CliRunner().invoke(app, ["cmapss", f"--folder={tmp_path}", f"--state={state}"])
    assert done.exit_code == 130
    assert "Interrupted: nothing was judged." in done.output
    assert stops == ([state] if stopped else [])
