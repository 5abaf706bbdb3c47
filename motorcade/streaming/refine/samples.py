"""From payloads, which hold one sample or several, to samples and their columns.

The first byte tells a payload's form: a zero byte begins Avro in Confluent's wire format, one
record or several back to back; `[` begins a JSON array of samples; anything else is to be one JSON
object. A sample that is refused is refused alone; a payload whose samples cannot be told apart is
refused as a whole.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from motorcade.fleet import frames
from motorcade.fleet.arrays import Bools, Ints
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.columns import HEADER, RecordLayout, schema_id_of
from motorcade.fleet.errors import DecodeError
from motorcade.fleet.source import MAX_SAMPLES
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns, TelemetryJson
from motorcade.streaming.refine.reasons import Refusal, Rule, explain

#: The schema of a writer's id, or None where it is none of telemetry.
SchemaLookup = Callable[[int], dict[str, Any] | None]


class Samples(NamedTuple):
    """n samples of a batch of payloads, those of one payload together and in their order.

    record: (n,) position of the payload. number: (n,) of the sample in its payload, from 0.
    payloads: each sample's own bytes. avro: positions of those in Avro. refusals: by position, of
    payloads that are one sample as a whole because they cannot be divided.
    """

    record: Ints
    number: Ints
    payloads: Sequence[bytes]
    avro: Sequence[int]
    refusals: dict[int, Refusal]


class Parsed(NamedTuple):
    """What decodes, in columns.

    columns: m messages. rows: (m,) their positions among the samples. avro: (m,) whether a message
    came in Avro, whose floats have 32 bits. refusals: by position, of samples that do not decode.
    """

    columns: TelemetryColumns
    rows: Ints
    avro: Bools
    refusals: dict[int, Refusal]


class Payloads:
    """Divides payloads into samples and decodes them, for one catalogue.

    Args:
        catalogue: the fleet's signals.
        avro: codec that knows the schemas of writers so far.
        lookup: asked for each id that the codec does not know.
    """

    def __init__(self, catalogue: Catalogue, avro: TelemetryAvro, lookup: SchemaLookup) -> None:
        self._catalogue = catalogue
        self._json = TelemetryJson(catalogue)
        self._array = msgspec.json.Decoder(list[msgspec.Raw])
        self._avro = avro
        self._lookup = lookup
        self._required = np.array([signal.required for signal in catalogue.signals])

    def divide(self, payloads: Sequence[bytes]) -> Samples:
        """The samples of a batch of payloads."""
        heads = [payload[:1] for payload in payloads]
        arrays = [row for row, head in enumerate(heads) if head == b"["] if b"[" in heads else []
        avro = [row for row, head in enumerate(heads) if head == b"\0"] if b"\0" in heads else []
        n = len(payloads)
        if not arrays and not avro:
            return Samples(np.arange(n), np.zeros(n, dtype=np.int64), payloads, (), {})
        parts: list[list[bytes]] = [[payload] for payload in payloads]
        whole: dict[int, Refusal] = {}
        for row in arrays:
            parts[row] = self._elements(payloads[row], row, whole)
        if avro:
            found = frames.split([payloads[row] for row in avro], self._layout)
            for place in range(len(avro)):
                parts[avro[place]] = []
            for place, frame in zip(found.payload.tolist(), found.frames, strict=True):
                parts[avro[place]].append(frame)
            for place, problem in found.broken.items():
                row = avro[place]
                whole[row], parts[row] = Refusal(Rule.AVRO, f"not Avro: {problem}"), [payloads[row]]
        for row in (*arrays, *avro):
            count = len(parts[row])
            if count > MAX_SAMPLES:
                whole[row] = Refusal(
                    Rule.BATCH, f"the payload holds {count} samples, at most {MAX_SAMPLES} may be"
                )
                parts[row] = [payloads[row]]
        return _flat(parts, frozenset(avro), whole)

    def decode(self, samples: Samples) -> Parsed:
        """The columns of what decodes, and why the rest does not."""
        refusals = dict(samples.refusals)
        if not samples.avro and not refusals:
            columns, rows, bad = self._json.decode(samples.payloads)
            for row, problem in bad:
                refusals[row] = explain(samples.payloads[row], problem)
            return Parsed(columns, rows, np.zeros(len(rows), dtype=bool), refusals)
        avro = [row for row in samples.avro if row not in refusals]
        in_avro = set(samples.avro)
        text = [n for n in range(len(samples.payloads)) if n not in in_avro and n not in refusals]
        columns, rows, bad = self._json.decode([samples.payloads[row] for row in text])
        for row, problem in bad:
            refusals[text[row]] = explain(samples.payloads[text[row]], problem)
        decoded = [(columns, np.array(text, dtype=np.int64)[rows])]
        by_id: dict[bytes, list[int]] = {}
        for row in avro:
            by_id.setdefault(samples.payloads[row][1:HEADER], []).append(row)
        decoded += [self._decode_avro(samples.payloads, mine, refusals) for mine in by_id.values()]
        return _merged(decoded, refusals, len(rows))

    def _elements(self, payload: bytes, row: int, whole: dict[int, Refusal]) -> list[bytes]:
        try:
            found = [bytes(element) for element in self._array.decode(payload)]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            whole[row] = explain(payload, str(error))
            return [payload]
        if not found:
            whole[row] = Refusal(Rule.BATCH, "the array holds no sample")
            return [payload]
        return found

    def _layout(self, number: int) -> RecordLayout | None:
        if not self._avro.knows(number) and (schema := self._lookup(number)) is not None:
            with contextlib.suppress(DecodeError):  # a layout that columns cannot read
                self._avro.learn(number, schema)
        return self._avro.layout(number)

    def _decode_avro(
        self, payloads: Sequence[bytes], rows: list[int], refusals: dict[int, Refusal]
    ) -> tuple[TelemetryColumns, Ints]:
        """Decode whole frames of one schema, as strictly as JSON."""
        number = schema_id_of(payloads[rows[0]])
        if strange := self._avro.strange(number):
            reason = f"the field {strange[0]} is not in the signal catalogue"
            refusals.update(dict.fromkeys(rows, Refusal(Rule.UNKNOWN, reason)))
            return self._json.decode(())[0], np.empty(0, dtype=np.int64)
        columns = self._avro.decode([payloads[row] for row in rows], number)
        lacking = np.isnan(columns.values) & self._required
        bad = lacking.any(axis=1)
        for at in np.flatnonzero(bad).tolist():
            name = self._catalogue.names[int(np.flatnonzero(lacking[at])[0])]
            refusals[rows[at]] = Refusal(
                Rule.MISSING, f"the required field {name} is missing (it is NaN)"
            )
        places = np.array(rows, dtype=np.int64)
        return (columns.take(~bad), places[~bad]) if bad.any() else (columns, places)


def _flat(parts: list[list[bytes]], avro: frozenset[int], whole: dict[int, Refusal]) -> Samples:
    counts = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
    record = np.repeat(np.arange(len(parts)), counts)
    firsts = np.cumsum(counts) - counts
    number = np.arange(len(record)) - firsts[record]
    of_avro = np.isin(record, list(avro))
    payloads = [sample for part in parts for sample in part]
    refusals = {int(firsts[row]): refusal for row, refusal in whole.items()}
    return Samples(record, number, payloads, np.flatnonzero(of_avro).tolist(), refusals)


def _merged(
    decoded: list[tuple[TelemetryColumns, Ints]], refusals: dict[int, Refusal], text: int
) -> Parsed:
    """Parts joined, in the order of the samples; the first `text` messages came in JSON."""
    columns = TelemetryColumns.joined([part for part, _ in decoded])
    rows = np.concatenate([places for _, places in decoded])
    order = np.argsort(rows, kind="stable")
    return Parsed(columns.take(order), rows[order], order >= text, refusals)
