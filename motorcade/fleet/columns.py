"""Columnar Avro: a batch of records with a front of constant width, as NumPy columns and back.

A record is Confluent's wire format (zero byte, schema id) around ordinary Avro whose fields stand
in this order: a 17-character string `vin`, floats and doubles, longs, then anything else. The
front up to the longs has one width, so a batch is one NumPy block; the longs decode column by
column. Any Avro client reads the same bytes.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import fastavro
import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Bools, Floats, Ids, Ints
from motorcade.fleet.avro import Schema
from motorcade.fleet.errors import DecodeError
from motorcade.fleet.vin import LENGTH

MAGIC = 0
VIN_LENGTH_BYTE = LENGTH << 1  # Avro's zigzag varint of 17
MAX_VARINT = 10
HEADER = 5


@dataclass(frozen=True)
class Block:
    """A batch of n decoded records.

    vin: (n,) S17; values: (n, floats) float64; longs: (n, longs) int64. rest: (n,) where in each
    record the fields after the longs begin; None for a block that was not decoded.
    """

    vin: Ids
    values: Floats
    longs: Ints
    rest: Ints | None = None

    def __len__(self) -> int:
        return len(self.vin)


@dataclass(frozen=True)
class Ragged:
    """n byte strings of different lengths: the used places of a matrix, in the order of columns.

    matrix: (n, width) uint8; used: (n, width).
    """

    matrix: NDArray[np.uint8]
    used: Bools

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> "Ragged":
        """Byte strings as they are."""
        lengths = np.array([len(text) for text in texts])
        width = int(lengths.max(initial=0))
        padded = b"".join([text.ljust(width, b"\0") for text in texts])
        matrix = np.frombuffer(padded, dtype=np.uint8).reshape(len(texts), width)
        return cls(matrix, np.arange(width) < lengths[:, None])

    @classmethod
    def beside(cls, parts: "Sequence[Ragged]") -> "Ragged":
        """Row by row, the strings of several one after the other."""
        return cls(
            np.concatenate([part.matrix for part in parts], axis=1),
            np.concatenate([part.used for part in parts], axis=1),
        )

    def take(self, rows: Ints) -> "Ragged":
        """The rows given by index."""
        return Ragged(self.matrix[rows], self.used[rows])

    def rows(self) -> list[bytes]:
        """The strings."""
        data = self.matrix[self.used].tobytes()
        ends = np.cumsum(self.used.sum(axis=1)).tolist()
        return [data[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]


class RecordLayout:
    """The columns of one schema.

    Raises:
        DecodeError: the schema does not begin with vin, or a field of constant width follows one
            of variable width, so the layout does not hold.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._parsed = fastavro.parse_schema(schema)
        fields = [(f["name"], f["type"]) for f in schema["fields"]]
        if not fields or fields[0] != ("vin", "string"):
            raise DecodeError(f"The schema {schema.get('name')} does not begin with vin.")
        front: list[tuple[str, str]] = []
        longs: list[str] = []
        rest: list[str] = []
        for name, kind in fields[1:]:
            if kind in ("float", "double") and not longs and not rest:
                front.append((name, "<f4" if kind == "float" else "<f8"))
            elif kind in ("long", "int") and not rest:
                longs.append(name)
            elif kind in ("float", "double"):
                raise DecodeError(
                    f"The schema {schema.get('name')} has the constant-width field {name} "
                    "after one of variable width."
                )
            else:
                rest.append(name)
        self.values = tuple(name for name, _ in front)
        self.longs = tuple(longs)
        self.rest = tuple(rest)
        self._dtype = np.dtype(
            [("magic", "u1"), ("id", ">u4"), ("length", "u1"), ("vin", f"S{LENGTH}"), *front]
        )

    @cached_property
    def width(self) -> int:
        """Bytes of a record's front, wire header included."""
        return self._dtype.itemsize

    def encode(self, schema_id: int, block: Block, rest: "Ragged | None" = None) -> list[bytes]:
        """Encode a block; `rest` holds the Avro bytes of the fields after the longs."""
        n = len(block)
        front = np.zeros(n, dtype=self._dtype)
        front["id"] = schema_id
        front["length"] = VIN_LENGTH_BYTE
        front["vin"] = block.vin
        for column, name in enumerate(self.values):
            front[name] = block.values[:, column]
        tail = MAX_VARINT * len(self.longs)
        matrix = np.empty((n, self.width + tail), dtype=np.uint8)
        matrix[:, : self.width] = front.view(np.uint8).reshape(n, self.width)
        used = np.ones((n, self.width + tail), dtype=bool)
        for column in range(len(self.longs)):
            at = self.width + MAX_VARINT * column
            _varints(
                block.longs[:, column],
                matrix[:, at : at + MAX_VARINT],
                used[:, at : at + MAX_VARINT],
            )
        whole = Ragged(matrix, used)
        return (whole if rest is None else Ragged.beside([whole, rest])).rows()

    def decode(self, records: Sequence[bytes]) -> Block:
        """Decode records that all have this layout's schema.

        Raises:
            DecodeError: a record is cut short, is not in the wire format, or its vin is not 17
                characters long; the message gives its position in the batch.
        """
        n = len(records)
        lengths = np.fromiter(map(len, records), dtype=np.int64, count=n)
        short = lengths < self.width + len(self.longs)
        if short.any():
            at = int(np.flatnonzero(short)[0])
            raise DecodeError(f"Record {at} of the batch is cut short at {lengths[at]} bytes.")
        # Padding lets every tail be gathered at full width without reading past the end.
        data = b"".join([*records, bytes(MAX_VARINT * len(self.longs) + _WORD)])
        starts = np.cumsum(lengths) - lengths
        # As plain bytes first: NumPy gathers records of fields one field at a time.
        plain = np.dtype((np.void, self.width))
        front = _at_every_byte(data, plain)[starts].view(self._dtype)
        bad = (front["magic"] != MAGIC) | (front["length"] != VIN_LENGTH_BYTE)
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            raise DecodeError(f"Record {at} of the batch does not have the layout's front.")
        values = np.empty((n, len(self.values)), dtype=np.float64)
        for column, name in enumerate(self.values):
            values[:, column] = front[name]
        longs = np.empty((n, len(self.longs)), dtype=np.int64)
        position = starts + self.width
        for column in range(len(self.longs)):
            longs[:, column], position = read_varints(data, position)
        if (position > starts + lengths).any():
            at = int(np.flatnonzero(position > starts + lengths)[0])
            raise DecodeError(f"Record {at} of the batch ends within a number.")
        return Block(front["vin"].copy(), values, longs, position - starts)

    def decode_one(self, record: bytes) -> dict[str, Any]:
        """One record in full, every field by name, through fastavro.

        Raises:
            DecodeError: the bytes do not decode under the schema.
        """
        try:
            value = fastavro.schemaless_reader(io.BytesIO(record[HEADER:]), self._parsed, None)
        except (EOFError, ValueError, IndexError) as error:
            raise DecodeError(
                f"A record does not decode as {self.schema['name']}: {error}."
            ) from error
        assert isinstance(value, dict)
        return value


