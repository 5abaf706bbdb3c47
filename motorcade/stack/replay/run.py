"""The C-MAPSS benchmark, stage by stage, on a stack of its own or on the one that runs."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console

from motorcade.fleet.arrays import Ints
from motorcade.fleet.catalogue import Catalogue, load_catalogue, shipped_catalogue
from motorcade.fleet.errors import SettingsError
from motorcade.fleet.settings import ProcessSettings
from motorcade.ml.scoring.roster import promote
from motorcade.ml.training.checkpoints import Progress
from motorcade.ml.training.tracking import mark_champion
from motorcade.simulator.replay.cmapss import (
    Turbofans,
    held_vehicles,
    read_truth,
    read_turbofans,
)
from motorcade.simulator.settings import SimulatorSettings
from motorcade.stack import bringup, plan, stages
from motorcade.stack.options import StackOptions
from motorcade.stack.replay.delivery import Delivered, audit, dispatch
from motorcade.stack.replay.judge import CAP
from motorcade.stack.replay.learning import Learning, Told
from motorcade.stack.replay.options import STEP_MS, ReplayOptions
from motorcade.stack.replay.result import Figures, Result, result_of
from motorcade.stack.screen import Screen, Stage
from motorcade.stack.settings import StackSettings
from motorcade.stack.state import StackState, StateFolder

#: What lives have to pass on their way to `telemetry`; the rest of the stack is not needed.
PROCESSES = ("bridge", "refine")
CATALOGUE = "cmapss"


@dataclass
class CmapssReplay:
    """One run of the benchmark.

    Args:
        options: what is asked.
        stack: how a stack is started where none runs.
        console: where it is shown.
    """

    options: ReplayOptions
    stack: StackOptions
    console: Console
    _screen: Screen = field(init=False)
    _folder: StateFolder = field(init=False)
    _catalogue: Catalogue = field(init=False)
    _fans: Turbofans = field(init=False)
    #: Engines of the whole test part.
    _tests: int = field(init=False)

    def __post_init__(self) -> None:
        """Read the files, so that what is wrong with them is said before anything starts.

        Raises:
            ReplayError: see `read_turbofans` and `read_truth`.
        """
        options = self.options
        self._screen = Screen(self.console)
        self._folder = StateFolder(self.stack.state)
        self._catalogue = load_catalogue(shipped_catalogue(CATALOGUE))
        whole = read_turbofans(options.folder, options.subset, self._catalogue)
        self._fans = _some(whole, options.engines)
        self._tests = len(whole.test)
        # Only that the truth can be read; what it says is asked when everything has been told.
        read_truth(options.folder, options.subset, self._tests)

    def run(self) -> Result:
        """Send, learn and judge; a stack that was started for it is left to the caller.

        On a stack that goes on afterwards the champion is live.

        Raises:
            MotorcadeError: it cannot be done; says why and what to do.
        """
        options, fans = self.options, self._fans
        running = self._folder.load()
        stays = options.keep or running is not None
        titles = [
            "find the stack that runs" if running else "start Kafka, registry, broker, bridge",
            f"send {len(fans.lives)} engines over MQTT",
            "audit every message in the topics",
            "record the data set",
            *(f"cross-validate {name}" for name in options.models),
            "fit all on every training engine, and judge on the official test engines",
            *(["make the champion live"] if stays else []),
        ]
        screen = self._screen
        screen.plan(*titles)
        began = time.monotonic()
        with screen:
            settings, delivered = asyncio.run(self._deliver(running))
            learning = Learning(
                settings,
                name=f"cmapss-{options.subset.lower()}",
                since_ms=delivered.sent.boot,
                test_vehicles=held_vehicles(options.subset),
                step_ms=STEP_MS,
                longest=max(map(len, fans.train)),
                cap=CAP,
                folds=options.folds,
                seed=options.seed,
            )
            told, dataset = self._learn(learning)
            true = read_truth(options.folder, options.subset, self._tests)[: len(fans.test)]
            result = self._result(delivered, told, dataset, true, time.monotonic() - began)
            if stays:
                with screen.stage(len(titles) - 1) as stage:
                    stage.detail = _go_live(settings, result.champion)
        return result

    def _result(
        self, delivered: Delivered, told: Sequence[Told], dataset: str, true: Ints, seconds: float
    ) -> Result:
        options, fans = self.options, self._fans
        cycles = np.concatenate([np.arange(len(life))[::-1] for life in fans.train])
        about: dict[str, Any] = {
            "dataset": dataset,
            "folds": options.folds,
            "seed": options.seed,
            "training_engines": len(fans.train),
            "test_engines": len(fans.test),
            "messages": delivered.sent.messages,
            "refined": delivered.refined,
            "trouble_codes": delivered.endings,
            "delivery_seconds": round(delivered.seconds, 1),
            "seconds": round(seconds, 1),
        }
        return result_of(
            options.subset,
            told,
            [life.vehicle for life in fans.test],
            true.astype(np.float64),
            float(np.minimum(cycles, CAP).mean()),
            about,
        )

    async def _deliver(self, running: StackState | None) -> tuple[ProcessSettings, Delivered]:
        screen, lives, catalogue = self._screen, self._fans.lives, self._catalogue
        with screen.stage(0) as stage:
            state = running
            if state is None:
                state = await bringup.start(self.stack, StackSettings(), stages.bars(stage))
            _require_catalogue(state, catalogue)
            stage.detail = stages.addresses(state)
        found = plan.environment(state, self._folder)
        values = {n.removeprefix("MOTORCADE_").lower(): v for n, v in found.items()}
        cars = SimulatorSettings.model_validate(values)
        with screen.stage(1) as stage:
            dispatched = await dispatch(lives, catalogue, cars, STEP_MS, stage)
        with screen.stage(2) as stage:
            delivered = await audit(lives, catalogue, cars, dispatched, stage)
        return ProcessSettings.model_validate(values), delivered

    def _learn(self, learning: Learning) -> tuple[list[Told], str]:
        screen = self._screen
        candidates = learning.candidates(self.options.models)
        with screen.stage(3) as stage:
            record = learning.record(_shown(stage))
            lives = learning.gather(record, candidates)
            stage.detail = (
                f"{record.name}: {record.records:,} records, {record.codes} trouble codes, up to "
                f"{max(map(len, lives.examples.values())):,} windows to learn from"
            )
        judged = []
        for position, candidate in enumerate(candidates):
            with screen.stage(4 + position) as stage:
                one = learning.judge(lives, candidate, _shown(stage))
                stage.detail = f"RMSE {one.error / learning.step_ms:.2f} cycles on engines unseen"
                judged.append(one)
        with screen.stage(4 + len(candidates)) as stage:
            told = learning.finish(lives, judged, record, _shown(stage))
            stage.detail = f"{len(told)} models stored in {learning.settings.data_dir / 'models'}"
        return told, record.name


def _go_live(settings: ProcessSettings, champion: Figures) -> str:
    """Announce the champion to the stack's scorers; returns what there is to say of it."""
    assert champion.version is not None  # Only the mean life is no model, and it is the last.
    announced = asyncio.run(promote(settings, f"{champion.name}:{champion.version}"))
    live = f"{announced.name}:{announced.version} is live"
    problem = mark_champion(settings, announced.name, announced.version)
    return f"{live}. {problem}" if problem else live


def _shown(stage: Stage) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        stage.total, stage.done = progress.total, progress.done
        stage.detail = f"{progress.phase} {progress.detail}".strip()

    return show


def _some(fans: Turbofans, engines: int | None) -> Turbofans:
    if engines is None:
        return fans
    return Turbofans(fans.subset, fans.train[:engines], fans.test[:engines])


def _require_catalogue(state: StackState, catalogue: Catalogue) -> None:
    if load_catalogue(state.signals) != catalogue:
        raise SettingsError(
            "The stack that runs knows other signals: refine would quarantine every message.",
            "Give another --state, so that one is started for the turbofans; or stop it: "
            "motorcade down.",
        )
