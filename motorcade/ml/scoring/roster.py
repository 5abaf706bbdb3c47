"""Which models there are, which are live, and changing that: promote, challenge, go back."""

import time
from typing import NamedTuple

import msgspec

from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.messages import ModelAnnouncement, ModelSlot
from motorcade.fleet.settings import ProcessSettings
from motorcade.ml.announce import announce, empty, live
from motorcade.ml.errors import ModelRefusedError
from motorcade.ml.models.catalogue import load_model
from motorcade.ml.store import Manifest, ModelStore


class Listed(NamedTuple):
    """A stored version, and the slot that it is live in, if any."""

    manifest: Manifest
    announcement: ModelAnnouncement
    slot: ModelSlot | None


async def listed(settings: ProcessSettings) -> list[Listed]:
    """Every stored version that can be read, by name and version."""
    store = ModelStore.of(settings)
    slots = {(one.path, one.manifest_sha256): slot for slot, one in (await live(settings)).items()}
    found: list[Listed] = []
    for name in store.names():
        for version in range(1, store.next_version(name)):
            try:
                announcement = store.announcement(name, version, 0)
                manifest, _ = store.read(announcement)
            except ModelRefusedError:
                continue
            place = announcement.path, announcement.manifest_sha256
            found.append(Listed(manifest, announcement, slots.get(place)))
    return found


def find(settings: ProcessSettings, model: str) -> tuple[Manifest, ModelAnnouncement]:
    """A stored version by NAME:VERSION, or the newest by NAME; read and verified.

    Raises:
        ModelRefusedError: there is none, or its files are not what they were.
    """
    store = ModelStore.of(settings)
    name, _, number = model.partition(":")
    version = store.next_version(name) - 1 if not number else int(number) if number.isdigit() else 0
    if version < 1:
        known = ", ".join(store.names())
        raise ModelRefusedError(
            f"There is no model {model!r} in {store.root}.",
            f"There are: {known}." if known else "Train one: motorcade train autoencoder.",
        )
    announcement = store.announcement(name, version, _now_ms())
    return store.read(announcement)[0], announcement


async def promote(settings: ProcessSettings, model: str) -> ModelAnnouncement:
    """Make a stored version the champion; where it was the challenger, it no longer is.

    Raises:
        ModelRefusedError: there is none, or a scorer would refuse it.
        UnreachableError: Kafka does not answer.
    """
    announcement = _trusted(settings, model)
    rival = (await live(settings)).get(ModelSlot.CHALLENGER)
    written = await announce(settings, announcement)
    if rival is not None and rival.manifest_sha256 == announcement.manifest_sha256:
        await empty(settings, ModelSlot.CHALLENGER)
    return written


async def challenge(settings: ProcessSettings, model: str) -> ModelAnnouncement:
    """Let a stored version score beside the champion.

    Raises:
        ModelRefusedError: there is none, or a scorer would refuse it, or it is the champion.
        UnreachableError: Kafka does not answer.
    """
    announcement = _trusted(settings, model)
    champion = (await live(settings)).get(ModelSlot.CHAMPION)
    if champion is not None and champion.manifest_sha256 == announcement.manifest_sha256:
        raise ModelRefusedError(
            f"{announcement.name}:{announcement.version} is the champion.",
            "A challenger is another model: motorcade models list.",
        )
    return await announce(
        settings, msgspec.structs.replace(announcement, slot=ModelSlot.CHALLENGER)
    )


async def go_back(settings: ProcessSettings) -> tuple[ModelAnnouncement, ModelAnnouncement]:
    """Make what was champion before the champion again; returns (what was live, what is now).

    Once more goes back one more.

    Raises:
        MotorcadeError: there is no champion, or nothing was before it.
        UnreachableError: Kafka does not answer.
    """
    champion = (await live(settings)).get(ModelSlot.CHAMPION)
    if champion is None:
        raise MotorcadeError("No model is live.", "Train one: motorcade train autoencoder.")
    before = champion.replaces
    while before is not None:
        announcement = ModelAnnouncement(
            before.name,
            before.version,
            before.path,
            before.manifest_sha256,
            announced=_now_ms(),
            replaces=before.replaces,
        )
        try:
            _load(settings, announcement)
        except ModelRefusedError:  # no scorer had it live either
            before = before.replaces
            continue
        return champion, await announce(settings, announcement, first=before.replaces is None)
    raise MotorcadeError(
        f"Nothing was live before {champion.name}:{champion.version}.",
        "motorcade models promote NAME:VERSION makes another one live.",
    )


def _trusted(settings: ProcessSettings, model: str) -> ModelAnnouncement:
    _, announcement = find(settings, model)
    _load(settings, announcement)
    return announcement


def _load(settings: ProcessSettings, announcement: ModelAnnouncement) -> None:
    """What a scorer does before it trusts a model, so that a bad one is refused here already."""
    manifest, weights = ModelStore.of(settings).read(announcement)
    load_model(manifest, weights, load_catalogue(settings.signals))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