def schema_id_of(record: bytes) -> int:
    """The schema id in a record's wire header.

    Raises:
        DecodeError: the record does not begin with the wire header.
    """
    if len(record) < HEADER or record[0] != MAGIC:
        raise DecodeError("A record is not in Confluent's wire format (zero byte, schema id).")
    return int.from_bytes(record[1:HEADER], "big")


def _varints(column: Ints, out: NDArray[np.uint8], used: Bools) -> None:
    """Zigzag varints (Avro 1.12, "Binary encoding") of (n,) int64 into (n, 10) bytes and mask."""
    zigzag = ((column << 1) ^ (column >> 63)).astype(np.uint64)
    for i in range(MAX_VARINT):
        used[:, i] = True if i == 0 else zigzag != 0
        more = (zigzag >> np.uint64(7)) != 0
        out[:, i] = (zigzag & np.uint64(0x7F)).astype(np.uint8) | (more.astype(np.uint8) << 7)
        zigzag >>= np.uint64(7)


def read_varints(data: bytes, position: Ints) -> tuple[Ints, Ints]:
    """Read one zigzag varint (Avro's long) at each position; returns (values, next positions).

    Args:
        data: behind the last position that is asked for there are ten bytes more.
        position: (n,).
    """
    word = _at_every_byte(data, np.dtype("<u8"))[position]
    # The first byte without its high bit ends a number; `last` is that bit's place in the word.
    ends = ~word & _HIGH
    last = ends & (~ends + _ONE)
    bits = word & (last - _ONE) & ~_HIGH
    for mask, shift in _JOINS:
        bits = (bits & mask) | ((bits & ~mask) >> shift)
    values = (bits >> _ONE).view(np.int64) ^ -(bits & _ONE).view(np.int64)
    following = position + (np.frexp(last.astype(np.float64))[1] >> 3)
    for row in np.flatnonzero(ends == 0).tolist():  # beyond 56 bits
        values[row], following[row] = _read_varint(data, int(position[row]))
    return values, following


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    bits = 0
    for place in range(MAX_VARINT):
        byte = data[at + place]
        bits |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            break
    value = (bits >> 1) ^ -(bits & 1)
    return (value + (1 << 63)) % (1 << 64) - (1 << 63), at + place + 1


#: Groups of 7 bits in bytes, of 14 in pairs of bytes, of 28 in halves: what stays, and how far the
#: rest moves down to join it.
_JOINS = (
    (np.uint64(0x007F007F007F007F), np.uint64(1)),
    (np.uint64(0x00003FFF00003FFF), np.uint64(2)),
    (np.uint64(0x000000000FFFFFFF), np.uint64(4)),
)
_HIGH = np.uint64(0x8080808080808080)
_ONE = np.uint64(1)
_WORD = 8


def _at_every_byte(data: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    """What can be read at each byte, overlapping: index k is what begins at byte k."""
    return np.ndarray((len(data) - dtype.itemsize + 1,), dtype, buffer=data, strides=(1,))
