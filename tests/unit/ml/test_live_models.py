"""Which model scores: what was announced last and can be trusted; the old one stays otherwise."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.messages import ModelAnnouncement, ModelSlot
from motorcade.fleet.predictions import PredictionColumns
from motorcade.ml.announce import Change, reference
from motorcade.ml.errors import ModelRefusedError
from motorcade.ml.models.catalogue import load_model
from motorcade.ml.scoring import live as live_module
from motorcade.ml.scoring.comparison import compare
from motorcade.ml.scoring.live import LiveModels
from motorcade.ml.scoring.step import ScoreStep
from motorcade.ml.scoring.warming import Past
from motorcade.ml.store import Manifest, ModelStore, Weights
from motorcade.ml.windows import WindowSpec
from motorcade.runtime.kafka import TopicPartition

from .telemetry import CATALOGUE
from .test_score_windows import SILENCE_MS, Sum, steady, step_with

CHAMPION, CHALLENGER = ModelSlot.CHAMPION, ModelSlot.CHALLENGER


class Bench:
    """A step whose models follow what is said, in a store on disk."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = ModelStore(folder)
        self.step: ScoreStep = step_with()
        self.said: list[list[Change]] = []
        self.log: list[str] = []
        monkeypatch.setattr(live_module, "follow", self._follow)
        monkeypatch.setattr(live_module, "load_model", _load)

    def stored(self, version: int, rows: int = 1, slot: ModelSlot = CHAMPION) -> ModelAnnouncement:
        manifest = Sum(WindowSpec(rows=rows), version).manifest
        one = self.store.write(manifest, {"w": np.ones(2, dtype=np.float32)}, version)
        return msgspec.structs.replace(one, slot=slot)

    async def _follow(self, _: object) -> AsyncIterator[list[Change]]:
        for changes in self.said:
            yield changes

    def hear(self, *said: list[ModelAnnouncement | None], slot: ModelSlot = CHAMPION) -> None:
        """Lists of announcements, as they would come."""
        self.said = [
            [Change(slot if one is None else one.slot, one) for one in batch] for batch in said
        ]
        asyncio.run(self._run())

    async def _run(self) -> None:
        tasks: list[asyncio.Task[None]] = []

        def spawn(work: Any) -> asyncio.Task[None]:
            tasks.append(asyncio.create_task(work))
            return tasks[-1]

        silent = SimpleNamespace(
            info=lambda event, **_: self.log.append(event),
            error=lambda event, **more: self.log.append(f"{event}: {more['problem']}"),
        )
        silent.bind = lambda **_: silent
        service: Any = SimpleNamespace(settings=None, log=silent, spawn=spawn)
        past = Past(self._read, 1000)
        keeper = LiveModels(service, self.step, self.store, CATALOGUE, past, SILENCE_MS)
        first = asyncio.Event()
        await keeper.keep(first)
        assert first.is_set()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, starts: dict[TopicPartition, int]) -> AsyncIterator[list[Any]]:
        for tp in starts:
            yield [r for r in steady(20) if r.partition == tp.partition]

    def version(self, slot: ModelSlot = CHAMPION) -> int | None:
        found = self.step.live.get(slot)
        return None if found is None else found.manifest.version


def _load(manifest: Manifest, weights: Weights, catalogue: Catalogue) -> Sum:
    if manifest.architecture != "sum":
        return load_model(manifest, weights, catalogue)  # type: ignore[return-value]
    return Sum(manifest.window, manifest.version)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def truncated(folder: Path) -> None:
    path = folder / "weights.npz"
    path.write_bytes(path.read_bytes()[:-10])


def gone(folder: Path) -> None:
    (folder / "weights.npz").unlink()


