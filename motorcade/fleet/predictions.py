"""Predictions in columns: what the scorer writes and alerts, twin and audit read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import Any

import numpy as np

from motorcade.fleet.arrays import Bools, Floats, Ids, Ints
from motorcade.fleet.avro import PREDICTION_FLOATS, PREDICTION_LONGS, predictions_schema
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.columns import (
    HEADER,
    MAX_VARINT,
    Block,
    Ragged,
    RecordLayout,
    read_varints,
    schema_id_of,
)
from motorcade.fleet.errors import DecodeError


@dataclass(frozen=True)
class PredictionColumns:
    """A batch of n predictions.

    vin: (n,) S17. score (NaN when not scored), threshold, coverage: (n,) float64.
    boot, seq, time, due: identity and clocks of the scored message. partition, offset: its place
    in `telemetry`. version: of the model, 0 when none was live. All (n,) int64.
    probability, life (minutes of event time), challenger_score, challenger_threshold: (n,) float64,
    NaN where nobody told; None: nobody told of any. rest: (n,) where in each record the details
    begin; None for columns that were not decoded.
    """

    vin: Ids
    score: Floats
    threshold: Floats
    coverage: Floats
    boot: Ints
    seq: Ints
    time: Ints
    due: Ints
    partition: Ints
    offset: Ints
    version: Ints
    probability: Floats | None = None
    life: Floats | None = None
    challenger_score: Floats | None = None
    challenger_threshold: Floats | None = None
    rest: Ints | None = None

    def __len__(self) -> int:
        return len(self.vin)

    def take(self, rows: Ints | Bools) -> "PredictionColumns":
        """The rows given by index or by boolean mask."""
        found: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(
            self, **{name: value[rows] for name, value in found.items() if value is not None}
        )

    @classmethod
    def joined(cls, parts: "Sequence[PredictionColumns]") -> "PredictionColumns":
        """One batch of several that have the same columns; at least one."""
        names = [field.name for field in fields(cls) if getattr(parts[0], field.name) is not None]
        found: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in names
        }
        return replace(parts[0], **found)


_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Contributions:
    """The signals that contribute most to n scores, k of each.

    signals: names. which: (n, k) positions in `signals`, the highest contribution first. share:
    (n, k) of the score. present: (n,) whether there are any.
    """

    signals: tuple[str, ...]
    which: Ints
    share: Floats
    present: Bools

    @classmethod
    def none(cls, n: int) -> "Contributions":
        """Of n records without a score."""
        empty = np.empty((n, 0))
        return cls((), empty.astype(np.int64), empty, np.zeros(n, dtype=bool))

    def encoded(self) -> Ragged:
        """As Avro's array of records: one block of k items where there are any, and its end."""
        n, k = self.which.shape
        count = np.full((n, 1), k << 1, dtype=np.uint8)  # a zigzag varint, below 64
        parts = [Ragged(count, self.present[:, None])] if k else []
        names = Ragged.of([_string(name) for name in self.signals])
        for column in range(k):
            name = names.take(self.which[:, column])
            share = np.ascontiguousarray(self.share[:, column], dtype="<f4").view(np.uint8)
            parts += [
                Ragged(name.matrix, name.used & self.present[:, None]),
                Ragged(share.reshape(n, 4), np.repeat(self.present[:, None], 4, axis=1)),
            ]
        end = Ragged(np.zeros((n, 1), dtype=np.uint8), np.ones((n, 1), dtype=bool))
        return Ragged.beside([*parts, end])


@dataclass(frozen=True)
class Words:
    """n texts of a few: which (n,) is a position in `texts`, -1 for the empty text."""

    texts: tuple[str, ...]
    which: Ints


#: The schema of an id, None where it is no schema of predictions; may block.
Lookup = Callable[[int], dict[str, Any] | None]


