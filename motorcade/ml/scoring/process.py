"""The scorer's process: its settings and what it waits for before it scores."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from pydantic import Field

from motorcade.fleet.avro import PREDICTIONS_SUBJECT, TELEMETRY_SUBJECT
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.predictions import PredictionAvro
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryAvro
from motorcade.fleet.topics import TELEMETRY
from motorcade.ml.engine import tensorflow
from motorcade.ml.reading.columnar import registry_lookup
from motorcade.ml.scoring.live import LiveModels
from motorcade.ml.scoring.records import TelemetryRecords
from motorcade.ml.scoring.step import ScoreStep
from motorcade.ml.scoring.warming import Past
from motorcade.ml.store import ModelStore
from motorcade.runtime.derive import derive
from motorcade.runtime.kafka import Record, TopicPartition, read_all
from motorcade.runtime.registry import schema_id
from motorcade.runtime.service import Service, run


class Settings(ProcessSettings):
    """Settings of the scorer."""

    #: Longest wait for more messages, milliseconds: it bounds what scoring adds to a message's
    #: latency. A longer one costs less CPU a message.
    score_linger_ms: Annotated[float, Field(gt=0, le=1000)] = 40.0
    #: Records of a partition that a new model of windows takes in before it goes live.
    score_warm_records: Annotated[int, Field(ge=0)] = 200_000
    #: A car silent for this long, by Kafka's clock, begins a new window: it bounds what is read
    #: again after a restart.
    score_silence_s: Annotated[float, Field(gt=0)] = 600.0


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
        settings.score_warm_records,
    )

    async def read(starts: dict[TopicPartition, int]) -> AsyncIterator[list[Record]]:
        partitions = [tp.partition for tp in starts]
        if partitions:
            async for records in read_all(
                settings, [TELEMETRY], partitions=partitions, starts=starts
            ):
                yield records

    first = asyncio.Event()
    keeper = LiveModels(
        service,
        step,
        ModelStore.of(settings),
        catalogue,
        Past(read, settings.score_warm_records),
        round(settings.score_silence_s * 1000),
    )
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
    if not step.live:
        service.spawn(asyncio.to_thread(_warm))
    linger_s = settings.score_linger_ms / 1000
    await derive(service, step, linger_s=linger_s, most_linger_s=linger_s)


def _warm() -> None:
    tensorflow()


def main(settings: Settings) -> None:
    """Run the process until SIGTERM."""
    run("score", settings, body)
