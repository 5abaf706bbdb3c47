"""MQTT 5 packets as pure functions: what a client writes and what it reads.

gmqtt's own builders cost several times as much and take the length of a text for its length in
bytes; its handler answers PUBLISH before anybody has taken the message and never reads a PUBACK's
reason code. Its table of properties is used.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from gmqtt.mqtt.property import Property
from gmqtt.mqtt.utils import unpack_variable_byte_integer

from motorcade.fleet.errors import DecodeError

Properties = dict[str, Any]

CONNACK = 0x20
PUBLISH = 0x30
PUBACK = 0x40
SUBACK = 0x90
DISCONNECT = 0xE0
PINGREQ = b"\xc0\0"

_CONNECT = 0x10
_SUBSCRIBE = 0x82
_DUP = 0x08
_QOS_1 = 0x02
_RETAIN = 0x01
_CLEAN_START = 0x02
_WILL = 0x04
_WILL_RETAIN = 0x20
_PASSWORD = 0x40
_USERNAME = 0x80
#: Retained messages come with a new subscription only (MQTT 5, 3.8.3.1).
_RETAIN_IF_NEW = 0x10
_MQTT_5 = b"\0\x04MQTT\x05"
_PUBACK_2 = 0x4002  # PUBACK of remaining length 2: reason code 0 may be left out (MQTT 5, 3.4.2.1)
#: First byte, remaining length in two bytes, length of the topic.
_HEADER_2_WORD = struct.Struct(">BBBH")
_TWO_WORDS = struct.Struct("!HH")
_WORD = struct.Struct("!H")
_FLAGS_KEEPALIVE = struct.Struct("!BH")
_TOPIC_ALIAS = struct.Struct("!BH")
_TOPIC_ALIAS_ID = 0x23
_NO_PROPERTIES: Properties = {}


class Connack(NamedTuple):
    """Answer to CONNECT."""

    session_present: bool
    reason_code: int
    properties: Properties


class Suback(NamedTuple):
    """Answer to SUBSCRIBE: one reason code per filter; 0x80 and above are failures."""

    packet_id: int
    reason_codes: tuple[int, ...]


class Publish(NamedTuple):
    """A received message; packet_id is 0 at QoS 0. Properties are shared: never change them."""

    packet_id: int
    topic: str
    payload: bytes
    properties: Properties


class WillMessage(NamedTuple):
    """What CONNECT carries of a will; properties are encoded."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: bytes


# -- what a client reads -------------------------------------------------------------------------


def parse_publish(first_byte: int, body: bytes) -> Publish:
    """Read a PUBLISH; `body` is what follows the fixed header.

    Raises:
        DecodeError: the packet is malformed.
    """
    try:
        at = 2 + (body[0] << 8 | body[1])
        topic = body[2:at].decode()
        packet_id = 0
        if first_byte & 0x06:
            packet_id = body[at] << 8 | body[at + 1]
            at += 2
        if body[at] == 0:
            return Publish(packet_id, topic, body[at + 1 :], _NO_PROPERTIES)
        length, rest = unpack_variable_byte_integer(body[at : at + 4])
        at += min(4, len(body) - at) - len(rest)
        block = body[at : at + length]
    except (IndexError, ValueError) as error:
        raise DecodeError(f"A PUBLISH packet is malformed: {error}.") from error
    return Publish(packet_id, topic, body[at + length :], _properties(block))


def parse_connack(body: bytes) -> Connack:
    """Read a CONNACK.

    Raises:
        DecodeError: the packet is malformed.
    """
    try:
        properties = _properties(_block(body[2:])[0]) if len(body) > 2 else _NO_PROPERTIES
        return Connack(bool(body[0] & 1), body[1], properties)
    except (IndexError, ValueError) as error:
        raise DecodeError(f"A CONNACK packet is malformed: {error}.") from error


def parse_suback(body: bytes) -> Suback:
    """Read a SUBACK.

    Raises:
        DecodeError: the packet is malformed.
    """
    try:
        return Suback(body[0] << 8 | body[1], tuple(_block(body[2:])[1]))
    except (IndexError, ValueError) as error:
        raise DecodeError(f"A SUBACK packet is malformed: {error}.") from error


def parse_puback(body: bytes) -> tuple[int, int]:
    """Packet id and reason code of a PUBACK.

    Raises:
        DecodeError: the packet is malformed.
    """
    if len(body) < 2:
        raise DecodeError("A PUBACK packet is malformed: it has no packet id.")
    return body[0] << 8 | body[1], body[2] if len(body) > 2 else 0


# -- what a client writes ------------------------------------------------------------------------


