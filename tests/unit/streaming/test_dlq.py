"""Letters of the dead letter queue: read from their record, shown, and named by their place."""

import json

import pytest
from aiokafka.structs import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.topics import DLQ, MQTT_TOPIC_HEADER, RAW
from motorcade.streaming.dlq import Place, letter
from motorcade.streaming.refine.dlq_headers import dlq_headers
from motorcade.streaming.refine.reasons import Refusal, Rule

KEY = b"MC9ABT5E7T0000000"


def quarantined(payload: bytes, refusal: Refusal, *, topic: str = "") -> ConsumerRecord:
    headers = ((MQTT_TOPIC_HEADER, topic.encode()),) if topic else ()
    raw = ConsumerRecord(RAW, 4, 120, 1000, 1, KEY, payload, None, 17, len(payload), headers)
    return ConsumerRecord(
        DLQ, 4, 9, 2000, 1, KEY, payload, None, 17, len(payload), dlq_headers(raw, refusal)
    )


@given(st.binary(max_size=50), st.sampled_from(Rule), st.text(max_size=30))
def test_a_letter_tells_what_refine_knew(payload: bytes, rule: Rule, reason: str) -> None:
    one = letter(quarantined(payload, Refusal(rule, reason), topic="odd"))
    assert (one.place, one.raw) == ((4, 9), (4, 120))
    assert (one.rule, one.payload, one.mqtt_topic) == (rule, payload, "odd")
    assert one.reason == reason.encode(errors="replace").decode()
    assert one.vehicle_id == KEY.decode()
    assert one.remedy
    assert json.loads(json.dumps(one.document()))["raw"] == "4/120"


def test_a_letter_of_an_unknown_rule_or_without_headers_is_still_shown() -> None:
    bare = ConsumerRecord(DLQ, 0, 1, 2000, 1, None, None, None, 0, 0, ())
    assert letter(bare).document() | {"remedy": ""} == {
        "place": "0/1",
        "refused": 2000,
        "vehicle_id": "",
        "rule": "",
        "reason": "",
        "remedy": "",
        "raw": "-1/-1",
        "sample": 0,
        "mqtt_topic": None,
        "payload": "",
    }


@given(st.integers(0, 100), st.integers(0, 2**40))
def test_a_place_reads_back_as_it_is_written(partition: int, offset: int) -> None:
    assert Place.parse(str(Place(partition, offset))) == (partition, offset)


@pytest.mark.parametrize("text", ["", "3", "3/", "/3", "a/b", "-1/2", "3/4/5"])
def test_what_is_no_place_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(MotorcadeError, match="dlq list"):
        Place.parse(text)
