"""Columns survive JSON and Avro, and any Avro client reads the same bytes."""

import io
import struct
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from motorcade.fleet.arrays import Ints
from motorcade.fleet.avro import PREDICTION_FLOATS, predictions_schema, telemetry_schema
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.clock import RunClock
from motorcade.fleet.columns import Block, Ragged, RecordLayout, schema_id_of
from motorcade.fleet.errors import DecodeError, SettingsError
from motorcade.fleet.messages import AlertState, VehicleStatus, decode, encode
from motorcade.fleet.predictions import PredictionAvro, PredictionColumns, Words
from motorcade.fleet.source import MAX_SAMPLES, Source, places, source_header, source_of
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns, TelemetryJson
from tests.contributions import contributions

CATALOGUE = load_catalogue()
SIGNALS = len(CATALOGUE.names)
longs = st.integers(-(2**63), 2**63 - 1)


@st.composite
def batches(draw: st.DrawFn) -> TelemetryColumns:
    n = draw(st.integers(1, 8))
    values = draw(npst.arrays(np.float64, (n, SIGNALS), elements=st.floats(-1e4, 1e4, width=32)))
    values = np.where(draw(npst.arrays(np.bool_, (n, SIGNALS))), values, np.nan)
    numbers = draw(npst.arrays(np.int64, (n, 4), elements=longs))
    vin = np.array([f"MC9AAT5E0T{i:07d}" for i in range(n)], dtype="S17")
    return TelemetryColumns(vin, values, *numbers.T)


@given(batches())
def test_avro_columns_survive_and_fastavro_reads_the_same(columns: TelemetryColumns) -> None:
    codec = TelemetryAvro(CATALOGUE, 7)
    records = codec.encode(columns)
    again = codec.decode(records)
    assert np.array_equal(again.values, columns.values, equal_nan=True)
    assert np.array_equal(again.longs, columns.longs)
    assert np.array_equal(again.vin, columns.vin)
    schema = fastavro.parse_schema(telemetry_schema(CATALOGUE))
    for row, record in enumerate(records):
        assert schema_id_of(record) == 7
        message = fastavro.schemaless_reader(io.BytesIO(record[5:]), schema, None)
        assert message["vin"].encode() == columns.vin[row]
        assert message["due"] == columns.due[row]
        assert np.array_equal(
            [message[name] for name in CATALOGUE.names], columns.values[row], equal_nan=True
        )


@given(batches())
def test_json_columns_survive_to_their_precision(columns: TelemetryColumns) -> None:
    required = columns.values.copy()
    required[:, CATALOGUE.required] = np.nan_to_num(required[:, CATALOGUE.required])
    codec = TelemetryJson(CATALOGUE)
    sent = TelemetryColumns(columns.vin, required, *columns.longs.T)
    again, rows, bad = codec.decode(codec.encode(sent))
    assert not bad
    assert len(rows) == len(columns)
    for column, signal in enumerate(CATALOGUE.signals):
        expected = np.round(required[:, column], signal.precision)
        assert np.array_equal(again.values[:, column], expected, equal_nan=True)
    assert np.array_equal(again.longs, columns.longs)


def test_json_that_does_not_parse_is_named_by_its_position_in_the_batch() -> None:
    good = TelemetryJson(CATALOGUE).encode(
        TelemetryColumns(
            np.array([b"MC9AAT5E0T0000001"]), np.ones((1, SIGNALS)), *np.ones((4, 1), dtype=int)
        )
    )[0]
    payloads = [
        b"",
        good,
        b"{",
        good.replace(b'"seq":1', b'"seq":"1"'),
        good.replace(b'"seq":1', b'"seq":' + b"9" * 30),
        good.replace(b'"vin":"MC9', b'"vin":"'),
        good[:-1] + b',"bogus":1}',
        good.replace(b'"speed":1.0', b'"speed":NaN'),
        good,
    ]
    columns, rows, bad = TelemetryJson(CATALOGUE).decode(payloads)
    assert rows.tolist() == [1, 8]
    assert len(columns) == 2
    assert sorted(row for row, _ in bad) == [0, 2, 3, 4, 5, 6, 7]
    assert all(reason for _, reason in bad)


def test_a_signal_that_an_older_writer_did_not_know_is_absent() -> None:
    older = telemetry_schema(CATALOGUE)
    older["fields"] = [field for field in older["fields"] if field["name"] != "oil_temp"]
    layout = RecordLayout(older)
    records = layout.encode(
        3,
        Block(
            np.array([b"MC9AAT5E0T0000001"], dtype="S17"),
            np.arange(SIGNALS - 1.0)[None, :],
            np.array([[1, 2, 3, 4]]),
        ),
    )
    codec = TelemetryAvro(CATALOGUE, 7)
    codec.learn(3, older)
    columns = codec.decode(records, 3)
    absent = CATALOGUE.column("oil_temp")
    assert np.isnan(columns.values[0, absent])
    assert np.array_equal(np.delete(columns.values[0], absent), np.arange(SIGNALS - 1.0))
    assert columns.longs.tolist() == [[1, 2, 3, 4]]