def connect(
    client_id: str,
    *,
    clean_start: bool,
    keepalive_s: int,
    properties: bytes,
    will: WillMessage | None = None,
    username: str | None = None,
    password: str | None = None,
) -> bytes:
    """A CONNECT packet; `properties` are encoded."""
    flags = _CLEAN_START if clean_start else 0
    parts = [properties, _text(client_id)]
    if will is not None:
        flags |= _WILL | will.qos << 3 | (_WILL_RETAIN if will.retain else 0)
        parts += (will.properties, _text(will.topic), _WORD.pack(len(will.payload)), will.payload)
    if username is not None:
        flags |= _USERNAME
        parts.append(_text(username))
    if password is not None:
        flags |= _PASSWORD
        parts.append(_text(password))
    body = b"".join((_MQTT_5, _FLAGS_KEEPALIVE.pack(flags, keepalive_s), *parts))
    return _fixed_header(_CONNECT, len(body)) + body


def subscribe(packet_id: int, filters: Sequence[str], qos: int) -> bytes:
    """A SUBSCRIBE packet that asks for retained messages with new subscriptions only."""
    options = bytes((_RETAIN_IF_NEW | qos,))
    parts = [part for name in filters for part in (_text(name), options)]
    body = b"".join((_WORD.pack(packet_id), b"\0", *parts))
    return _fixed_header(_SUBSCRIBE, len(body)) + body


def disconnect(reason_code: int) -> bytes:
    """A DISCONNECT packet."""
    return bytes((DISCONNECT, 2, reason_code, 0))


def publish(
    topic: bytes,
    payload: bytes,
    packet_id: int,
    retain: bool,
    properties: bytes,
    duplicate: bool = False,
) -> bytes:
    """A PUBLISH packet; packet id 0 means QoS 0, any other QoS 1. `properties` are encoded."""
    first = PUBLISH | retain | (_DUP if duplicate else 0)
    size = 2 + len(topic) + len(properties) + len(payload)
    if not packet_id:
        head = _fixed_header(first, size) + _WORD.pack(len(topic))
        return b"".join((head, topic, properties, payload))
    first |= _QOS_1
    size += 2
    if 0x80 <= size < 0x4000:  # as nearly all are; one call instead of three
        head = _HEADER_2_WORD.pack(first, size & 0x7F | 0x80, size >> 7, len(topic))
    else:
        head = _fixed_header(first, size) + _WORD.pack(len(topic))
    return b"".join((head, topic, _WORD.pack(packet_id), properties, payload))


def pubacks(packet_ids: Iterable[int]) -> bytes:
    """One PUBACK of success for each packet id, to be written at once."""
    pack = _TWO_WORDS.pack
    return b"".join([pack(_PUBACK_2, packet_id) for packet_id in packet_ids])


def encode_properties(properties: Mapping[str, Any]) -> bytes:
    """Properties by name as a packet carries them, with their length.

    Raises:
        TypeError: a name is not an MQTT 5 property.
    """
    return _encode_properties(tuple(properties.items())) if properties else b"\0"


def with_alias(alias: int, properties: bytes) -> bytes:
    """Encoded properties and a topic alias."""
    block = _block(properties)[0]
    size = _variable_integer(len(block) + _TOPIC_ALIAS.size)
    return size + _TOPIC_ALIAS.pack(_TOPIC_ALIAS_ID, alias) + block


def _text(text: str) -> bytes:
    data = text.encode()
    return _WORD.pack(len(data)) + data


def _fixed_header(first_byte: int, size: int) -> bytes:
    if size < 0x80:
        return bytes((first_byte, size))
    if size < 0x4000:
        return bytes((first_byte, size & 0x7F | 0x80, size >> 7))
    return bytes((first_byte,)) + _variable_integer(size)


def _variable_integer(number: int) -> bytes:
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def _block(data: bytes) -> tuple[bytes, bytes]:
    """Split off a property block: (block, what follows)."""
    length: int
    rest: bytes
    length, rest = unpack_variable_byte_integer(data)
    return rest[:length], rest[length:]


@lru_cache(maxsize=1024)
def _properties(block: bytes) -> Properties:
    """Properties by name; a user property is a list of pairs, as it may stand several times."""
    found: Properties = {}
    while block:
        kind = Property.factory(id_=block[0])
        if kind is None:
            raise DecodeError(f"MQTT property {block[0]} is unknown.")
        try:
            item, block = kind.loads(block[1:])
        except (struct.error, IndexError, ValueError) as error:
            raise DecodeError(f"MQTT property {kind.name} is malformed: {error}.") from error
        for name, value in item.items():
            if name == "user_property":
                found.setdefault(name, []).append(value)
            else:
                found[name] = value
    return found


@lru_cache(maxsize=1024)
def _encode_properties(items: tuple[tuple[str, Any], ...]) -> bytes:
    block = bytearray()
    for name, value in items:
        kind = Property.factory(name=name)
        if kind is None:
            raise TypeError(f"{name!r} is not an MQTT 5 property")
        block += kind.dumps(value)
    return _variable_integer(len(block)) + bytes(block)
