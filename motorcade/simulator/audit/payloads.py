"""Identities from payloads of every form, also from those that break a rule.

The first byte tells the form: 0 begins Avro frames back to back, `[` a JSON batch, anything else is
one JSON object. What holds no identity counts as one sample without, at index 0.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import msgspec
import numpy as np

from motorcade.fleet.arrays import Ints
from motorcade.fleet.avro import IDENTITY_FIELDS
from motorcade.fleet.columns import RecordLayout, schema_id_of
from motorcade.fleet.errors import DecodeError
from motorcade.fleet.source import MAX_SAMPLES, place
from motorcade.runtime.kafka import Record
from motorcade.simulator.audit.records import RawBatch

#: A vehicle id as a level of an MQTT topic.
_VIN = re.compile(rb"(?<![^/.])[A-Z0-9]{17}(?![^/.])")
_AVRO, _BATCH = 0, ord("[")
_WIRE_HEADER = 5
#: Bounds within which a number can be an identity's; the audit packs them into integers.
_Boot = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
_Seq = Annotated[int, msgspec.Meta(gt=0, lt=1 << 30)]
_Due = Annotated[int, msgspec.Meta(gt=-(1 << 62), lt=1 << 62)]

#: The layout of a writer's schema id; None where nobody knows it.
LayoutOf = Callable[[int], RecordLayout | None]
#: boot, seq, due of a sample.
_Numbers = tuple[int, int, int]
_NONE: _Numbers = (-1, -1, -1)


class _Identity(msgspec.Struct, gc=False):
    """The identity alone: unlike refine, the audit reads it from messages that break a rule."""

    boot: _Boot
    seq: _Seq
    due: _Due = -1


class OwnPayloads:
    """Reads what Motorcade's cars send; the VIN is the record's key.

    Args:
        layout_of: finds the layout of Avro payloads.
    """

    def __init__(self, layout_of: LayoutOf) -> None:
        self._layout_of = cache(layout_of)
        self._decode = msgspec.json.Decoder(_Identity).decode
        self._split = msgspec.json.Decoder(list[msgspec.Raw]).decode

    def read(self, records: Sequence[Record]) -> RawBatch:
        """The samples of a batch of records of one partition."""
        decode = self._decode
        places: list[int] = []
        vins: list[bytes] = []
        digests: list[int] = []
        ingested: list[int] = []
        numbers: list[_Numbers] = []
        for record in records:
            value = record.value or b""
            first = value[0] if value else 0
            if first not in {_AVRO, _BATCH}:
                try:
                    one = decode(value)
                    numbers.append((one.boot, one.seq, one.due))
                except (msgspec.DecodeError, UnicodeDecodeError):
                    numbers.append(_NONE)
                places.append(place(record.offset))
                digests.append(hash(value))
                vins.append(record.key or b"")
                ingested.append(record.timestamp)
                continue
            samples, found = self._batch(value, first)
            n = len(samples)
            numbers += found
            places += [place(record.offset, index) for index in range(n)]
            digests += [hash(sample) for sample in samples]
            vins += [record.key or b""] * n
            ingested += [record.timestamp] * n
        return _columns(places, vins, numbers, digests, ingested)

    def _batch(self, value: bytes, first: int) -> tuple[Sequence[bytes], Sequence[_Numbers]]:
        whole = ([value], [_NONE])
        try:
            samples = self._frames(value) if first == _AVRO else self._objects(value)
        except (DecodeError, msgspec.DecodeError, UnicodeDecodeError):
            return whole
        if not 0 < len(samples) <= MAX_SAMPLES:
            return whole
        if first == _AVRO:
            return samples, self._avro(samples)
        return samples, [self._json(sample) for sample in samples]

    def _objects(self, value: bytes) -> list[bytes]:
        return [bytes(raw) for raw in self._split(value)]

    def _json(self, sample: bytes) -> _Numbers:
        try:
            one = self._decode(sample)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _NONE
        return one.boot, one.seq, one.due

    def _frames(self, value: bytes) -> list[bytes]:
        """Cut Avro frames apart.

        Raises:
            DecodeError: they are cut short, or in a schema that nobody knows.
        """
        frames = []
        start = 0
        while start < len(value):
            layout = self._layout(value[start : start + _WIRE_HEADER])
            end = start + layout.width
            for _ in layout.longs:
                while end < len(value) and value[end] >= 0x80:
                    end += 1
                end += 1
            if end > len(value):
                raise DecodeError("The last of the frames is cut short.")
            frames.append(value[start:end])
            start = end
        return frames

    def _avro(self, frames: Sequence[bytes]) -> list[_Numbers]:
        """Identities of frames, which were cut apart and so have their layout's length."""
        found: list[_Numbers] = []
        for frame in frames:
            layout = self._layout(frame)
            try:
                longs = layout.decode([frame]).longs[0].tolist()
            except DecodeError:
                found.append(_NONE)
                continue
            values = dict(zip(layout.longs, longs, strict=True))
            found.append(_bounded(*(values.get(name, -1) for name in IDENTITY_FIELDS)))
        return found

    def _layout(self, frame: bytes) -> RecordLayout:
        layout = self._layout_of(schema_id_of(frame))
        if layout is None:
            raise DecodeError("A frame has a schema that nobody knows.")
        return layout