def rewritten(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"threshold": 1.0', '"threshold": 9.0'))


@pytest.mark.parametrize("harm", [truncated, gone, rewritten])
def test_a_model_that_is_not_what_was_announced_is_refused_and_the_old_one_stays(
    bench: Bench, harm: Callable[[Path], None]
) -> None:
    good, bad = bench.stored(1), bench.stored(2)
    harm(bench.store.root / bad.path)
    bench.hear([good], [bad])
    assert bench.version() == 1
    assert "model refused" in bench.log[-1]


def _unknown_architecture(manifest: Manifest) -> Manifest:
    return msgspec.structs.replace(manifest, architecture="transformer")


def _other_features(manifest: Manifest) -> Manifest:
    names = ["warp_core_temp", *manifest.features[1:]]
    return msgspec.structs.replace(manifest, architecture="pca", features=names)


def _weights_of_another(manifest: Manifest) -> Manifest:
    return msgspec.structs.replace(manifest, architecture="pca")


@pytest.mark.parametrize("change", [_unknown_architecture, _other_features, _weights_of_another])
def test_a_model_that_does_not_fit_this_code_or_this_fleet_is_refused(
    bench: Bench, change: Callable[[Manifest], Manifest]
) -> None:
    good = bench.stored(1)
    manifest = change(Sum(WindowSpec(), 2).manifest)
    bad = bench.store.write(manifest, {"w": np.ones(2, dtype=np.float32)}, 2)
    bench.hear([good], [bad])
    assert bench.version() == 1
    assert "model refused" in bench.log[-1]


def test_weights_that_are_no_numbers_are_refused(bench: Bench) -> None:
    manifest = Sum(WindowSpec(), 2).manifest
    bad = bench.store.write(manifest, {"w": np.array([np.nan], dtype=np.float32)}, 2)
    with pytest.raises(ModelRefusedError, match="finite"):
        bench.store.read(bad)
    bench.hear([bench.stored(1)], [bad])
    assert bench.version() == 1


def test_at_a_restart_the_latest_that_can_be_trusted_is_live(bench: Bench) -> None:
    said: list[ModelAnnouncement | None] = [bench.stored(n) for n in (1, 2, 3)]
    truncated(bench.store.root / "sum" / "3")
    bench.hear(said)
    assert bench.version() == 2


def test_where_compaction_left_only_a_bad_one_what_it_replaced_is_live(bench: Bench) -> None:
    first, second, third = (bench.stored(n) for n in (1, 2, 3))
    second = msgspec.structs.replace(second, replaces=reference(first))
    third = msgspec.structs.replace(third, replaces=reference(second))
    for folder in ("2", "3"):
        truncated(bench.store.root / "sum" / folder)
    bench.hear([third])
    assert bench.version() == 1


def test_the_slots_are_apart_and_a_challenger_can_be_taken_away(bench: Bench) -> None:
    bench.hear([bench.stored(1), bench.stored(2, slot=CHALLENGER)])
    assert (bench.version(), bench.version(CHALLENGER)) == (1, 2)
    bench.hear([None], slot=CHALLENGER)
    assert (bench.version(), bench.version(CHALLENGER)) == (1, None)


def test_a_challenger_that_is_promoted_keeps_the_windows_that_it_has(bench: Bench) -> None:
    champion, challenger = bench.stored(1), bench.stored(2, rows=4, slot=CHALLENGER)
    bench.hear([champion, challenger])
    bench.step.process(steady(10))
    windows = bench.step.live[CHALLENGER]
    bench.hear([msgspec.structs.replace(challenger, slot=CHAMPION)])
    assert bench.step.live == {CHAMPION: windows}
    assert "model warms up" not in bench.log


def test_a_model_of_windows_warms_up_before_it_goes_live(bench: Bench) -> None:
    bench.hear([bench.stored(1)])
    bench.step.process(steady(20))
    bench.hear([bench.stored(2, rows=4)])
    assert bench.version() == 2
    assert bench.log[-2:] == ["model warms up", "model is live"]
    assert bench.step.since()[0] == 20 - 4
    assert not bench.step.warming


def predictions(champion: list[float], challenger: list[float]) -> PredictionColumns:
    n = len(champion)
    numbers = (np.ones(n, dtype=np.int64),) * 7
    return PredictionColumns(
        np.array([b"CAR%014d" % (row % 4) for row in range(n)], dtype="S17"),
        np.array(champion),
        np.ones(n),
        np.ones(n),
        *numbers,
        challenger_score=np.array(challenger),
        challenger_threshold=np.full(n, 10.0),
    )


def test_champion_and_challenger_are_compared_on_what_both_scored() -> None:
    nan = np.nan
    found = compare(predictions([0.5, 2.0, 2.0, 0.1, nan, 0.2], [5.0, 20.0, 7.0, 11.0, 99.0, nan]))
    assert (found.messages, found.vehicles, found.not_scored) == (4, 4, 2)
    assert (found.champion.anomalous, found.challenger.anomalous) == (0.5, 0.5)
    assert (found.agreement, found.kappa) == (0.5, 0.0)
    assert found.only_champion == ["CAR00000000000002"]
    assert found.only_challenger == ["CAR00000000000003"]
    assert found.champion.threshold == 1.0


def test_models_that_say_the_same_in_other_units_agree_in_full() -> None:
    scores = np.random.default_rng(0).normal(1, 0.5, size=400)
    found = compare(predictions(scores.tolist(), (10 * scores).tolist()))
    assert (found.agreement, found.kappa) == (1.0, 1.0)
    assert found.rank_correlation == pytest.approx(1.0)


def test_what_no_two_models_scored_cannot_be_compared() -> None:
    with pytest.raises(MotorcadeError, match="no message together"):
        compare(predictions([np.nan, 1.0], [1.0, np.nan]))
