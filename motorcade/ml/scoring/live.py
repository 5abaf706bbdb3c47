"""Which model scores: the one that was announced last and can be trusted."""

import asyncio

from prometheus_client import Counter, Gauge

from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.messages import ModelAnnouncement
from motorcade.ml.announce import follow
from motorcade.ml.autoencoder import Autoencoder
from motorcade.ml.scoring.step import ScoreStep
from motorcade.ml.store import ModelStore
from motorcade.runtime.service import Service

_LIVE = Gauge("motorcade_model_version", "Version of the live model; 0 while there is none")
_REFUSED = Counter("motorcade_models_refused_total", "Announced models that were refused")


class LiveModel:
    """Keeps a step's model the one that was announced last and can be trusted."""

    def __init__(self, service: Service, step: ScoreStep, store: ModelStore, name: str) -> None:
        self._service = service
        self._step = step
        self._store = store
        self._name = name
        self._catalogue = load_catalogue(service.settings.signals)

    async def keep(self, first: asyncio.Event) -> None:
        """Follow the announcements for ever.

        Args:
            first: set once what was announced before is live, or nothing was.
        """
        async for announcements in follow(self._service.settings, self._name):
            # The latest that can be trusted; those before it are history.
            for announcement in reversed(announcements):
                if await self._take(announcement):
                    break
            first.set()

    async def _take(self, announcement: ModelAnnouncement) -> bool:
        log = self._service.log.bind(model=announcement.name, version=announcement.version)
        try:
            model = await asyncio.to_thread(self._load, announcement)
        except MotorcadeError as error:
            _REFUSED.inc()
            log.error("model refused", problem=error.what, remedy=error.remedy)
            return False
        self._step.live = model
        _LIVE.set(announcement.version)
        log.info("model is live", threshold=round(model.manifest.threshold, 3))
        return True

    def _load(self, announcement: ModelAnnouncement) -> Autoencoder:
        manifest, weights = self._store.read(announcement)
        return Autoencoder(manifest, weights, self._catalogue)
