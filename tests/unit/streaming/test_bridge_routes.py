"""Where the bridge puts a message: by kind, under the car's key, its odd topic name kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motorcade.fleet import mqtt_topics, topics
from motorcade.fleet.vin import generate_vin
from motorcade.streaming.routes import TOPIC_OF_KIND, Route, route

VIN = generate_vin(1, 7)
vins: st.SearchStrategy[str] = st.builds(generate_vin, st.integers(0, 500), st.integers(0, 10**6))


@given(vins, st.sampled_from(mqtt_topics.UPSTREAM))
def test_a_cars_own_topic_needs_no_header(vin: str, kind: str) -> None:
    assert route(mqtt_topics.topic(vin, kind)) == Route(TOPIC_OF_KIND[kind], vin.encode(), [])


def test_each_upstream_kind_has_its_topic() -> None:
    assert set(TOPIC_OF_KIND) == set(mqtt_topics.UPSTREAM)


@pytest.mark.parametrize(
    ("name", "topic", "key"),
    [
        (f"fleet/v1/99/{VIN}/telemetry", topics.RAW, VIN),
        (f"fleet/v1/99/{VIN}/dtc", topics.DTC, VIN),
        (f"fleet/v1/07/{VIN}/gossip", topics.RAW, VIN),
        (f"fleet/v1/07/{VIN}/commands/request", topics.RAW, VIN),
        ("fleet/v1/07/nobody/status", topics.STATUS, "nobody"),
        ("fleet/v1/07//telemetry", topics.RAW, ""),
        ("fleet/v2/07/x/telemetry", topics.RAW, "fleet/v2/07/x/telemetry"),
        ("elsewhere", topics.RAW, "elsewhere"),
    ],
)
def test_any_other_topic_name_travels_in_a_header(name: str, topic: str, key: str) -> None:
    header = [(topics.MQTT_TOPIC_HEADER, name.encode())]
    assert route(name) == Route(topic, key.encode(), header)


@given(st.text(min_size=1, max_size=60) | st.builds("fleet/v1/{}".format, st.text(max_size=40)))
def test_whatever_the_name_there_is_a_route_and_nothing_of_the_name_is_lost(name: str) -> None:
    found = route(name)
    if found.headers:
        assert found.headers == [(topics.MQTT_TOPIC_HEADER, name.encode())]
    else:
        (kind,) = (kind for kind, topic in TOPIC_OF_KIND.items() if topic == found.topic)
        assert mqtt_topics.topic(found.key.decode(), kind) == name
