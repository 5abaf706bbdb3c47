"""Identities are read from payloads of every form, also from those that break a rule."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motorcade.fleet.avro import telemetry_schema
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.columns import RecordLayout
from motorcade.fleet.source import MAX_SAMPLES, place
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns, TelemetryJson
from motorcade.simulator.audit.payloads import ForeignPayloads, OwnPayloads, Places
from motorcade.simulator.audit.records import RawBatch

CATALOGUE = load_catalogue()
JSON = TelemetryJson(CATALOGUE)
AVRO = TelemetryAvro(CATALOGUE, 7)
LAYOUT = RecordLayout(telemetry_schema(CATALOGUE))
VIN = b"MC9AAT5E0T0000001"

unhurried = settings(deadline=None, max_examples=50)


@dataclass
class Record:
    """What the reader needs of a Kafka record."""

    value: bytes | None
    offset: int = 5
    key: bytes | None = VIN
    timestamp: int = 99
    headers: tuple[tuple[str, bytes], ...] = ()


def own() -> OwnPayloads:
    return OwnPayloads({7: LAYOUT}.get)


def columns(seqs: list[int], boot: int = 10**12) -> TelemetryColumns:
    n = len(seqs)
    seq = np.array(seqs, dtype=np.int64)
    return TelemetryColumns(
        np.full(n, VIN),
        np.full((n, len(CATALOGUE.names)), 1.0),
        np.full(n, boot),
        seq,
        seq * 3,
        seq * 2,
    )


def identities(batch: RawBatch) -> list[tuple[int, int, int, int]]:
    return [
        tuple(row)
        for row in np.stack([batch.place, batch.boot, batch.seq, batch.due], axis=1).tolist()
    ]


FORMS: dict[str, Callable[[list[int]], list[bytes]]] = {
    "json": lambda seqs: JSON.encode(columns(seqs)),
    "json batch": lambda seqs: [b"[" + b",".join(JSON.encode(columns(seqs))) + b"]"],
    "avro": lambda seqs: AVRO.encode(columns(seqs)),
    "avro batch": lambda seqs: [b"".join(AVRO.encode(columns(seqs)))],
}


@pytest.mark.parametrize("form", FORMS)
@unhurried
@given(seqs=st.lists(st.integers(1, 2**30 - 1), min_size=1, max_size=5))
def test_every_form_gives_its_samples_with_their_place(form: str, seqs: list[int]) -> None:
    payloads = FORMS[form](seqs)
    batch = own().read([Record(value, offset) for offset, value in enumerate(payloads)])
    alone = len(payloads) == len(seqs)
    assert identities(batch) == [
        (place(row, 0) if alone and len(seqs) > 1 else place(0, row), 10**12, seq, seq * 2)
        for row, seq in enumerate(seqs)
    ]
    assert batch.vin == [VIN] * len(seqs)
    assert batch.ingested.tolist() == [99] * len(seqs)
    assert len(set(batch.digest.tolist())) == len(set(seqs))


def test_forms_may_be_mixed_in_one_topic() -> None:
    records = [Record(form([n + 1])[0], offset=n) for n, form in enumerate(FORMS.values())]
    batch = own().read(records)
    assert batch.seq.tolist() == [1, 2, 3, 4]
    assert batch.place.tolist() == [place(n) for n in range(4)]


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{",
        b"nothing",
        b"\xff\xfe",
        b"[",
        b"[]",
        b"[1",
        b"\0",
        b"\0\0\0\0\x07short",
        b"\0\0\0\0\x09" + AVRO.encode(columns([1]))[0][5:],
        AVRO.encode(columns([1]))[0] + b"\0",
        b"[" + b"1," * MAX_SAMPLES + b"1]",
        b'{"boot":1,"seq":0}',
        b'{"boot":1,"seq":"2"}',
        b'{"boot":-1,"seq":2}',
        b'{"boot":1,"seq":1073741824}',
        b'{"boot":1,"seq":99999999999999999999}',
        b'{"seq":1}',
    ],
)
def test_what_holds_no_identity_is_one_sample_without(value: bytes | None) -> None:
    batch = own().read([Record(value)])
    assert identities(batch) == [(place(5), -1, -1, -1)]
    assert not batch.identified.any()
    assert batch.vin == [VIN]


def test_a_bad_sample_leaves_its_neighbours_their_identity() -> None:
    batch = own().read([Record(b'[{"boot":1,"seq":1},{"seq":2},{"boot":1,"seq":3,"due":4}]')])
    assert batch.seq.tolist() == [1, -1, 3]
    assert batch.due.tolist() == [-1, -1, 4]
    assert batch.place.tolist() == [place(5, index) for index in range(3)]


def test_broken_signals_do_not_hide_an_identity() -> None:
    batch = own().read([Record(b'{"boot":1,"seq":2,"speed":"fast","extra":[1,2]}')])
    assert identities(batch) == [(place(5), 1, 2, -1)]


def test_equal_samples_have_equal_digests_wherever_they_stand() -> None:
    one = JSON.encode(columns([1]))[0]
    other = JSON.encode(columns([2]))[0]
    batch = own().read([Record(one), Record(b"[" + one + b"," + other + b"]", 6)])
    first, again, second = batch.digest.tolist()
    assert first == again != second


def test_somebody_elses_payload_says_where_its_identity_stands() -> None:
    payload = msgspec.json.encode(
        {"header": {"id": "truck-7", "n": 12, "run": 3}, "at": {"due": 50}}
    )
    places = Places("$.header.id", "$.header.n", "$.header.run", "$.at.due")
    batch = ForeignPayloads(places).read([Record(payload)])
    assert identities(batch) == [(place(5), 3, 12, 50)]
    assert batch.vin == [b"truck-7"]

    simple = ForeignPayloads(Places("key", "$.n")).read([Record(b'{"n":4}'), Record(b'{"m":4}')])
    assert identities(simple) == [(place(5), 0, 4, -1), (place(5), -1, -1, -1)]
    assert simple.vin == [VIN, VIN]


@pytest.mark.parametrize(
    "record",
    [
        Record(b'{"seq":1}', key=b"cars/MC9AAT5E0T0000001/up"),
        Record(b'{"seq":1}', key=b"cars.MC9AAT5E0T0000001"),
        Record(b'{"seq":1}', key=None, headers=(("mqtt.topic", b"a/MC9AAT5E0T0000001"),)),
    ],
)
def test_the_vehicle_id_is_found_in_the_mqtt_topic_that_a_bridge_kept(record: Record) -> None:
    assert ForeignPayloads(Places("topic")).read([record]).vin == [VIN]