class PredictionAvro:
    """Encodes and decodes `predictions` records.

    Args:
        catalogue: the fleet's signals.
        schema_id: of our own schema.
        lookup: schemas of other writers, such as an older scorer; None: there are none.
    """

    def __init__(self, catalogue: Catalogue, schema_id: int, lookup: Lookup | None = None) -> None:
        self.schema_id = schema_id
        self._layout = RecordLayout(predictions_schema(catalogue))
        self._layouts: dict[int, RecordLayout] = {schema_id: self._layout}
        self._lookup = lookup

    def encode(
        self,
        columns: PredictionColumns,
        model: str,
        reasons: Sequence[str],
        contributions: Contributions,
        kinds: Words | None = None,
    ) -> list[bytes]:
        """Encode a batch; `reasons[i]` is empty for a scored record.

        Args:
            columns: n predictions.
            model: name of the model that scored them.
            reasons: n texts.
            contributions: of n records.
            kinds: trouble codes of the most probable failures; None: none is told.
        """
        n = len(columns)
        floats = np.full((n, len(PREDICTION_FLOATS)), np.nan)
        for column, name in enumerate(PREDICTION_FLOATS):
            values = getattr(columns, name)
            if values is not None:
                floats[:, column] = values
        longs = np.stack([getattr(columns, name) for name in PREDICTION_LONGS], axis=1)
        # Every pair of a reason and a kind is encoded once: there are few.
        kinds = kinds or Words((), np.full(n, -1))
        texts = {text: number for number, text in enumerate(dict.fromkeys(reasons))}
        which = np.fromiter(map(texts.__getitem__, reasons), np.int64, n)
        model_text = _string(model)
        words = Ragged.of(
            [
                model_text + _string(reason) + _string(kind)
                for reason in texts
                for kind in ("", *kinds.texts)
            ]
        )
        pair = which * (len(kinds.texts) + 1) + kinds.which + 1
        rest = Ragged.beside([words.take(pair), contributions.encoded()])
        return self._layout.encode(self.schema_id, Block(columns.vin, floats, longs), rest)

    def decode(self, records: Sequence[bytes]) -> PredictionColumns:
        """Decode a batch; model, reason, kind and contributions are left out.

        What a writer did not know yet is NaN.

        Raises:
            DecodeError: as `RecordLayout.decode`, or a record of no known schema.
        """
        if len({record[:HEADER] for record in records}) == 1:
            return self._decode(self._layout_of(records[0]), records)
        runs = [(key, list(run)) for key, run in groupby(records, key=_head)]
        return PredictionColumns.joined(
            [self._decode(self._layout_of(key), run) for key, run in runs]
        )

    def _decode(self, layout: RecordLayout, records: Sequence[bytes]) -> PredictionColumns:
        block = layout.decode(records)
        unknown = np.full(len(block), np.nan)
        floats = dict.fromkeys(PREDICTION_FLOATS, unknown)
        floats |= dict(zip(layout.values, block.values.T, strict=True))
        longs = dict(zip(layout.longs, block.longs.T, strict=True))
        return PredictionColumns(vin=block.vin, rest=block.rest, **floats, **longs)

    def _layout_of(self, record: bytes) -> RecordLayout:
        number = schema_id_of(record)
        if number not in self._layouts:
            schema = None if self._lookup is None else self._lookup(number)
            if schema is None:
                raise DecodeError(f"The schema {number} is none of predictions.")
            layout = RecordLayout(schema)
            ours = {*PREDICTION_FLOATS, *PREDICTION_LONGS}
            if {*layout.values, *layout.longs} - ours or set(PREDICTION_LONGS) - {*layout.longs}:
                raise DecodeError(f"The schema {number} has other fields than a prediction.")
            self._layouts[number] = layout
        return self._layouts[number]

    def check_details(self, records: Sequence[bytes], columns: PredictionColumns) -> None:
        """Check that what `decode` leaves out of a batch's records is there in full.

        Raises:
            DecodeError: a record ends elsewhere than its details; their texts are not looked into.
        """
        assert columns.rest is not None
        for head, run in groupby(zip(records, columns.rest.tolist(), strict=True), key=_head_of):
            tails = {record[at:] for record, at in run}
            if not _end_with_details(list(tails), len(self._layout_of(head).rest) - 1):
                raise DecodeError("A prediction's details do not end where it ends.")

    def decode_one(self, record: bytes) -> dict[str, Any]:
        """One record in full; a kind that its writer did not know yet is empty.

        Raises:
            DecodeError: as `decode`.
        """
        return {"kind": "", **dict.fromkeys(PREDICTION_FLOATS, np.nan)} | self._layout_of(
            record
        ).decode_one(record)


def _head(record: bytes) -> bytes:
    return record[:HEADER]


def _head_of(pair: tuple[bytes, int]) -> bytes:
    return pair[0][:HEADER]


def _end_with_details(tails: list[bytes], texts: int) -> bool:
    """Whether each is so many texts and an Avro array of (text, float), and no more."""
    data = b"".join([*tails, bytes(MAX_VARINT)])
    length = np.fromiter(map(len, tails), np.int64, len(tails))
    ends = np.cumsum(length)

    def after_text(at: Ints) -> Ints:
        size, at = read_varints(data, at)
        return np.where((size < 0) | (size > ends - at), ends + 1, at + size)

    at = ends - length
    for _ in range(texts):
        at = after_text(at)
    done = np.zeros(len(tails), dtype=bool)
    while (at <= ends).all() and not done.all():
        count, after = read_varints(data, at)
        count, at = np.where(done, 0, count), np.where(done, at, after)
        if (count < 0).any() and (at <= ends).all():  # the block's size in bytes follows
            at = np.where(count < 0, read_varints(data, at)[1], at)
            count = abs(count)
        done |= count == 0
        while (open_ := count > 0).any() and (at <= ends).all():
            at = np.where(open_, after_text(at) + _FLOAT_BYTES, at)
            count -= open_
    return bool((at == ends).all())


def _long(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _string(text: str) -> bytes:
    data = text.encode()
    return _long(len(data)) + data