@given(batches(), st.data())
def test_a_record_cut_short_is_refused_naming_its_position(
    columns: TelemetryColumns, data: st.DataObject
) -> None:
    codec = TelemetryAvro(CATALOGUE, 7)
    records = codec.encode(columns)
    at = data.draw(st.integers(0, len(records) - 1))
    records[at] = records[at][: data.draw(st.integers(0, len(records[at]) - 1))]
    with pytest.raises(DecodeError, match=f"Record {at} "):
        codec.decode(records)


def test_a_schema_without_the_layout_is_refused() -> None:
    schema = telemetry_schema(CATALOGUE)
    with pytest.raises(DecodeError, match="begin with vin"):
        RecordLayout(schema | {"fields": schema["fields"][1:]})
    with pytest.raises(DecodeError, match="constant-width"):
        RecordLayout(schema | {"fields": [*schema["fields"], schema["fields"][1] | {"name": "x"}]})


@given(npst.arrays(np.int64, (4, 7), elements=longs), st.text(max_size=200), st.integers(0, 3))
def test_predictions_survive_with_reason_and_contributions(
    numbers: Ints, reason: str, parts: int
) -> None:
    codec = PredictionAvro(CATALOGUE, 9)
    vin = np.array([f"MC9AAT5E0T{i:07d}" for i in range(4)], dtype="S17")
    score = np.array([0.5, np.nan, 2.0, 8.0])
    columns = PredictionColumns(vin, score, np.ones(4), np.full(4, 0.25), *numbers.T)
    shares = [("speed", 0.5), ("coolant_temp", 0.25), ("oil_temp", 0.125)][:parts]
    records = codec.encode(columns, "autoencoder", [reason] * 4, contributions(4, shares))
    again = codec.decode(records)
    assert np.array_equal(again.score, score, equal_nan=True)
    assert np.array_equal(again.offset, columns.offset)
    one = codec.decode_one(records[0])
    assert (one["model"], one["reason"]) == ("autoencoder", reason)
    assert [(c["signal"], c["share"]) for c in one["contributions"]] == shares
    assert one["kind"] == ""
    assert np.isnan([one[name] for name in PREDICTION_FLOATS[3:]]).all(), "nobody told"
    codec.check_details(records, again)
    for wrong in (records[0][:-1], records[0] + b"\0", records[0][:-1] + b"\2"):
        with pytest.raises(DecodeError, match="details"):
            codec.check_details([*records[1:], wrong], again)


def test_what_a_model_foresees_survives_with_what_the_challenger_says() -> None:
    codec = PredictionAvro(CATALOGUE, 9)
    ones = np.ones(3, dtype=np.int64)
    told = {
        "probability": np.array([0.25, np.nan, 1.0]),
        "life": np.array([90.5, 0.0, np.nan]),
        "challenger_score": np.array([np.nan, 3.0, 4.0]),
        "challenger_threshold": np.full(3, 2.5),
    }
    columns = PredictionColumns(
        np.array([b"MC9AAT5E0T0000001"] * 3, dtype="S17"),
        *(np.ones(3),) * 3,
        *(ones,) * 7,
        **told,
    )
    kinds = Words(("P0217", "P0562"), np.array([1, -1, 0]))
    reasons = ["", "too sparse", ""]
    records = codec.encode(columns, "m", reasons, contributions(3, [("speed", 1.0)]), kinds)
    again = codec.decode(records)
    for name, values in told.items():
        assert np.array_equal(getattr(again, name), values, equal_nan=True)
    codec.check_details(records, again)
    found = [codec.decode_one(record) for record in records]
    assert [(one["kind"], one["reason"]) for one in found] == [
        ("P0562", ""),
        ("", "too sparse"),
        ("P0217", ""),
    ]


def older_predictions(codec: PredictionAvro) -> tuple[dict[str, Any], list[bytes]]:
    """The schema of a scorer that foresees nothing, and three records of it."""
    schema = predictions_schema(CATALOGUE)
    new = {*PREDICTION_FLOATS[3:], "kind"}
    older = schema | {"fields": [f for f in schema["fields"] if f["name"] not in new]}
    words = [b"\x02m\x00\x00", b"\x02m\x04no\x00", b"\x02m\x00\x00"]
    block = Block(
        np.array([b"MC9AAT5E0T0000001"] * 3, dtype="S17"),
        np.array([[0.5, 1.0, 0.25], [np.nan, 1.0, 0.25], [2.0, 1.0, 0.25]]),
        np.arange(21).reshape(3, 7) * 1000,
    )
    return older, RecordLayout(older).encode(8, block, Ragged.of(words))


