"""The scorer: one prediction for each telemetry record, scored or with the reason why not."""

import asyncio
from collections import Counter as Tally
from itertools import groupby
from typing import NamedTuple

import numpy as np
from prometheus_client import Counter, Gauge

from motorcade.fleet.arrays import Floats, Ints
from motorcade.fleet.avro import PREDICTIONS_SUBJECT, TELEMETRY_SUBJECT
from motorcade.fleet.catalogue import Catalogue, load_catalogue
from motorcade.fleet.columns import HEADER, schema_id_of
from motorcade.fleet.errors import DecodeError, MotorcadeError, UnreachableError
from motorcade.fleet.messages import ModelAnnouncement
from motorcade.fleet.predictions import Contributions, PredictionAvro, PredictionColumns
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns
from motorcade.fleet.topics import PREDICTIONS, TELEMETRY
from motorcade.fleet.vin import LENGTH
from motorcade.ml.announce import follow
from motorcade.ml.autoencoder import Autoencoder
from motorcade.ml.engine import tensorflow
from motorcade.ml.source import SchemaLookup, registry_lookup
from motorcade.ml.store import ModelStore
from motorcade.runtime.derive import Output, derive
from motorcade.runtime.kafka import Record
from motorcade.runtime.registry import schema_id
from motorcade.runtime.service import Service, run

NO_MODEL = "no model is live yet"

_PREDICTIONS = Counter("motorcade_predictions_total", "Predictions by outcome", ["outcome"])
_ANOMALOUS = Counter("motorcade_anomalous_total", "Messages scored above the threshold")
_LIVE = Gauge("motorcade_model_version", "Version of the live model; 0 while there is none")
_REFUSED = Counter("motorcade_models_refused_total", "Announced models that were refused")


class Settings(ProcessSettings):
    """Settings of the scorer."""

    #: Name of the model to follow on `models`.
    model: str = "autoencoder"


class _Parts(NamedTuple):
    """What a batch's predictions consist of; rows in the order of its records."""

    score: Floats
    coverage: Floats
    outcomes: list[str]
    reasons: list[str]
    contributions: Contributions


class ScoreStep:
    """Derives `predictions` from `telemetry`.

    `live` may be replaced between batches; a batch is scored by one model throughout.
    """

    name = "score"
    group = "score"
    source = TELEMETRY
    outputs: tuple[str, ...] = (PREDICTIONS,)
    history = 0

    def __init__(
        self,
        catalogue: Catalogue,
        telemetry: TelemetryAvro,
        predictions: PredictionAvro,
        lookup: SchemaLookup,
        model: str,
    ) -> None:
        """Nothing is live at first.

        Args:
            catalogue: the fleet's signals.
            telemetry, predictions: codecs of source and output.
            lookup: schema of a writer that is not known yet; called at most once an id.
            model: name that predictions carry.
        """
        self._catalogue = catalogue
        self._telemetry = telemetry
        self._predictions = predictions
        self._lookup = lookup
        self._model = model
        self.live: Autoencoder | None = None
        #: Schema ids that are none of ours or of the registry's, and why.
        self._strange: dict[int, str] = {}

    async def assigned(self, partition: int) -> None:
        """Nothing to build: a score depends on its record alone."""

    def revoked(self, partition: int) -> None:
        """Nothing to forget."""

    def process(self, records: list[Record]) -> list[Output]:
        """One prediction for each record."""
        live = self.live
        columns, broken = self._decode(records)
        parts = _not_live(len(records)) if live is None else _scored(live, columns)
        for row, reason in broken.items():
            parts.score[row] = np.nan
            parts.coverage[row] = 0.0
            parts.outcomes[row], parts.reasons[row] = "undecodable", reason
            parts.contributions.present[row] = False
        threshold = np.nan if live is None else live.manifest.threshold
        for outcome, count in Tally(parts.outcomes).items():
            _PREDICTIONS.labels(outcome).inc(count)
        _ANOMALOUS.inc(int((parts.score > threshold).sum()))
        predictions = PredictionColumns(
            vin=columns.vin,
            score=parts.score,
            threshold=np.full(len(records), threshold),
            coverage=parts.coverage,
            boot=columns.boot,
            seq=columns.seq,
            time=columns.time,
            due=columns.due,
            partition=np.fromiter((r.partition for r in records), np.int64, len(records)),
            offset=np.fromiter((r.offset for r in records), np.int64, len(records)),
            version=np.full(len(records), 0 if live is None else live.manifest.version),
        )
        values = self._predictions.encode(
            predictions, self._model, parts.reasons, parts.contributions
        )
        return [
            Output(PREDICTIONS, record.partition, record.key or b"", value, record.offset)
            for record, value in zip(records, values, strict=True)
        ]

    def _decode(self, records: list[Record]) -> tuple[TelemetryColumns, dict[int, str]]:
        """Columns of all records, and why some rows hold nothing but their key."""
        payloads = [record.value or b"" for record in records]
        try:
            return self._decode_all(payloads), {}
        except DecodeError:
            pass
        # Somebody else wrote to the topic: find which records, so that the others are scored.
        rows: list[TelemetryColumns] = []
        broken: dict[int, str] = {}
        for row, (record, payload) in enumerate(zip(records, payloads, strict=True)):
            try:
                rows.append(self._decode_all([payload]))
            except DecodeError as error:
                rows.append(_unknown(record, len(self._catalogue.names)))
                broken[row] = f"the record is not telemetry: {error.what}"
        return TelemetryColumns.joined(rows), broken

    def _decode_all(self, payloads: list[bytes]) -> TelemetryColumns:
        if len({payload[:HEADER] for payload in payloads}) == 1:
            runs = [(schema_id_of(payloads[0]), payloads)]
        else:
            runs = [(number, list(run)) for number, run in groupby(payloads, key=schema_id_of)]
        for number, _ in runs:
            self._learn(number)
        return TelemetryColumns.joined(
            [self._telemetry.decode(run, number) for number, run in runs]
        )

    def _learn(self, number: int) -> None:
        if self._telemetry.knows(number):
            return
        if number not in self._strange:
            try:
                self._telemetry.learn(number, self._lookup(number))
                return
            except UnreachableError:
                raise
            except MotorcadeError as error:
                self._strange[number] = error.what
        raise DecodeError(self._strange[number])


