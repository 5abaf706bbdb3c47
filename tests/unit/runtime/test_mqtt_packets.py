"""The MQTT packets we build are read by gmqtt's own parser, and the other way round."""

import pytest
from gmqtt import Message
from gmqtt.mqtt.package import PublishPacket
from gmqtt.mqtt.utils import unpack_variable_byte_integer
from hypothesis import given
from hypothesis import strategies as st

from motorcade.fleet.errors import DecodeError
from motorcade.runtime import mqtt_packets as packets

topics = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="+#\0"),
    min_size=1,
    max_size=40,
)
properties = st.fixed_dictionaries(
    {},
    optional={
        "content_type": st.text(max_size=10),
        "message_expiry_interval": st.integers(0, 2**32 - 1),
        "response_topic": st.text(max_size=20),
        "correlation_data": st.binary(max_size=20),
        "payload_format_id": st.integers(0, 1),
    },
)


class FixedIds:
    def __init__(self, packet_id: int) -> None:
        self.packet_id = packet_id
        self.proto_ver = 5
        self.id_generator = self

    def next_id(self) -> int:
        return self.packet_id


def body(packet: bytes) -> bytes:
    length, rest = unpack_variable_byte_integer(packet[1:])
    assert len(rest) == length
    return rest


@given(topics, st.binary(max_size=20_000), st.integers(0, 65535), st.booleans(), properties)
def test_a_publish_reads_back_as_it_was_written_and_equals_gmqtts(
    topic: str, payload: bytes, packet_id: int, retain: bool, props: packets.Properties
) -> None:
    packet = packets.publish(topic, payload, packet_id, retain=retain, properties=props)
    assert packets.parse_publish(packet[0], body(packet)) == (packet_id, topic, payload, props)
    message = Message(topic, payload, qos=1 if packet_id else 0, retain=retain, **props)
    assert packet == PublishPacket.build_package(message, FixedIds(packet_id))[1]


@given(st.binary(max_size=60), st.sampled_from([0x30, 0x32]))
def test_any_bytes_either_parse_or_are_a_decode_error(data: bytes, first: int) -> None:
    for parse in (
        lambda: packets.parse_publish(first, data),
        lambda: packets.parse_connack(data),
        lambda: packets.parse_suback(data),
        lambda: packets.parse_puback(data),
    ):
        try:
            parse()
        except DecodeError as error:
            assert "MQTT" in str(error) or "packet" in str(error)  # noqa: PT017 - any bytes may do


def test_an_unknown_property_name_is_refused_when_publishing() -> None:
    with pytest.raises(TypeError, match="'content_typ' is not an MQTT 5 property"):
        packets.publish("t", b"", 1, retain=False, properties={"content_typ": "x"})


def test_many_pubacks_are_four_bytes_each_and_success() -> None:
    data = packets.pubacks([1, 65535, 258])
    assert data == bytes.fromhex("40020001 4002ffff 40020102")
    assert packets.parse_puback(data[2:4]) == (1, 0)
    assert packets.parse_puback(bytes((0, 7, 0x97, 0))) == (7, 0x97)


def test_user_properties_may_stand_several_times() -> None:
    pairs = [("a", "1"), ("a", "2")]
    packet = packets.publish("t", b"", 1, retain=False, properties={"user_property": tuple(pairs)})
    assert packets.parse_publish(packet[0], body(packet)).properties == {"user_property": pairs}


def test_a_connack_gives_reason_and_limits() -> None:
    answer = packets.parse_connack(bytes.fromhex("0100 08 2100ff 2700040000"))
    assert answer == (True, 0, {"receive_maximum": 255, "maximum_packet_size": 262144})
    assert packets.parse_connack(bytes((0, 0x87))) == (False, 0x87, {})
