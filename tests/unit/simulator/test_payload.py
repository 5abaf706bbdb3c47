"""Telemetry's forms on the wire: what goes in comes out, and what is broken breaks as it should."""

import json
from pathlib import Path

import numpy as np
import pytest

from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.errors import DecodeError, SettingsError
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns, TelemetryJson
from motorcade.simulator.payload import (
    CUT,
    MISSING,
    OUT_OF_RANGE,
    WRONG_TYPE,
    AvroPayload,
    JsonPayload,
    TemplatePayload,
    spoil,
    topic_of,
)

CATALOGUE = load_catalogue()
VIN = "MC9ABT5E7T0000017"
SCHEMA = 7


def columns(n: int) -> TelemetryColumns:
    """Samples in the middle of every signal's range."""
    middle = np.round((CATALOGUE.low + CATALOGUE.high) / 2)
    ones = np.ones(n, dtype=np.int64)
    return TelemetryColumns(
        np.array([VIN] * n, dtype="S17"),
        np.tile(middle, (n, 1)),
        77 * ones,
        np.arange(1, n + 1),
        1000 * ones,
        2000 * ones,
    )


def test_a_json_batch_is_an_array_of_samples_oldest_first() -> None:
    form = JsonPayload(CATALOGUE)
    batch = json.loads(form.join(form.encode(columns(3))))
    assert [sample["seq"] for sample in batch] == [1, 2, 3]
    assert batch[0]["vin"] == VIN


def test_an_avro_batch_is_frames_back_to_back() -> None:
    form = AvroPayload(CATALOGUE, SCHEMA)
    frames = form.encode(columns(3))
    assert form.join(frames) == frames[0] + frames[1] + frames[2]
    assert {frame[:5] for frame in frames} == {b"\x00" + SCHEMA.to_bytes(4, "big")}
    assert TelemetryAvro(CATALOGUE, SCHEMA).decode(frames).seq.tolist() == [1, 2, 3]


def test_each_sort_of_bad_json_breaks_its_own_rule() -> None:
    sorts = np.array([CUT, MISSING, OUT_OF_RANGE, WRONG_TYPE])
    good = columns(4)
    cut, missing, beyond, mistyped = spoil(JsonPayload(CATALOGUE), CATALOGUE, good, sorts)
    parsed, rows, bad = TelemetryJson(CATALOGUE).decode([cut, missing, beyond, mistyped])
    reasons = dict(bad)
    assert rows.tolist() == [2]
    assert (parsed.values[0] > CATALOGUE.high).sum() == 1
    assert "truncated" in reasons[0]
    assert "missing required field" in reasons[1]
    assert "Expected `int`, got `str`" in reasons[3]
    assert np.isfinite(good.values).all()


def test_each_sort_of_bad_avro_breaks_its_own_rule() -> None:
    sorts = np.array([CUT, MISSING, OUT_OF_RANGE, WRONG_TYPE])
    cut, missing, beyond, mistyped = spoil(
        AvroPayload(CATALOGUE, SCHEMA), CATALOGUE, columns(4), sorts
    )
    reader = TelemetryAvro(CATALOGUE, SCHEMA)
    for broken in (cut, mistyped):
        with pytest.raises(DecodeError):
            reader.decode([broken])
    values = reader.decode([missing, beyond]).values
    assert np.isnan(values[0]).sum() == 1
    assert (values[1] > CATALOGUE.high).sum() == 1


def test_a_template_puts_values_where_their_names_stand(tmp_path: Path) -> None:
    path = tmp_path / "payload.json"
    path.write_text('{"car": "{vin}", "n": {seq}, "at": {due}, "c": {coolant_temp}, "x": {y: 1}}\n')
    sample = columns(2)
    sample.values[1, CATALOGUE.column("coolant_temp")] = np.nan
    first, second = TemplatePayload(CATALOGUE, path).encode(sample)
    temperature = sample.values[0, CATALOGUE.column("coolant_temp")]
    head = f'{{"car": "{VIN}", "n": 1, "at": 2000, "c": {temperature}, "x": {{y: 1}}}}'
    assert first.decode() == head
    assert b'"n": 2, "at": 2000, "c": null' in second


def test_a_template_that_names_what_there_is_not_says_so(tmp_path: Path) -> None:
    path = tmp_path / "payload.json"
    path.write_text('{"v": {velocity}}')
    with pytest.raises(SettingsError, match="velocity"):
        TemplatePayload(CATALOGUE, path)
    with pytest.raises(SettingsError, match="cannot be read"):
        TemplatePayload(CATALOGUE, tmp_path / "nothing")


def test_topics_are_the_contracts_own_or_follow_a_template() -> None:
    assert topic_of(None)(VIN) == f"fleet/v1/17/{VIN}/telemetry"
    assert topic_of("cars/{shard}/{vin}/up")(VIN) == f"cars/17/{VIN}/up"
    for wrong in ("cars/{id}", "cars/+/{vin}"):
        with pytest.raises(SettingsError, match="cannot be used"):
            topic_of(wrong)