def _not_live(n: int) -> _Parts:
    return _Parts(
        np.full(n, np.nan), np.zeros(n), ["no_model"] * n, [NO_MODEL] * n, Contributions.none(n)
    )


def _scored(live: Autoencoder, columns: TelemetryColumns) -> _Parts:
    scores = live.score(columns.values)
    manifest = live.manifest
    low = np.isnan(scores.score)
    names = tuple(manifest.features)
    contributions = Contributions(names, scores.top.astype(np.int64), scores.share, ~low)
    outcomes = ["scored"] * len(columns)
    reasons = [""] * len(columns)
    for row in np.flatnonzero(low).tolist():
        outcomes[row] = "low_coverage"
        reasons[row] = (
            f"coverage {scores.coverage[row]:.2f} is below the model's minimum "
            f"{manifest.minimum_coverage:.2f}"
        )
    return _Parts(scores.score, scores.coverage, outcomes, reasons, contributions)


def _unknown(record: Record, signals: int) -> TelemetryColumns:
    """A row for a record that cannot be read: its key, no signal, no identity."""
    vin = np.array([(record.key or b"")[:LENGTH].ljust(LENGTH, b"?")], dtype=f"S{LENGTH}")
    zero: Ints = np.zeros(1, dtype=np.int64)
    return TelemetryColumns(vin, np.full((1, signals), np.nan), zero, zero, zero, zero)


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


async def body(service: Service) -> None:
    """Score until told to stop."""
    settings = service.settings
    assert isinstance(settings, Settings)
    service.ready("model announcements", False)
    catalogue = load_catalogue(settings.signals)
    step = ScoreStep(
        catalogue,
        TelemetryAvro(catalogue, await schema_id(settings, catalogue, TELEMETRY_SUBJECT)),
        PredictionAvro(catalogue, await schema_id(settings, catalogue, PREDICTIONS_SUBJECT)),
        registry_lookup(settings),
        settings.model,
    )
    first = asyncio.Event()
    keeper = LiveModel(service, step, ModelStore.of(settings), settings.model)
    service.spawn(keeper.keep(first))
    # Where a model was live before, scoring waits for it: a restart must not publish "no model".
    # Where none was, scoring begins at once and TensorFlow is imported beside it.
    stopping = asyncio.create_task(service.stopping.wait())
    await asyncio.wait(
        [asyncio.create_task(first.wait()), stopping], return_when=asyncio.FIRST_COMPLETED
    )
    if service.stopping.is_set():
        return
    service.ready("model announcements", True)
    service.spawn(asyncio.to_thread(_warm))
    await derive(service, step)


def _warm() -> None:
    tensorflow()


def main(settings: Settings) -> None:
    """Run the process until SIGTERM."""
    run("score", settings, body)
