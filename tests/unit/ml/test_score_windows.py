"""The scorer's windows survive whatever ends it, and a new model has them before it goes live."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import numpy as np
import pytest

from motorcade.fleet.messages import ModelSlot
from motorcade.fleet.predictions import PredictionAvro
from motorcade.fleet.source import source_header
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns
from motorcade.fleet.topics import PREDICTIONS, TELEMETRY
from motorcade.ml.models.base import Scores
from motorcade.ml.scoring.records import TelemetryRecords
from motorcade.ml.scoring.slot import Slot
from motorcade.ml.scoring.step import ScoreStep
from motorcade.ml.scoring.warming import Past, warm
from motorcade.ml.store import FORMAT, Manifest, Origin
from motorcade.ml.windows import Floats32, WindowSpec
from motorcade.runtime.kafka import TopicPartition
from tests.unit.streaming.memory_kafka import Log, run_to_the_end
from tests.unit.streaming.predictions import FakeRecord

from .telemetry import CATALOGUE, START_MS

N = len(CATALOGUE.features)
AVRO, SCORES = TelemetryAvro(CATALOGUE, 1), PredictionAvro(CATALOGUE, 2)
CARS = [f"CAR{n:014d}".encode() for n in range(4)]
SILENCE_MS = 300_000


class Sum:
    """A model whose score is the sum of all that its window holds: one odd bit shows."""

    def __init__(self, window: WindowSpec, version: int = 1, minimum_filled: int = 0) -> None:
        self.window = window
        self.manifest = Manifest(
            format=FORMAT,
            name="sum",
            version=version,
            architecture="sum",
            created=0,
            catalogue=CATALOGUE.name,
            features=list(CATALOGUE.features),
            mean=[0.0] * N,
            std=[1.0] * N,
            learnt=[True] * N,
            residual=[1.0] * N,
            threshold=1.0,
            minimum_coverage=0.5,
            origin=Origin([], [], "", {}, {}, 0),
            metrics={},
            libraries={},
            window=window,
            minimum_filled=minimum_filled,
        )

    def score(self, values: Floats32) -> Scores:
        n = len(values)
        flat = np.nan_to_num(values.astype(np.float64)).reshape(n, -1)
        top = np.tile(np.arange(3), (n, 1))
        return Scores.of_anomaly(flat.sum(axis=1), np.ones(n), top, np.full((n, 3), 0.25))


def step_with(*models: Sum, warm_records: int = 0) -> ScoreStep:
    def nothing(number: int) -> dict[str, Any]:
        raise AssertionError(number)

    one = ScoreStep(TelemetryRecords(CATALOGUE, AVRO, nothing), SCORES, warm_records)
    for name, model in zip(ModelSlot, models, strict=False):
        one.live[name] = slot_of(model)
    return one


def slot_of(model: Sum) -> Slot:
    return Slot(model, str(model.manifest.version), CATALOGUE, SILENCE_MS)


#: A message: car, seconds since its last one, whether the car was started anew, and the minutes
#: that passed in Kafka meanwhile.
Message = tuple[int, int, bool, int]


def story_of(rng: random.Random, messages: int) -> list[Message]:
    """Mostly steady driving, with stops, gaps, stragglers and silences."""
    cars = rng.choice([2, 4])
    usual = rng.choice([7, 20])
    return [
        (
            rng.randrange(cars),
            rng.choice([1, *[usual] * 6, 45, -30, 95]),
            rng.random() < 0.04,
            rng.choices([0, 2, 6], [60, 2, 1])[0],
        )
        for _ in range(messages)
    ]


def telemetry(story: list[Message]) -> list[FakeRecord]:
    """What refine would have written: cars 0 and 2 in partition 0, 1 and 3 in partition 1."""
    time, boot = [START_MS] * 4, [START_MS] * 4
    ingested = START_MS
    found: list[FakeRecord] = []
    ends = [0, 0]
    rng = np.random.default_rng(len(story))
    for seq, (car, seconds, anew, minutes) in enumerate(story):
        ingested += minutes * 60_000 + 10
        time[car] += seconds * 1000
        if anew:
            boot[car] = time[car]
        values = rng.normal(size=(1, len(CATALOGUE.names)))
        values[rng.random(values.shape) < 0.1] = np.nan
        numbers = (np.array([number]) for number in (boot[car], seq, time[car], ingested))
        columns = TelemetryColumns(np.array([CARS[car]], dtype="S17"), values, *numbers)
        value, partition = AVRO.encode(columns)[0], car % 2
        found.append(
            FakeRecord(
                TELEMETRY,
                partition,
                ends[partition],
                CARS[car],
                value,
                (source_header(partition, ends[partition]),),
                ingested,
            )
        )
        ends[partition] += 1
    return found


@pytest.mark.parametrize("seed", range(24))
def test_killed_anywhere_every_prediction_is_to_the_bit_that_of_a_run_never_killed(
    seed: int,
) -> None:
    """Champion and challenger with windows of their own; boots, gaps, stragglers, silences."""
    rng = random.Random(seed)
    source = telemetry(story_of(rng, 200))
    first, second = (
        WindowSpec(rng.randint(2, 5), rng.choice([0, 20_000]), max_gap_ms=60_000) for _ in range(2)
    )
    kills = [(rng.randint(0, 12), rng.random() < 0.5) for _ in range(15)]
    sizes = [rng.randint(1, 12) for _ in range(5)]
    commits = [rng.random() < 0.7 for _ in range(5)]

    rival = [Sum(second, 2, minimum_filled=1)] if seed % 2 else []

    def make(_: Log) -> ScoreStep:
        return step_with(Sum(first), *rival)

    calm = asyncio.run(run_to_the_end(source, make))
    killed = asyncio.run(run_to_the_end(source, make, kills, sizes, commits))
    for partition in (0, 1):
        expected = [(r.key, r.value, r.headers) for r in calm[PREDICTIONS, partition]]
        assert [(r.key, r.value, r.headers) for r in killed[PREDICTIONS, partition]] == expected
        assert len(expected) == sum(r.partition == partition for r in source)
        score = SCORES.decode([value for _, value, _ in expected]).score
        assert 0.1 < np.isfinite(score).mean() < 1, "some windows are full, some are not"


def steady(messages: int, cars: int = 2) -> list[FakeRecord]:
    """A message of each car every twenty seconds."""
    return telemetry([(car, 20, False, 0) for _ in range(messages) for car in range(cars)])


def test_a_window_that_is_not_full_is_not_scored_and_says_how_many_samples_are_missing() -> None:
    outputs = step_with(Sum(WindowSpec(rows=3))).process(steady(4, cars=1))
    found = [SCORES.decode_one(output.value) for output in outputs]
    assert [one["reason"] for one in found] == [
        "the window holds 1 of 3 samples, 2 are missing",
        "the window holds 2 of 3 samples, 1 are missing",
        "",
        "",
    ]
    assert np.isnan([one["score"] for one in found[:2]]).all()
    assert not found[0]["contributions"]


def test_a_model_that_says_how_few_samples_it_needs_is_asked_as_soon() -> None:
    outputs = step_with(Sum(WindowSpec(rows=3), minimum_filled=2)).process(steady(4, cars=1))
    score = SCORES.decode([output.value for output in outputs]).score
    assert np.isnan(score).tolist() == [True, False, False, False]


def test_models_of_single_messages_keep_nothing_and_read_nothing_again() -> None:
    one = step_with(Sum(WindowSpec()), warm_records=1000)
    one.process(steady(50))
    assert one.since() == {}
    assert one.history == 0
    assert len(one.live[ModelSlot.CHAMPION]._windows) == 0


def test_what_is_read_again_is_what_windows_hold_and_no_more() -> None:
    one = step_with(Sum(WindowSpec(rows=4)))
    one.process(steady(50, cars=4))
    # Two cars in each partition, each with its last four messages.
    assert one.since()[0] == 100 - 8


def test_a_car_that_is_gone_does_not_hold_the_others_back() -> None:
    one = step_with(Sum(WindowSpec(rows=4)))
    records = telemetry([(0, 20, False, 0)] + [(2, 20, False, 1) for _ in range(30)])
    one.process(records)
    assert one.since()[0] == 31 - 4


def test_a_partition_that_goes_takes_its_cars_along() -> None:
    one = step_with(Sum(WindowSpec(rows=4)))
    one.process(steady(50, cars=4))
    one.revoked(0)
    assert list(one.since()) == [1]
    assert len(one.live[ModelSlot.CHAMPION]._windows) == 2


def warmed(one: ScoreStep, records: list[FakeRecord], then: list[FakeRecord]) -> Slot:
    """A new model warms up on a topic, while other records come."""

    async def read(starts: dict[TopicPartition, int]) -> AsyncIterator[list[Any]]:
        for tp, start in starts.items():
            mine: list[Any] = [r for r in records if r.partition == tp.partition]
            yield mine[start:]
        for first in range(0, len(then), 3):
            one.process(then[first : first + 3])
            await asyncio.sleep(0)

    slot = slot_of(Sum(WindowSpec(rows=6, every_ms=20_000), version=7))
    asyncio.run(warm(one, ModelSlot.CHAMPION, slot, Past(read, 1000)))
    one.live[ModelSlot.CHAMPION] = slot
    return slot


def test_a_new_model_has_every_cars_window_from_its_first_prediction_on() -> None:
    records = steady(60, cars=4)
    spec = WindowSpec(rows=6, every_ms=20_000)
    uninterrupted = step_with(Sum(spec, version=7))
    expected = [o.value for o in uninterrupted.process(records)[160:]]
    one = step_with(Sum(WindowSpec()))
    one.process(records[:80])
    warmed(one, records[:80], records[80:160])
    outputs = one.process(records[160:])
    assert [output.value for output in outputs] == expected


def test_until_it_is_warm_the_old_model_goes_on() -> None:
    records = steady(60, cars=4)
    one = step_with(Sum(WindowSpec(), version=3))
    one.process(records[:80])
    seen: list[int] = []
    process = one.process

    def watch(records: list[Any]) -> list[Any]:
        outputs = process(records)
        seen.extend(SCORES.decode([o.value for o in outputs]).version.tolist())
        return outputs

    one.process = watch  # type: ignore[method-assign]
    warmed(one, records[:80], records[80:160])
    assert seen == [3] * 80
    one.process(records[160:])
    assert set(seen[80:]) == {7}


def test_a_partition_that_comes_while_a_model_warms_up_makes_it_begin_anew() -> None:
    records = steady(60, cars=4)
    one = step_with(Sum(WindowSpec(), version=3))
    one.process([r for r in records if r.partition == 0])
    reads: list[list[int]] = []

    async def read(starts: dict[TopicPartition, int]) -> AsyncIterator[list[Any]]:
        reads.append([tp.partition for tp in starts])
        if len(reads) == 1:
            await one.assigned(1)
            one.process([r for r in records if r.partition == 1])
        for tp in starts:
            yield [r for r in records if r.partition == tp.partition]

    slot = slot_of(Sum(WindowSpec(rows=6), version=7))
    asyncio.run(warm(one, ModelSlot.CHAMPION, slot, Past(read, 1000)))
    assert reads == [[0], [0, 1]]
    assert slot.since() == {0: 120 - 12, 1: 120 - 12}


def test_champion_and_challenger_score_the_same_stream_side_by_side() -> None:
    records = steady(9, cars=2)
    one = step_with(Sum(WindowSpec()), Sum(WindowSpec(rows=3), 2))
    found = SCORES.decode([o.value for o in one.process(records)])
    alone = SCORES.decode([o.value for o in step_with(Sum(WindowSpec(rows=3))).process(records)])
    assert found.challenger_score is not None
    assert np.array_equal(found.challenger_score, alone.score, equal_nan=True)
    assert found.challenger_threshold is not None
    assert (found.challenger_threshold == 1.0).all()
    assert np.isnan(found.challenger_score).sum() == 4
    assert not np.isnan(found.score).any()


def test_a_foretelling_models_probability_life_and_kind_are_told() -> None:
    class Foretelling(Sum):
        def __init__(self) -> None:
            super().__init__(WindowSpec())
            self.manifest = msgspec.structs.replace(self.manifest, kinds=["P0217", "P0562"])

        def score(self, values: Floats32) -> Scores:
            n = len(values)
            return (
                super()
                .score(values)
                ._replace(
                    probability=np.full(n, 0.75),
                    life=np.full(n, 90 * 60_000.0),
                    kind=np.arange(n) % 2,
                )
            )

    outputs = step_with(Foretelling()).process(steady(2, cars=1))
    found = [SCORES.decode_one(output.value) for output in outputs]
    assert [(one["probability"], one["life"], one["kind"]) for one in found] == [
        (0.75, 90.0, "P0217"),
        (0.75, 90.0, "P0562"),
    ]
