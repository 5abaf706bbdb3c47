"""The alerts process raises every alert exactly once, wherever SIGKILL strikes."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from motorcade.fleet import topics
from motorcade.fleet.alert_rules import Rule
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.messages import Alert, AlertAction, decode
from motorcade.fleet.predictions import PredictionAvro, PredictionColumns
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.source import source_header
from motorcade.fleet.topics import partition_of
from motorcade.fleet.vin import generate_vin
from motorcade.runtime.kafka import Record, producer, started
from motorcade.runtime.registry import schema_id
from motorcade.streaming.alerts import AlertStep
from motorcade.streaming.malformed import Malformed
from tests.contributions import contributions

from .groups import until_group_has_read
from .pipeline import Process, Watermark, environment, until

CARS = 30
#: Score of each message against a threshold of 1: calm, anomalous, strongly anomalous, not scored.
SCORES = (0.5, 2.0, 9.0, float("nan"))


class Scorer:
    """Writes predictions as the scorer does: one a message, with its source, in order."""

    def __init__(self, settings: ProcessSettings, codec: PredictionAvro, seed: int) -> None:
        self._settings = settings
        self._codec = codec
        self._random = random.Random(seed)
        self.vins = [generate_vin(seed, index).encode() for index in range(CARS)]
        #: Cars in trouble, whose scores are mostly anomalous.
        self._troubled: set[bytes] = set()
        #: Offsets of messages in `telemetry`: above those of every earlier test.
        self._offset = time.time_ns() // 1000
        self._seq = 0

    async def write(self, rounds: int, pace_s: float = 0.01) -> None:
        """A message of every car in each round."""
        async with started(producer(self._settings), self._settings) as client:
            for _ in range(rounds):
                self._seq += 1
                self._troubled ^= {self._random.choice(self.vins)}
                for vin, value in zip(self.vins, self._round(), strict=True):
                    partition = partition_of(vin)
                    headers = [source_header(partition, self._offset)]
                    await client.send(
                        topics.PREDICTIONS, value, key=vin, partition=partition, headers=headers
                    )
                    self._offset += 1
                await asyncio.sleep(pace_s)
            await client.flush()

    def _round(self) -> list[bytes]:
        weights = {True: (1, 6, 2, 1), False: (20, 1, 0, 1)}
        score = [
            self._random.choices(SCORES, weights[vin in self._troubled])[0] for vin in self.vins
        ]
        ones = np.ones(CARS, dtype=np.int64)
        columns = PredictionColumns(
            np.array(self.vins, dtype="S17"),
            np.array(score),
            np.ones(CARS),
            np.ones(CARS),
            boot=ones,
            seq=ones * self._seq,
            time=ones * self._seq,
            due=ones * self._seq,
            partition=np.array([partition_of(vin) for vin in self.vins]),
            offset=self._offset + np.arange(CARS),
            version=ones,
        )
        reasons = ["" if np.isfinite(value) else "no model is live yet" for value in score]
        shares = contributions(CARS, [("coolant_temp", 0.8), ("speed", 0.1)])
        return self._codec.encode(columns, "autoencoder", reasons, shares)


@pytest.fixture
def settings(kafka_topics: str, registry_schemas: str) -> ProcessSettings:
    return ProcessSettings(kafka=kafka_topics, registry_url=registry_schemas)


@pytest.fixture
async def codec(settings: ProcessSettings) -> PredictionAvro:
    catalogue = load_catalogue()
    return PredictionAvro(catalogue, await schema_id(settings, catalogue, "predictions-value"))


@pytest.fixture
def alerts(settings: ProcessSettings, tmp_path: Path) -> Iterator[Process]:
    process = Process(
        "alerts", environment(settings.kafka, ("127.0.0.1:1",), settings.registry_url), tmp_path
    )
    yield process
    if process.running:
        process.kill()


@pytest.fixture
async def mark(settings: ProcessSettings) -> Watermark:
    made = Watermark(settings.kafka)
    await made.take(topics.PREDICTIONS, topics.ALERTS, topics.ALERTS_STATE)
    return made


async def expected(
    codec: PredictionAvro, predicted: list[Record]
) -> dict[str, dict[bytes, list[bytes]]]:
    """What one process that is never killed makes of the predictions, by topic and car."""

    async def nothing(_: int) -> AsyncIterator[list[Record]]:
        return
        yield []

    class Silent:
        def warning(self, event: str, **fields: object) -> None:
            pytest.fail(f"{event}: {fields}")

    step = AlertStep(codec, Rule(), nothing, Malformed(Silent(), "alerts"))
    for partition in range(topics.PARTITIONS):
        await step.assigned(partition)
    found: dict[str, dict[bytes, list[bytes]]] = {topics.ALERTS: {}, topics.ALERTS_STATE: {}}
    for output in step.process(predicted):
        found[output.topic].setdefault(output.key, []).append(output.value)
    return found


async def audit(
    settings: ProcessSettings, codec: PredictionAvro, mark: Watermark, scorer: Scorer
) -> None:
    """Alerts and states are exactly those of a process that was never killed."""
    await until_group_has_read(settings, "alerts", topics.PREDICTIONS)
    mine = set(scorer.vins)
    wanted = await expected(
        codec, [record for record in await mark.since(topics.PREDICTIONS) if record.key in mine]
    )
    for topic, by_car in wanted.items():
        found: dict[bytes, list[bytes]] = {}
        for record in await mark.since(topic):
            if record.key in mine:
                found.setdefault(record.key, []).append(record.value)
        assert found == by_car
    alerts = [decode(Alert, value) for values in wanted[topics.ALERTS].values() for value in values]
    raised = Counter(alert.id for alert in alerts if alert.action is AlertAction.RAISED)
    assert len(raised) >= 5, "the story is worth telling"
    assert set(raised.values()) == {1}


@pytest.mark.parametrize(
    "failpoint",
    ["alerts.before-produce:3", "alerts.between-outputs:3", "alerts.after-produce:3"],
)
async def test_killed_around_a_produce_no_alert_comes_twice_or_is_forgotten(
    settings: ProcessSettings,
    codec: PredictionAvro,
    alerts: Process,
    mark: Watermark,
    failpoint: str,
) -> None:
    scorer = Scorer(settings, codec, seed=100 + len(failpoint))
    await alerts.started(failpoint)
    writing = asyncio.create_task(scorer.write(200))
    await until(lambda: not alerts.running, what="the failpoint's kill")
    assert alerts.popen is not None
    assert alerts.popen.returncode == -9
    await alerts.started()
    await writing
    await audit(settings, codec, mark, scorer)


@pytest.mark.chaos
async def test_killed_at_seeded_moments_under_load_no_alert_comes_twice_or_is_forgotten(
    settings: ProcessSettings,
    codec: PredictionAvro,
    alerts: Process,
    mark: Watermark,
    moments: int,
) -> None:
    dice = random.Random(11)
    scorer = Scorer(settings, codec, seed=140)
    await alerts.started()
    for _ in range(moments):
        writing = asyncio.create_task(scorer.write(80))
        await asyncio.sleep(dice.uniform(0.05, 1.2))
        alerts.kill()
        await alerts.started()
        await writing
    await audit(settings, codec, mark, scorer)


async def test_a_stop_in_order_leaves_nothing_to_do_again(
    settings: ProcessSettings, codec: PredictionAvro, alerts: Process, mark: Watermark
) -> None:
    scorer = Scorer(settings, codec, seed=150)
    await alerts.started()
    await scorer.write(60)
    await until_group_has_read(settings, "alerts", topics.PREDICTIONS)
    assert await asyncio.to_thread(alerts.stop) == 0
    await alerts.started()
    await scorer.write(60)
    await audit(settings, codec, mark, scorer)
    assert alerts.metric("motorcade_suppressed_total") == 0