def test_predictions_of_an_older_scorer_are_read_beside_ours() -> None:
    asked: list[int] = []

    def lookup(number: int) -> dict[str, Any] | None:
        asked.append(number)
        return older_predictions(codec)[0] if number == 8 else None

    codec = PredictionAvro(CATALOGUE, 9, lookup)
    _, old = older_predictions(codec)
    ones = np.ones(2, dtype=np.int64)
    columns = PredictionColumns(
        np.array([b"MC9AAT5E0T0000002"] * 2, dtype="S17"),
        *(np.ones(2),) * 3,
        *(ones,) * 7,
        probability=np.array([0.25, 0.5]),
    )
    ours = codec.encode(columns, "m", ["", ""], contributions(2, [("speed", 1.0)]))
    mixed = [old[0], ours[0], ours[1], *old[1:]]
    found = codec.decode(mixed)
    assert found.score[[0, 1, 2, 4]].tolist() == [0.5, 1.0, 1.0, 2.0]
    assert found.probability is not None
    assert np.isnan(found.probability).tolist() == [True, False, False, True, True]
    assert found.version.tolist() == [6000, 1, 1, 13000, 20000]
    codec.check_details(mixed, found)
    with pytest.raises(DecodeError, match="details"):
        codec.check_details([old[0] + b"\0"], codec.decode([old[0] + b"\0"]))
    assert codec.decode_one(old[1])["reason"] == "no"
    assert codec.decode_one(old[1])["kind"] == ""
    assert asked == [8]
    with pytest.raises(DecodeError, match="schema 7 is none of predictions"):
        codec.decode([b"\0\0\0\0\7" + old[0][5:]])


def test_any_avro_reader_takes_an_older_prediction_under_our_schema() -> None:
    older, records = older_predictions(PredictionAvro(CATALOGUE, 9))
    found = fastavro.schemaless_reader(
        io.BytesIO(records[0][5:]), older, predictions_schema(CATALOGUE)
    )
    assert (found["score"], found["probability"], found["kind"]) == (0.5, 0.0, "")


def test_messages_survive_and_a_wrong_one_says_what_is_wrong() -> None:
    status = VehicleStatus("MC9AAT5E0T0000001", 5, 1, True, "127.0.0.1:1883")
    assert decode(VehicleStatus, encode(status)) == status
    with pytest.raises(DecodeError, match="boot"):
        decode(VehicleStatus, b'{"vin":"x"}')
    with pytest.raises(DecodeError, match="AlertState"):
        decode(AlertState, b"\xff")


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**62), st.integers(0, MAX_SAMPLES - 1))
def test_a_source_header_reads_back(partition: int, offset: int, index: int) -> None:
    headers = [("late", b"1"), source_header(partition, offset, index)]
    assert source_of(headers) == Source(partition, offset, index)
    assert source_of([]) is None


def test_a_source_header_of_twelve_bytes_is_the_first_sample() -> None:
    assert source_header(3, 9)[1] == struct.pack("!iq", 3, 9)
    assert source_of([("source", struct.pack("!iq", 3, 9))]) == Source(3, 9, 0)


@given(
    st.lists(
        st.tuples(st.integers(0, 99), st.integers(0, 2**50), st.sampled_from([0, 0, 0, 7])),
        min_size=1,
        max_size=9,
    ),
    st.booleans(),
)
def test_sources_are_read_in_columns_where_every_record_has_one(
    sources: list[tuple[int, int, int]], lacking: bool
) -> None:
    headers: list[Any] = [(source_header(*source), ("late", b"1")) for source in sources]
    found = places(headers)
    assert found is not None
    expected = [(Source(*source).partition, Source(*source).place) for source in sources]
    assert list(zip(*(column.tolist() for column in found), strict=True)) == expected
    assert places([*headers, () if lacking else (("late", b"1"),)]) is None


@given(*[st.tuples(st.integers(0, 2**50), st.integers(0, MAX_SAMPLES - 1))] * 2)
def test_places_are_ordered_as_offset_and_index(a: tuple[int, int], b: tuple[int, int]) -> None:
    assert (Source(0, *a).place < Source(0, *b).place) == (a < b)


@given(st.integers(0, 2**41), st.integers(0, 2**41), st.sampled_from([0.5, 1.0, 60.0]))
def test_the_run_clock_reads_back_and_runs_at_its_speed(
    wall: int, event: int, speedup: float
) -> None:
    clock = RunClock(wall, event, speedup)
    assert RunClock.parse(str(clock)) == clock
    assert clock.event_ms(wall + 1000) == event + round(1000 * speedup)
    assert clock.wall_ms(clock.event_ms(wall + 6000)) == wall + 6000


@pytest.mark.parametrize("text", ["", "1/2", "a/b/c", "0/0/0", "0/0/-1"])
def test_a_bad_clock_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="clock="):
        RunClock.parse(text)
