"""Identities from payloads of every form, also from those that break a rule.

The first byte tells the form: 0 begins Avro frames back to back, `[` a JSON batch, anything else is
one JSON object. What holds no identity counts as one sample without, at index 0.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import msgspec
import numpy as np

from motorcade.fleet import frames
from motorcade.fleet.arrays import Ints
from motorcade.fleet.columns import schema_id_of
from motorcade.fleet.frames import LayoutOf
from motorcade.fleet.source import MAX_SAMPLES, place
from motorcade.runtime.kafka import Record
from motorcade.simulator.audit.records import RawBatch

#: A vehicle id as a level of an MQTT topic.
_VIN = re.compile(rb"(?<![^/.])[A-Z0-9]{17}(?![^/.])")
_AVRO, _BATCH = 0, ord("[")
#: Bounds within which a number can be an identity's; the audit packs them into integers.
_Boot = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
_Seq = Annotated[int, msgspec.Meta(gt=0, lt=1 << 30)]
_Due = Annotated[int, msgspec.Meta(gt=-(1 << 62), lt=1 << 62)]

#: boot, seq, due of a sample.
_Numbers = tuple[int, int, int]
_NONE: _Numbers = (-1, -1, -1)
_NAMES = ("boot", "seq", "due")


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
        rows = _Rows()
        avro: list[Record] = []
        for record in records:
            value = record.value or b""
            first = value[0] if value else None
            if first == _AVRO:
                avro.append(record)
                continue
            if first == _BATCH:
                self._objects(rows, record, value)
                continue
            try:
                one = decode(value)
            except (msgspec.DecodeError, UnicodeDecodeError):
                rows.add(record, value, _NONE)
            else:
                rows.add(record, value, (one.boot, one.seq, one.due))
        if avro:
            self._frames(rows, avro)
        return rows.batch(sort=0 < len(avro) < len(records))

    def _objects(self, rows: "_Rows", record: Record, value: bytes) -> None:
        """The samples of a JSON batch."""
        try:
            samples = [bytes(raw) for raw in self._split(value)]
        except (msgspec.DecodeError, UnicodeDecodeError):
            samples = []
        if not 0 < len(samples) <= MAX_SAMPLES:
            rows.add(record, value, _NONE)
            return
        for index, sample in enumerate(samples):
            try:
                one = self._decode(sample)
            except (msgspec.DecodeError, UnicodeDecodeError):
                rows.add(record, sample, _NONE, index)
            else:
                rows.add(record, sample, (one.boot, one.seq, one.due), index)

    def _frames(self, rows: "_Rows", records: Sequence[Record]) -> None:
        """The samples of Avro payloads, in the order of the records."""
        found = frames.split([record.value or b"" for record in records], self._layout_of)
        samples: list[list[int]] = [[] for _ in records]
        for at, row in enumerate(found.payload.tolist()):
            samples[row].append(at)
        numbers = self._numbers(found.frames)
        for row, record in enumerate(records):
            mine = samples[row]
            if not 0 < len(mine) <= MAX_SAMPLES:
                rows.add(record, record.value or b"", _NONE)
                continue
            for index, at in enumerate(mine):
                rows.add(record, found.frames[at], numbers[at], index)

    def _numbers(self, samples: Sequence[bytes]) -> list[_Numbers]:
        """Identities of whole frames."""
        result: list[_Numbers] = [_NONE] * len(samples)
        of_schema: dict[int, list[int]] = {}
        for at, sample in enumerate(samples):
            of_schema.setdefault(schema_id_of(sample), []).append(at)
        for number, places in of_schema.items():
            layout = self._layout_of(number)
            if layout is None or not set(_NAMES) <= set(layout.longs):
                continue  # without identity
            longs = layout.decode([samples[at] for at in places]).longs
            columns = longs[:, [layout.longs.index(name) for name in _NAMES]].tolist()
            for at, (boot, seq, due) in zip(places, columns, strict=True):
                result[at] = _bounded(boot, seq, due)
        return result


class _Rows:
    """Samples as lists, then as columns."""

    def __init__(self) -> None:
        self._places: list[int] = []
        self._vins: list[bytes] = []
        self._digests: list[int] = []
        self._ingested: list[int] = []
        self._numbers: list[_Numbers] = []

    def add(
        self,
        record: Record,
        sample: bytes,
        numbers: _Numbers,
        index: int = 0,
        vin: bytes | None = None,
    ) -> None:
        """A sample; its VIN is the record's key unless given."""
        self._places.append(place(record.offset, index))
        self._vins.append((record.key or b"") if vin is None else vin)
        self._digests.append(hash(sample))
        self._ingested.append(record.timestamp)
        self._numbers.append(numbers)

    def batch(self, *, sort: bool) -> RawBatch:
        columns: Ints = np.array(self._numbers, dtype=np.int64).reshape(len(self._numbers), 3)
        rest = [np.array(c, np.int64) for c in (self._places, self._digests, self._ingested)]
        places, digests, ingested = rest
        vins = self._vins
        if sort:
            order = np.argsort(places)
            places, digests, ingested = places[order], digests[order], ingested[order]
            columns = columns[order]
            vins = [vins[at] for at in order.tolist()]
        boot, seq, due = columns.T
        return RawBatch(places, vins, boot, seq, due, digests, ingested)


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
        rows = _Rows()
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
                    -1 if due is None else int(due),
                )
                if self._vin_at not in {"key", "topic"}:
                    vin = str(_at(document, self._vin)).encode()
            except (msgspec.DecodeError, ValueError, TypeError):
                pass  # without identity
            rows.add(record, record.value or b"", found, vin=vin)
        return rows.batch(sort=False)


Payloads = OwnPayloads | ForeignPayloads


def _bounded(boot: int, seq: int, due: int) -> _Numbers:
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
