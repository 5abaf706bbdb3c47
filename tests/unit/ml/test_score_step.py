"""The step gives one prediction for each record, whatever the record is."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from motorcade.fleet.avro import telemetry_schema
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.errors import MotorcadeError, UnreachableError
from motorcade.fleet.messages import ModelSlot
from motorcade.fleet.predictions import PredictionAvro
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns
from motorcade.ml.models.autoencoder import Autoencoder
from motorcade.ml.scoring.records import TelemetryRecords
from motorcade.ml.scoring.slot import Slot
from motorcade.ml.scoring.step import ScoreStep

from .telemetry import CATALOGUE, correlated

CODEC = TelemetryAvro(CATALOGUE, 1)
PREDICTIONS = PredictionAvro(CATALOGUE, 2)


def step(lookup: Any = None) -> ScoreStep:
    def nothing(number: int) -> dict[str, Any]:
        raise MotorcadeError(f"no schema {number}")

    records = TelemetryRecords(CATALOGUE, TelemetryAvro(CATALOGUE, 1), lookup or nothing)
    return ScoreStep(records, PREDICTIONS)


def live(one: ScoreStep, model: Autoencoder) -> ScoreStep:
    one.live[ModelSlot.CHAMPION] = Slot(model, "", CATALOGUE, silence_ms=60_000)
    return one


def records(columns: TelemetryColumns, codec: TelemetryAvro = CODEC) -> list[Any]:
    return [
        SimpleNamespace(key=vin, value=value, partition=n % 3, offset=100 + n, timestamp=n)
        for n, (vin, value) in enumerate(
            zip(columns.vin.tolist(), codec.encode(columns), strict=True)
        )
    ]


def test_before_a_model_nothing_is_scored_and_the_reason_says_so() -> None:
    columns = correlated(cars=4, messages=5)
    outputs = step().process(records(columns))
    found = PREDICTIONS.decode([o.value for o in outputs])
    assert np.isnan(found.score).all()
    assert np.isnan(found.threshold).all()
    assert set(found.version.tolist()) == {0}
    assert PREDICTIONS.decode_one(outputs[3].value)["reason"] == "no model is live yet"


def test_a_prediction_carries_its_record_and_the_model(model: Autoencoder) -> None:
    columns = correlated(cars=4, messages=5)
    one = live(step(), model)
    source = records(columns)
    outputs = one.process(source)
    assert [(o.partition, o.source_offset, o.key) for o in outputs] == [
        (r.partition, r.offset, r.key) for r in source
    ]
    found = PREDICTIONS.decode([o.value for o in outputs])
    for name in ("vin", "boot", "seq", "time", "due"):
        assert np.array_equal(getattr(found, name), getattr(columns, name))
    assert found.partition.tolist() == [r.partition for r in source]
    assert found.offset.tolist() == [r.offset for r in source]
    assert found.threshold == pytest.approx(model.manifest.threshold)
    whole = PREDICTIONS.decode_one(outputs[0].value)
    assert (whole["model"], whole["reason"]) == ("autoencoder", "")
    assert len(whole["contributions"]) == 3
    shares = [part["share"] for part in whole["contributions"]]
    assert shares == sorted(shares, reverse=True)


def test_records_that_are_no_telemetry_get_a_prediction_and_spoil_no_other(
    model: Autoencoder,
) -> None:
    source = records(correlated(cars=4, messages=2))
    alone = live(step(), model)
    expected = PREDICTIONS.decode([o.value for o in alone.process(source)]).score
    broken = [b"", b"hello", b"\0\0\0\0\1cut short", b"\0\0\0\0\x63unknown schema"]
    for row, value in enumerate(broken):
        source[row].value = value
    source[0].key = None
    one = live(step(), model)
    outputs = one.process(source)
    scores = PREDICTIONS.decode([o.value for o in outputs]).score
    assert np.isnan(scores[:4]).all()
    assert np.array_equal(scores[4:], expected[4:])
    for output in outputs[:4]:
        assert PREDICTIONS.decode_one(output.value)["reason"].startswith("the record is not")


def test_another_writers_schema_is_learnt_and_its_missing_signal_is_absent(
    model: Autoencoder,
) -> None:
    document = CATALOGUE.model_dump()
    document["signals"] = [s for s in document["signals"] if s["name"] != "battery_percentage"]
    older = Catalogue.model_validate(document)
    asked: list[int] = []

    def lookup(number: int) -> dict[str, Any]:
        asked.append(number)
        return telemetry_schema(older)

    columns = correlated(cars=4, messages=2, catalogue=older)
    mixed = records(columns, TelemetryAvro(older, 9)) + records(correlated(cars=2, messages=1))
    one = live(step(lookup), model)
    for _ in range(2):
        outputs = one.process(mixed)
    found = PREDICTIONS.decode([o.value for o in outputs])
    assert asked == [9]
    assert found.coverage == pytest.approx([17 / 18] * 8 + [1.0] * 2)
    assert np.isfinite(found.score).all()


def test_an_unreachable_registry_stops_the_step_instead_of_losing_scores() -> None:
    def lookup(number: int) -> dict[str, Any]:
        raise UnreachableError("the registry does not answer")

    source = records(correlated(cars=1, messages=1), TelemetryAvro(CATALOGUE, 9))
    with pytest.raises(UnreachableError):
        step(lookup).process(source)
