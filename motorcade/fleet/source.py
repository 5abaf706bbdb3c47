"""Where a derived record came from: partition, offset and sample, as a Kafka header."""

import struct
from collections.abc import Sequence
from typing import NamedTuple, overload

import numpy as np

from motorcade.fleet.arrays import Ints
from motorcade.fleet.topics import SOURCE_HEADER

_RECORD = struct.Struct("!iq")
_SAMPLE = struct.Struct("!iqH")

_RECORDS = np.dtype([("partition", ">i4"), ("offset", ">i8")])
_SAMPLES = np.dtype([*_RECORDS.descr, ("index", ">u2")])

#: Samples that one raw record may hold.
MAX_SAMPLES = 4096

Headers = Sequence[tuple[str, bytes]]


class Source(NamedTuple):
    """Partition and offset of the record that another was derived from, and which sample of it.

    `index` counts the samples of a batch from 0; it is 0 for a record that holds one. Within a
    partition, sources are ordered by (offset, index).
    """

    partition: int
    offset: int
    index: int = 0  # type: ignore[assignment]  # nobody asks a source for tuple.index

    @property
    def place(self) -> int:
        """Offset and index as one number of the same order."""
        return place(self.offset, self.index)


@overload
def place(offset: int, index: int = 0) -> int: ...
@overload
def place(offset: Ints, index: Ints | int = 0) -> Ints: ...
def place(offset: int | Ints, index: int | Ints = 0) -> int | Ints:
    """Offset and index as one number of the same order."""
    return offset * MAX_SAMPLES + index


def source_header(partition: int, offset: int, index: int = 0) -> tuple[str, bytes]:
    """The header to put first on a derived record: 12 bytes, and two more for an index above 0."""
    if index:
        return (SOURCE_HEADER, _SAMPLE.pack(partition, offset, index))
    return (SOURCE_HEADER, _RECORD.pack(partition, offset))


def places(headers: Sequence[Headers]) -> tuple[Ints, Ints] | None:
    """Partition and place of n derived records' sources, each (n,), where all carry one first."""
    try:
        firsts = [one[0] for one in headers]
    except IndexError:
        return None
    values = [value for name, value in firsts if name == SOURCE_HEADER]
    if len(values) < len(headers):
        return None
    data = b"".join(values)
    if len(data) > len(values) * _RECORD.size:
        data = b"".join([value.ljust(_SAMPLE.size, b"\0") for value in values])
        found = np.frombuffer(data, dtype=_SAMPLES)
        return found["partition"].astype(np.int64), place(
            found["offset"].astype(np.int64), found["index"].astype(np.int64)
        )
    found = np.frombuffer(data, dtype=_RECORDS)
    return found["partition"].astype(np.int64), place(found["offset"].astype(np.int64))


def source_of(headers: Headers) -> Source | None:
    """The source of a derived record, or None where it carries none."""
    for name, value in headers:
        if name == SOURCE_HEADER:
            layout = _RECORD if len(value) == _RECORD.size else _SAMPLE
            return Source(*layout.unpack(value))
    return None
