"""Which models score: those that were announced last and can be trusted, once they are warm."""

import asyncio

import msgspec
from prometheus_client import Counter, Gauge

from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.messages import ModelAnnouncement, ModelSlot
from motorcade.ml.announce import follow
from motorcade.ml.models.catalogue import load_model
from motorcade.ml.scoring.slot import Slot
from motorcade.ml.scoring.step import ScoreStep
from motorcade.ml.scoring.warming import Past, warm
from motorcade.ml.store import ModelStore
from motorcade.runtime.service import Service

_LIVE = Gauge("motorcade_model_version", "Version of the live model; 0 while there is none")
_CHALLENGER = Gauge("motorcade_challenger_version", "Version of the challenger; 0 for none")
_REFUSED = Counter("motorcade_models_refused_total", "Announced models that were refused")
_VERSIONS = {ModelSlot.CHAMPION: _LIVE, ModelSlot.CHALLENGER: _CHALLENGER}


class LiveModels:
    """Keeps a step's models those that were announced last and can be trusted.

    A model of windows first takes in the past of every car, while the one before it goes on
    scoring. One that was compared as the challenger has done so already.

    Args:
        service: what it runs in.
        step: whose models it keeps.
        store: where models lie.
        catalogue: the fleet's signals.
        past: of the stream.
        silence_ms: see `Reach`.
    """

    def __init__(
        self,
        service: Service,
        step: ScoreStep,
        store: ModelStore,
        catalogue: Catalogue,
        past: Past,
        silence_ms: int,
    ) -> None:
        self._service = service
        self._step = step
        self._store = store
        self._catalogue = catalogue
        self._past = past
        self._silence_ms = silence_ms
        self._warming: dict[ModelSlot, asyncio.Task[None]] = {}

    async def keep(self, first: asyncio.Event) -> None:
        """Follow the announcements for ever.

        Args:
            first: set once what was announced before is live, or nothing was.
        """
        async for changes in follow(self._service.settings):
            for slot in ModelSlot:
                said = [change.announcement for change in changes if change.slot is slot]
                if said:
                    await self._change(slot, said)
            first.set()

    async def _change(self, slot: ModelSlot, said: list[ModelAnnouncement | None]) -> None:
        """Put the latest model that can be trusted into a slot; those before it are history."""
        for announcement in reversed(said):
            if announcement is None:
                self._clear(slot)
                return
            if await self._take(announcement):
                return
        last = said[-1]
        if slot is ModelSlot.CHAMPION and slot not in self._step.live and last is not None:
            await self._go_back(last)

    async def _go_back(self, refused: ModelAnnouncement) -> None:
        """Where nothing is live: what was live before the model that is refused."""
        before = refused.replaces
        while before is not None:
            announcement = ModelAnnouncement(
                before.name,
                before.version,
                before.path,
                before.manifest_sha256,
                announced=refused.announced,
                slot=refused.slot,
                replaces=before.replaces,
            )
            if await self._take(announcement):
                return
            before = before.replaces

    async def _take(self, announcement: ModelAnnouncement) -> bool:
        """Make a model live, or begin to; False where it cannot be trusted."""
        log = self._service.log.bind(
            model=announcement.name, version=announcement.version, slot=announcement.slot.value
        )
        step, slot, sha256 = self._step, announcement.slot, announcement.manifest_sha256
        rival = step.live.get(ModelSlot.CHALLENGER)
        if slot is ModelSlot.CHAMPION and rival is not None and rival.sha256 == sha256:
            self._clear(ModelSlot.CHALLENGER)
            self._go_live(slot, rival)
            return True
        if (standing := step.live.get(slot)) is not None and standing.sha256 == sha256:
            self._stop_warming(slot)
            return True
        try:
            loaded = await asyncio.to_thread(self._load, announcement)
        except MotorcadeError as error:
            _REFUSED.inc()
            log.error("model refused", problem=error.what, remedy=error.remedy)
            return False
        self._stop_warming(slot)
        if loaded.stateless or not step.positions:
            self._go_live(slot, loaded)
            return True
        log.info("model warms up", rows=loaded.manifest.window.rows)
        self._warming[slot] = self._service.spawn(self._warm(slot, loaded))
        return True

    def _load(self, announcement: ModelAnnouncement) -> Slot:
        manifest, weights = self._store.read(announcement)
        model = load_model(manifest, weights, self._catalogue)
        return Slot(model, announcement.manifest_sha256, self._catalogue, self._silence_ms)

    async def _warm(self, slot: ModelSlot, loaded: Slot) -> None:
        await warm(self._step, slot, loaded, self._past)
        self._warming.pop(slot, None)
        self._go_live(slot, loaded)

    def _go_live(self, slot: ModelSlot, loaded: Slot) -> None:
        self._step.live[slot] = loaded
        manifest = loaded.manifest
        _VERSIONS[slot].set(manifest.version)
        self._service.log.info(
            "model is live",
            model=manifest.name,
            version=manifest.version,
            slot=slot.value,
            threshold=round(manifest.threshold, 3),
            window=msgspec.to_builtins(manifest.window),
        )

    def _clear(self, slot: ModelSlot) -> None:
        self._stop_warming(slot)
        self._step.live.pop(slot, None)
        _VERSIONS[slot].set(0)

    def _stop_warming(self, slot: ModelSlot) -> None:
        task = self._warming.pop(slot, None)
        if task is not None:
            task.cancel()
        self._step.warming.pop(slot, None)
