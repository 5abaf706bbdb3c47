"""Vehicle ids, shards, topics and slots keep their promises for every car."""

import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from motorcade.fleet import mqtt_topics
from motorcade.fleet.errors import IdentityError, SettingsError
from motorcade.fleet.mqtt_topics import UPSTREAM, parse, slots, topic
from motorcade.fleet.topics import PARTITIONS, TOPICS, partition_of
from motorcade.fleet.vin import check_digit, generate_vin, is_vehicle_id, is_vin, shard_of

indices = st.integers(0, 9_999_999)
ids = st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=17, max_size=17)


@pytest.mark.parametrize("vin", ["1M8GDM9AXKP042788", "11111111111111111", "5GZCZ43D13S812715"])
def test_published_vins_have_the_check_digit_we_compute(vin: str) -> None:
    assert check_digit(vin) == vin[8]
    assert is_vin(vin)


@given(st.integers(0, 10**9), indices)
def test_a_generated_vin_is_valid_and_always_the_same(seed: int, index: int) -> None:
    vin = generate_vin(seed, index)
    assert is_vin(vin)
    assert vin == generate_vin(seed, index)
    assert shard_of(vin) == f"{index % 100:02d}"


@given(st.integers(0, 528), indices, indices)
def test_two_cars_of_a_fleet_never_share_a_vin(seed: int, a: int, b: int) -> None:
    assert (generate_vin(seed, a) == generate_vin(seed, b)) == (a == b)


def test_an_index_beyond_the_fleet_is_refused() -> None:
    with pytest.raises(IdentityError):
        generate_vin(1, 10_000_000)


@given(indices, st.integers(0, 16), st.sampled_from("0123456789ABCDEFGHJKLMNPRSTUVWXYZ"))
def test_a_changed_character_that_the_check_digit_sees_is_refused(
    index: int, at: int, other: str
) -> None:
    vin = generate_vin(7, index)
    changed = vin[:at] + other + vin[at + 1 :]
    assert is_vin(changed) == (check_digit(changed) == changed[8])


def test_derived_ids_are_vehicle_ids_but_not_vins() -> None:
    assert is_vehicle_id("CMAPSSFD001000007")
    assert not is_vin("WVWZZZ1JZ3W38675I")
    assert not is_vehicle_id("short")
    assert not is_vehicle_id("wvwzzz1jz3w386752")


@given(ids, st.sampled_from([*UPSTREAM, mqtt_topics.COMMAND_REQUEST]))
def test_a_built_topic_parses_back_as_canonical(vehicle_id: str, kind: str) -> None:
    car = parse(topic(vehicle_id, kind))
    assert car == (shard_of(vehicle_id), vehicle_id, kind, True)


def test_a_wrong_shard_is_not_canonical_and_another_form_is_refused() -> None:
    assert not parse("fleet/v1/00/MC9AAT5E0T0000001/telemetry").canonical
    for name in ("fleet/v2/01/x/telemetry", "fleet/v1/01/x", "", "a/b/c/d/e"):
        with pytest.raises(IdentityError):
            parse(name)


@given(st.integers(1, 5), st.integers(1, 8), st.booleans())
def test_every_endpoint_and_shard_has_exactly_one_slot(
    endpoints: int, groups: int, clustered: bool
) -> None:
    count = groups if clustered else groups * endpoints
    taken = [
        (None if clustered else slot.endpoint, shard)
        for slot in slots(count, endpoints, clustered=clustered)
        for shard in slot.shards
    ]
    places = [None] if clustered else range(endpoints)
    assert sorted(taken, key=str) == sorted(
        ((place, shard) for place in places for shard in range(100)), key=str
    )


def test_slots_that_do_not_divide_are_refused() -> None:
    with pytest.raises(SettingsError, match="slots=3"):
        slots(3, 2, clustered=False)


@given(st.binary(max_size=64))
def test_our_partitioner_is_kafkas(key: bytes) -> None:
    assert partition_of(key) == (murmur2(key) & 0x7FFFFFFF) % PARTITIONS


def test_topics_that_derive_from_raw_have_its_partition_count() -> None:
    counts = {topic.name: topic.partitions for topic in TOPICS}
    derived = ["telemetry", "telemetry.dlq", "predictions", "alerts", "alerts.state"]
    assert {counts[name] for name in derived} == {counts["telemetry.raw"]}
