"""A benchmark from files to figures: real broker, bridge, Kafka, refine and registry."""

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from motorcade.fleet.catalogue import load_catalogue, shipped_catalogue
from motorcade.fleet.settings import ProcessSettings
from motorcade.ml.drift.reference import read_reference
from motorcade.ml.scoring.roster import listed
from motorcade.ml.store import ModelStore
from motorcade.stack import bringup, plan
from motorcade.stack.brokers.mosquitto import find
from motorcade.stack.demo.training import until_live
from motorcade.stack.options import StackOptions
from motorcade.stack.replay.options import ReplayOptions
from motorcade.stack.replay.run import PROCESSES, CmapssReplay
from motorcade.stack.state import StateFolder

from .servers import run_async

_TRAIN, _TEST = 14, 6
#: What a new engine measures, in the catalogue's order.
_USUAL = (
    "0 0 100 518.67 642 1590 1405 14.62 21.61 554 2388 9060 1.3 47.5 522 2388 8140 8.43 0.03 392 "
    "2388 100 38.9 23.35"
)


def write_engines(folder: Path) -> None:
    """Engines in C-MAPSS's form, that wear as its own do: slowly, then ever faster."""
    chance = np.random.default_rng(3)
    names = load_catalogue(shipped_catalogue("cmapss")).names
    usual = np.array(_USUAL.split(), dtype=np.float64)
    worn = np.zeros(len(names))
    for name, change in {
        "lpc_outlet_temp": 1.5,
        "lpt_outlet_temp": 25.0,
        "hpc_outlet_static_pressure": 0.8,
        "fuel_flow_ratio": -3.0,
        "bypass_ratio": 0.1,
    }.items():
        worn[names.index(name)] = change
    noise = 0.15 * np.abs(worn) + 1e-3
    left_of_test = []
    for part, engines in (("train", _TRAIN), ("test", _TEST)):
        lines = []
        for unit in range(1, engines + 1):
            life = int(chance.integers(160, 200))
            left = np.arange(life)[::-1]
            course = np.exp(-left / 40)[:, None] * worn + chance.normal(0, 0.3) * worn
            values = usual + course + noise * chance.normal(size=(life, len(names)))
            cut = int(chance.integers(20, 90)) if part == "test" else 0
            if part == "test":
                left_of_test.append(cut)
            lines += [
                f"{unit} {cycle} " + " ".join(f"{value:.4f}" for value in row) + "  "
                for cycle, row in enumerate(values[: life - cut], 1)
            ]
        (folder / f"{part}_FD001.txt").write_text("\n".join(lines) + "\n")
    (folder / "RUL_FD001.txt").write_text("\n".join(map(str, left_of_test)) + "\n")


@pytest.mark.skipif(find() is None, reason="mosquitto is not installed")
def test_engines_go_the_whole_way_and_who_told_their_lives_best_is_live(
    tmp_path: Path,
) -> None:
    write_engines(tmp_path)
    state = tmp_path / "state"
    stack = StackOptions(
        state=state,
        broker="mosquitto",
        signals=shipped_catalogue("cmapss"),
        processes=(*PROCESSES, "score"),
        tied=True,
    )
    options = ReplayOptions(
        tmp_path, models=("life-ridge", "life-trees", "life-ensemble"), folds=3, keep=True
    )
    folder = StateFolder(state)
    try:
        result = CmapssReplay(options, stack, Console(quiet=True)).run()
        running = folder.load()
        assert running is not None
        run_async(until_live(running.http["score"], 1))
        found = plan.environment(running, folder)
        settings = ProcessSettings.model_validate(
            {name.removeprefix("MOTORCADE_").lower(): value for name, value in found.items()}
        )
        stored = run_async(listed(settings))
        known = [
            read_reference(ModelStore.of(settings).root / one.announcement.path) for one in stored
        ]
    finally:
        bringup.stop(folder)

    assert {one.manifest.name for one in stored} == set(options.models)
    assert [one.manifest.name for one in stored if one.slot] == [result.champion.name]
    lines = len((tmp_path / "train_FD001.txt").read_text().splitlines())
    assert {one.messages for one in known} == {lines}
    document = json.loads(json.dumps(result.document()))
    written = [
        len((tmp_path / f"{part}_FD001.txt").read_text().splitlines()) for part in ("train", "test")
    ]
    assert document["messages"] == document["refined"] == sum(written)
    assert document["trouble_codes"] == document["training_engines"] == _TRAIN
    assert document["test_engines"] == len(document["engines"]) == _TEST
    assert document["dataset"].startswith("cmapss-fd001-")
    errors = {one["name"]: one for one in document["models"]}
    assert (
        document["champion"]
        == min(
            (one for one in errors.values() if one["validation_rmse"] is not None),
            key=lambda one: one["validation_rmse"],
        )["name"]
    )
    assert document["rmse"] == errors[document["champion"]]["rmse"]
    assert document["rmse"] < 15 < errors["mean life"]["rmse"]
