"""Where a derived record came from: the source partition and offset, as a Kafka header."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from motorcade.fleet.topics import SOURCE_HEADER

_LAYOUT = struct.Struct("!iq")

Headers = Sequence[tuple[str, bytes]]


class Source(NamedTuple):
    """Partition and offset of the record that another was derived from."""

    partition: int
    offset: int


def source_header(partition: int, offset: int) -> tuple[str, bytes]:
    """The header to put first on a derived record."""
    return (SOURCE_HEADER, _LAYOUT.pack(partition, offset))


def source_of(headers: Headers) -> Source | None:
    """The source of a derived record, or None where it carries none."""
    for name, value in headers:
        if name == SOURCE_HEADER:
            return Source(*_LAYOUT.unpack(value))
    return None
