"""The MQTT packets we build are read by gmqtt's own parser, and the other way round."""

import pytest
from gmqtt import Message
from gmqtt.mqtt.package import LoginPackageFactor, PublishPacket, SubscribePacket
from gmqtt.mqtt.utils import unpack_variable_byte_integer
from gmqtt.subscription import Subscription
from hypothesis import given
from hypothesis import strategies as st

from motorcade.fleet.errors import DecodeError
from motorcade.runtime import mqtt_packets as packets

topics = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="+#\0"),
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
        self.proto_name = b"MQTT"
        self.id_generator = self

    def next_id(self) -> int:
        return self.packet_id


def body(packet: bytes) -> bytes:
    length, rest = unpack_variable_byte_integer(packet[1:])
    assert len(rest) == length
    return bytes(rest)


@given(topics, st.binary(max_size=20_000), st.integers(0, 65535), st.booleans(), properties)
def test_a_publish_reads_back_as_it_was_written_and_equals_gmqtts(
    topic: str, payload: bytes, packet_id: int, retain: bool, props: packets.Properties
) -> None:
    block = packets.encode_properties(props)
    packet = packets.publish(topic.encode(), payload, packet_id, retain, block)
    assert packets.parse_publish(packet[0], body(packet)) == (packet_id, topic, payload, props)
    message = Message(topic, payload, qos=1 if packet_id else 0, retain=retain, **props)
    assert packet == PublishPacket.build_package(message, FixedIds(packet_id))[1]
    again = packets.publish(topic.encode(), payload, packet_id, retain, block, duplicate=True)
    assert again == bytes((packet[0] | 0x08,)) + packet[1:]


@given(properties, st.integers(1, 65535))
def test_a_topic_alias_stands_beside_the_other_properties(
    props: packets.Properties, alias: int
) -> None:
    block = packets.with_alias(alias, packets.encode_properties(props))
    packet = packets.publish(b"", b"x", 1, False, block)
    read = packets.parse_publish(packet[0], body(packet))
    assert read == (1, "", b"x", {"topic_alias": alias, **props})


ascii_text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


@given(
    ascii_text, ascii_text, st.binary(max_size=300), st.booleans(), st.integers(0, 1), properties
)
def test_a_connect_equals_gmqtts(
    client_id: str, name: str, payload: bytes, flag: bool, qos: int, props: packets.Properties
) -> None:
    wanted = {"receive_maximum": 7, "session_expiry_interval": 60}
    will = packets.WillMessage("w/" + name, payload, qos, flag, packets.encode_properties(props))
    theirs = LoginPackageFactor.build_package(
        client_id,
        name.encode(),
        b"secret",
        flag,
        61,
        FixedIds(0),
        will_message=Message("w/" + name, payload, qos=qos, retain=flag, **props),
        **wanted,
    )
    ours = packets.connect(
        client_id,
        clean_start=flag,
        keepalive_s=61,
        properties=packets.encode_properties(wanted),
        will=will,
        username=name,
        password="secret",
    )
    assert ours == theirs
    bare = LoginPackageFactor.build_package(client_id, None, None, flag, 0, FixedIds(0))
    assert bare == packets.connect(client_id, clean_start=flag, keepalive_s=0, properties=b"\0")


@given(st.lists(ascii_text, min_size=1, max_size=5), st.integers(1, 65535), st.integers(0, 1))
def test_a_subscribe_equals_gmqtts(filters: list[str], packet_id: int, qos: int) -> None:
    wanted = [Subscription(name, qos=qos, retain_handling_options=1) for name in filters]
    theirs = SubscribePacket.build_package(wanted, FixedIds(packet_id))[1]
    assert packets.subscribe(packet_id, filters, qos) == theirs


def test_lengths_count_bytes_and_not_letters() -> None:
    packet = packets.connect("Ä" * 70, clean_start=True, keepalive_s=0, properties=b"\0")
    assert body(packet)[-142:] == b"\0\x8c" + ("Ä" * 70).encode()


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
        packets.encode_properties({"content_typ": "x"})


def test_many_pubacks_are_four_bytes_each_and_success() -> None:
    data = packets.pubacks([1, 65535, 258])
    assert data == bytes.fromhex("40020001 4002ffff 40020102")
    assert packets.parse_puback(data[2:4]) == (1, 0)
    assert packets.parse_puback(bytes((0, 7, 0x97, 0))) == (7, 0x97)


def test_user_properties_may_stand_several_times() -> None:
    pairs = [("a", "1"), ("a", "2")]
    block = packets.encode_properties({"user_property": tuple(pairs)})
    packet = packets.publish(b"t", b"", 1, False, block)
    assert packets.parse_publish(packet[0], body(packet)).properties == {"user_property": pairs}


def test_a_connack_gives_reason_and_limits() -> None:
    answer = packets.parse_connack(bytes.fromhex("0100 08 2100ff 2700040000"))
    assert answer == (True, 0, {"receive_maximum": 255, "maximum_packet_size": 262144})
    assert packets.parse_connack(bytes((0, 0x87))) == (False, 0x87, {})
