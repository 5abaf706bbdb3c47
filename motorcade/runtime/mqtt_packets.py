"""MQTT 5 packets on the hot path, as pure functions: PUBLISH and acknowledgements, both ways.

gmqtt's own handling parses and logs every packet at several times the cost, answers PUBLISH before
anybody has taken the message and never reads a PUBACK's reason code. Its property table is used.
"""

import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from gmqtt.mqtt.package import PackageFactory
from gmqtt.mqtt.property import Property
from gmqtt.mqtt.utils import pack_variable_byte_integer, unpack_variable_byte_integer

from motorcade.fleet.errors import DecodeError

Properties = dict[str, Any]

DUP = 0x08
_RETAIN = 0x01
_PUBLISH = 0x30
_PUBACK_2 = 0x4002  # PUBACK of remaining length 2: reason code 0 may be left out (MQTT 5, 3.4.2.1)
_TWO_WORDS = struct.Struct("!HH")
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


def publish(
    topic: str, payload: bytes, packet_id: int, *, retain: bool, properties: Properties
) -> bytes:
    """A PUBLISH packet; packet id 0 means QoS 0, any other QoS 1."""
    block = _encode_properties(tuple(properties.items())) if properties else b"\0"
    name = topic.encode()
    head = len(name).to_bytes(2, "big") + name
    if packet_id:
        head += packet_id.to_bytes(2, "big")
    size = len(head) + len(block) + len(payload)
    first = _PUBLISH | (0x02 if packet_id else 0) | (_RETAIN if retain else 0)
    length = (
        bytes((first, size))
        if size < 128
        else bytes((first,)) + bytes(pack_variable_byte_integer(size))
    )
    return b"".join((length, head, block, payload))


def pubacks(packet_ids: Iterable[int]) -> bytes:
    """One PUBACK of success for each packet id, to be written at once."""
    pack = _TWO_WORDS.pack
    return b"".join([pack(_PUBACK_2, packet_id) for packet_id in packet_ids])


def _block(data: bytes) -> tuple[bytes, bytes]:
    """Split off a property block: (block, what follows)."""
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
    for name, _ in items:
        if Property.factory(name=name) is None:
            raise TypeError(f"{name!r} is not an MQTT 5 property")
    return bytes(PackageFactory._build_properties_data(dict(items), 5))
