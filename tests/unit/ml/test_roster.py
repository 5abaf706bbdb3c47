"""Promote, challenge and go back: what is announced, with a real store and a topic in memory."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.messages import ModelAnnouncement, ModelSlot
from motorcade.fleet.settings import ProcessSettings
from motorcade.ml.announce import reference
from motorcade.ml.errors import ModelRefusedError
from motorcade.ml.scoring import roster
from motorcade.ml.store import ModelStore
from motorcade.ml.windows import WindowSpec

from .test_score_windows import Sum

CHAMPION, CHALLENGER = ModelSlot.CHAMPION, ModelSlot.CHALLENGER


class Topic:
    """What stands on `models`, as announcing would leave it."""

    def __init__(self) -> None:
        self.live: dict[ModelSlot, ModelAnnouncement] = {}

    async def announce(
        self, _: object, announcement: ModelAnnouncement, *, first: bool = False
    ) -> ModelAnnouncement:
        standing = self.live.get(announcement.slot)
        if announcement.replaces is None and not first and standing is not None:
            announcement = msgspec.structs.replace(announcement, replaces=reference(standing))
        self.live[announcement.slot] = announcement
        return announcement

    async def empty(self, _: object, slot: ModelSlot) -> None:
        self.live.pop(slot, None)

    async def standing(self, _: object) -> dict[ModelSlot, ModelAnnouncement]:
        return self.live


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    found = Topic()
    monkeypatch.setattr(roster, "announce", found.announce)
    monkeypatch.setattr(roster, "empty", found.empty)
    monkeypatch.setattr(roster, "live", found.standing)
    monkeypatch.setattr(roster, "load_model", lambda *_: None)
    return found


@pytest.fixture
def settings(tmp_path: Path) -> ProcessSettings:
    found = ProcessSettings(data_dir=tmp_path)
    for version in (1, 2, 3):
        manifest = Sum(WindowSpec(), version).manifest
        ModelStore.of(found).write(manifest, {"w": np.ones(1, dtype=np.float32)}, 0)
    return found


def harm(settings: ProcessSettings, version: int) -> None:
    (ModelStore.of(settings).root / "sum" / str(version) / "weights.npz").write_bytes(b"")


async def test_going_back_once_more_goes_back_one_more(
    settings: ProcessSettings, topic: Topic
) -> None:
    for model in ("sum:1", "sum:2", "sum"):
        await roster.promote(settings, model)
    assert topic.live[CHAMPION].version == 3
    for expected in (2, 1):
        was, now = await roster.go_back(settings)
        assert (was.version, now.version) == (expected + 1, expected)
        assert topic.live[CHAMPION].version == expected
    with pytest.raises(MotorcadeError, match="Nothing was live before sum:1"):
        await roster.go_back(settings)


async def test_going_back_passes_over_what_no_scorer_would_take(
    settings: ProcessSettings, topic: Topic
) -> None:
    for model in ("sum:1", "sum:2", "sum:3"):
        await roster.promote(settings, model)
    harm(settings, 2)
    _, now = await roster.go_back(settings)
    assert now.version == 1


async def test_a_promoted_challenger_leaves_its_slot_and_the_champion_cannot_challenge(
    settings: ProcessSettings, topic: Topic
) -> None:
    await roster.promote(settings, "sum:1")
    await roster.challenge(settings, "sum:2")
    assert {slot: one.version for slot, one in topic.live.items()} == {CHAMPION: 1, CHALLENGER: 2}
    slots = {one.manifest.version: one.slot for one in await roster.listed(settings)}
    assert slots == {1: CHAMPION, 2: CHALLENGER, 3: None}
    await roster.promote(settings, "sum:2")
    assert {slot: one.version for slot, one in topic.live.items()} == {CHAMPION: 2}
    with pytest.raises(ModelRefusedError, match="sum:2 is the champion"):
        await roster.challenge(settings, "sum:2")


async def test_what_is_broken_or_is_not_there_is_not_announced(
    settings: ProcessSettings, topic: Topic
) -> None:
    harm(settings, 3)
    with pytest.raises(ModelRefusedError, match="not the announced file"):
        await roster.promote(settings, "sum")
    for model in ("nonesuch", "sum:9", "sum:x"):
        with pytest.raises(ModelRefusedError, match="no model"):
            await roster.promote(settings, model)
    with pytest.raises(MotorcadeError, match="No model is live"):
        await roster.go_back(settings)
    assert not topic.live
