"""The scorer's process: its settings and what it waits for before it scores."""

import asyncio

from motorcade.fleet.avro import PREDICTIONS_SUBJECT, TELEMETRY_SUBJECT
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.predictions import PredictionAvro
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryAvro
from motorcade.ml.engine import tensorflow
from motorcade.ml.reading.columnar import registry_lookup
from motorcade.ml.scoring.live import LiveModel
from motorcade.ml.scoring.records import TelemetryRecords
from motorcade.ml.scoring.step import ScoreStep
from motorcade.ml.store import ModelStore
from motorcade.runtime.derive import derive
from motorcade.runtime.registry import schema_id
from motorcade.runtime.service import Service, run


class Settings(ProcessSettings):
    """Settings of the scorer."""

    #: Name of the model to follow on `models`.
    model: str = "autoencoder"


async def body(service: Service) -> None:
    """Score until told to stop."""
    settings = service.settings
    assert isinstance(settings, Settings)
    service.ready("model announcements", False)
    catalogue = load_catalogue(settings.signals)
    telemetry = TelemetryAvro(catalogue, await schema_id(settings, catalogue, TELEMETRY_SUBJECT))
    step = ScoreStep(
        TelemetryRecords(catalogue, telemetry, registry_lookup(settings)),
        PredictionAvro(catalogue, await schema_id(settings, catalogue, PREDICTIONS_SUBJECT)),
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