@dataclass(frozen=True)
class Places:
    """Where somebody else's JSON payload holds what identifies it, such as "$.header.seq".

    vin: also "key" for the record's key, or "topic" for the vehicle id that stands in the MQTT
    topic, which bridges put into a header or the key. boot and due are optional: a payload
    without boot is taken as one of the car's only boot in the run.
    """

    vin: str = "$.vin"
    seq: str = "$.seq"
    boot: str = "$.boot"
    due: str = "$.due"


class ForeignPayloads:
    """Reads somebody else's JSON payloads."""

    def __init__(self, places: Places) -> None:
        self._vin_at = places.vin
        self._vin = _path(places.vin)
        self._seq, self._boot, self._due = map(_path, (places.seq, places.boot, places.due))

    def read(self, records: Sequence[Record]) -> RawBatch:
        """The messages of a batch of records of one partition."""
        vins: list[bytes] = []
        numbers: list[_Numbers] = []
        for record in records:
            vin, found = record.key or b"", _NONE
            if self._vin_at == "topic":
                vin = _vin_in_topic(record)
            try:
                document = msgspec.json.decode(record.value or b"")
                boot, due = _at(document, self._boot), _at(document, self._due)
                found = _bounded(
                    0 if boot is None else int(boot),
                    int(_at(document, self._seq) or 0),
                    0,
                    -1 if due is None else int(due),
                )
                if self._vin_at not in {"key", "topic"}:
                    vin = str(_at(document, self._vin)).encode()
            except (msgspec.DecodeError, ValueError, TypeError):
                pass  # without identity
            vins.append(vin)
            numbers.append(found)
        return _columns(
            [place(record.offset) for record in records],
            vins,
            numbers,
            [hash(record.value) for record in records],
            [record.timestamp for record in records],
        )


Payloads = OwnPayloads | ForeignPayloads


def _bounded(boot: int, seq: int, _time: int, due: int) -> _Numbers:
    known = 0 <= boot < 1 << 62 and 0 < seq < 1 << 30 and abs(due) < 1 << 62
    return (boot, seq, due) if known else _NONE


def _vin_in_topic(record: Record) -> bytes:
    for text in (*(value for _, value in record.headers), record.key or b""):
        if found := _VIN.search(text):
            return bytes(found[0])
    return record.key or b""


def _path(text: str) -> tuple[str, ...]:
    """ "$.a.b" or "/a/b" as its steps."""
    return tuple(text.removeprefix("$").replace("/", ".").strip(".").split("."))


def _at(document: Any, path: tuple[str, ...]) -> Any:
    """What a document holds there; None where it holds nothing."""
    for step in path:
        if isinstance(document, dict):
            document = document.get(step)
        elif isinstance(document, list) and step.isdecimal() and int(step) < len(document):
            document = document[int(step)]
        else:
            return None
    return document


def _columns(
    places: list[int],
    vins: list[bytes],
    numbers: list[_Numbers],
    digests: list[int],
    ingested: list[int],
) -> RawBatch:
    columns: Ints = np.array(numbers, dtype=np.int64).reshape(len(numbers), 3)
    boot, seq, due = columns.T
    return RawBatch(
        np.array(places, dtype=np.int64),
        vins,
        boot,
        seq,
        due,
        np.array(digests, dtype=np.int64),
        np.array(ingested, dtype=np.int64),
    )
