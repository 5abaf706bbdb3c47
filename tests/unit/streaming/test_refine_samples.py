"""Payloads divided into samples: whatever the form, the same cars come out, and bad ones alone."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motorcade.fleet.avro import telemetry_schema
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns, TelemetryJson
from motorcade.fleet.vin import generate_vin
from motorcade.streaming.refine.reasons import Rule
from motorcade.streaming.refine.samples import Parsed, Payloads

CATALOGUE = load_catalogue()
JSON = TelemetryJson(CATALOGUE)
AVRO = TelemetryAvro(CATALOGUE, 7)
BOOT = 1_795_000_000_000
MIDDLE = (CATALOGUE.low + CATALOGUE.high) / 2
FORMS = st.sampled_from(["json", "json batch", "avro", "avro batch"])


def rows(car: int, first: int, count: int, values: Any = MIDDLE) -> TelemetryColumns:
    seq = np.arange(first, first + count)
    return TelemetryColumns(
        np.full(count, generate_vin(3, car).encode(), dtype="S17"),
        np.tile(np.round(values, 2), (count, 1)),
        *(np.full(count, BOOT), seq, BOOT + seq, BOOT - seq),
    )


def encode(columns: TelemetryColumns, form: str) -> bytes:
    samples = (AVRO if "avro" in form else JSON).encode(columns)
    if form == "json batch":
        return b"[" + b",".join(samples) + b"]"
    return b"".join(samples)


def decode(payloads: list[bytes], schemas: dict[int, dict[str, Any]] | None = None) -> Parsed:
    codec = Payloads(CATALOGUE, TelemetryAvro(CATALOGUE, 7), (schemas or {}).get)
    return codec.decode(codec.divide(payloads))


@given(st.lists(st.tuples(st.integers(0, 3), FORMS, st.integers(1, 5)), max_size=12))
def test_every_form_gives_the_same_columns_in_the_order_of_the_payloads(
    stream: list[tuple[int, str, int]],
) -> None:
    payloads, expected, places = [], [], []
    for number, (car, form, count) in enumerate(stream):
        columns = rows(car, 1 + 10 * number, count if "batch" in form else 1)
        payloads.append(encode(columns, form))
        expected.append(columns)
        places += [(number, at) for at in range(len(columns))]
    codec = Payloads(CATALOGUE, AVRO, lambda _: None)
    samples = codec.divide(payloads)
    assert list(zip(samples.record.tolist(), samples.number.tolist(), strict=True)) == places
    assert all(p in payloads[at] for at, p in zip(samples.record, samples.payloads, strict=True))
    found = codec.decode(samples)
    assert found.refusals == {}
    assert found.rows.tolist() == list(range(len(places)))
    if expected:
        whole = TelemetryColumns.joined(expected)
        assert found.columns.vin.tolist() == whole.vin.tolist()
        np.testing.assert_array_equal(found.columns.longs, whole.longs)
        np.testing.assert_allclose(found.columns.values, whole.values, rtol=1e-6)


def test_a_bad_sample_of_a_batch_is_refused_alone() -> None:
    good = JSON.encode(rows(0, 1, 3))
    cut = json.loads(good[1])
    del cut["speed"]
    found = decode([b"[" + b",".join([good[0], json.dumps(cut).encode(), good[2]]) + b"]"])
    assert found.rows.tolist() == [0, 2]
    assert [(row, refusal.rule) for row, refusal in found.refusals.items()] == [(1, Rule.MISSING)]


def test_avro_is_held_to_the_rules_of_json() -> None:
    required = next(s.name for s in CATALOGUE.signals if s.required)
    optional = next((s.name for s in CATALOGUE.signals if not s.required), None)
    values = MIDDLE.copy()
    values[CATALOGUE.column(required)] = math.nan
    found = decode([encode(rows(0, 1, 1, values), "avro")])
    assert found.refusals[0] == (
        Rule.MISSING,
        f"the required field {required} is missing (it is NaN)",
    )
    if optional:
        values = MIDDLE.copy()
        values[CATALOGUE.column(optional)] = math.nan
        assert decode([encode(rows(0, 1, 1, values), "avro")]).refusals == {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda frame: frame[:-1], "not Avro: it is cut short"),
        (lambda frame: frame[:3], "not Avro: it is cut short"),
        (lambda frame: frame[:60], "not Avro: it is cut short"),
        (lambda frame: frame[:-1] + b"\xff", "not Avro: it is cut short"),
        (lambda frame: frame + b"{", "not Avro: it is cut short"),
        (lambda frame: frame + b"{" * 80, "not Avro: a sample does not begin with a zero byte"),
        (lambda frame: b"\0\0\0\0\x09" + frame[5:], "not Avro: the schema 9 is not one of"),
        (lambda frame: frame[:5] + b"\x20" + frame[6:], "not Avro: vin is not 17 characters"),
    ],
)
def test_avro_that_cannot_be_divided_is_refused_as_a_whole(change: Any, reason: str) -> None:
    frame, other = AVRO.encode(rows(0, 1, 2))
    payload = change(frame)
    codec = Payloads(CATALOGUE, AVRO, lambda _: None)
    samples = codec.divide([other, payload, other])
    assert list(samples.payloads) == [other, payload, other]
    found = codec.decode(samples)
    assert found.rows.tolist() == [0, 2]
    assert found.refusals[1].rule is Rule.AVRO
    assert found.refusals[1].reason.startswith(reason)


@given(st.lists(st.binary(max_size=200).map(lambda tail: b"\0\0\0\0\x07" + tail), max_size=5))
def test_no_bytes_behind_a_known_schema_stop_the_stream(payloads: list[bytes]) -> None:
    frame = AVRO.encode(rows(0, 1, 1))[0]
    found = decode([*payloads, frame])
    assert len(found.rows) + len(found.refusals) >= len(payloads) + 1
    assert found.columns.seq[-1] == 1


def test_an_older_writers_schema_lacks_signals_and_a_foreign_ones_fields_are_unknown() -> None:
    schema = telemetry_schema(CATALOGUE)
    signals = [s.name for s in CATALOGUE.signals]
    older = schema | {"fields": [f for f in schema["fields"] if f["name"] != signals[-1]]}
    foreign = schema | {
        "fields": [
            f | {"name": "mood"} if f["name"] == signals[-1] else f for f in schema["fields"]
        ]
    }
    frame = bytearray(AVRO.encode(rows(0, 1, 1))[0])
    frame[4] = 9
    found = decode([bytes(frame)], {9: foreign})
    assert found.refusals[0] == (Rule.UNKNOWN, "the field mood is not in the signal catalogue")
    width = 8 if CATALOGUE.signals[-1].type == "double" else 4
    at = TelemetryAvro(CATALOGUE, 7).layout(7).width  # type: ignore[union-attr]
    found = decode([bytes(frame[: at - width] + frame[at:])], {9: older})
    if CATALOGUE.signals[-1].required:
        assert found.refusals[0].rule is Rule.MISSING
    else:
        assert math.isnan(found.columns.values[0, -1])
