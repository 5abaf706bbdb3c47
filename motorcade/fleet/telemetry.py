"""Telemetry as cars send it (JSON) and as Kafka holds it (Avro), both in columns."""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from motorcade.fleet.arrays import Bools, Floats, Ids, Ints
from motorcade.fleet.avro import IDENTITY_FIELDS, telemetry_schema
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.columns import Block, RecordLayout
from motorcade.fleet.errors import DecodeError


@dataclass(frozen=True)
class TelemetryColumns:
    """A batch of n messages.

    vin: (n,) S17. values: (n, signals) float64 in catalogue order, NaN where absent.
    boot, seq, time, due: (n,) int64; milliseconds since 1970, seq from 1.
    """

    vin: Ids
    values: Floats
    boot: Ints
    seq: Ints
    time: Ints
    due: Ints

    def __len__(self) -> int:
        return len(self.vin)

    @cached_property
    def longs(self) -> Ints:
        """Identity columns stacked, shape (n, 4), in the order of the Avro schema."""
        return np.stack([self.boot, self.seq, self.time, self.due], axis=1)

    @classmethod
    def joined(cls, parts: "Sequence[TelemetryColumns]") -> "TelemetryColumns":
        """One batch of several."""
        if len(parts) == 1:
            return parts[0]
        fields = ("vin", "values", "boot", "seq", "time", "due")
        return cls(*(np.concatenate([getattr(part, field) for part in parts]) for field in fields))

    def take(self, rows: Ints | Bools) -> "TelemetryColumns":
        """The rows given by index or by boolean mask."""
        return TelemetryColumns(
            self.vin[rows],
            self.values[rows],
            self.boot[rows],
            self.seq[rows],
            self.time[rows],
            self.due[rows],
        )


class TelemetryJson:
    """Encodes and decodes the JSON that cars publish, for one catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        fields: list[Any] = [("vin", str), ("boot", int), ("seq", int), ("time", int), ("due", int)]
        fields += [(s.name, float) for s in catalogue.signals if s.required]
        fields += [(s.name, float | None, None) for s in catalogue.signals if not s.required]
        self._struct: type[msgspec.Struct] = msgspec.defstruct(
            "TelemetryMessage", fields, forbid_unknown_fields=True, kw_only=True, gc=False
        )
        self._decoder = msgspec.json.Decoder(self._struct)
        self._values: Callable[[Any], Any] = operator.attrgetter(*catalogue.names)
        self._identity: Callable[[Any], Any] = operator.attrgetter(*IDENTITY_FIELDS)
        # What is sent lacks what is absent, even a required signal: it is for refine to judge.
        self._outgoing: type[msgspec.Struct] = msgspec.defstruct(
            "TelemetryOutgoing",
            [*fields[:5], *((name, float | None, None) for name in catalogue.names)],
            omit_defaults=True,
            gc=False,
        )
        self._encoder = msgspec.json.Encoder()
        self._scales = np.array([10.0**signal.precision for signal in catalogue.signals])

    def decode(
        self, payloads: Sequence[bytes]
    ) -> tuple[TelemetryColumns, Ints, list[tuple[int, str]]]:
        """Decode a batch.

        Returns:
            The columns of the messages that parse, their positions in the batch, shape (n,), and
            (position, reason) of those that do not. A vin that is not 17 ASCII characters fails.
        """
        good: list[Any] = []
        rows: list[int] = []
        bad: list[tuple[int, str]] = []
        decode = self._decoder.decode
        for row, payload in enumerate(payloads):
            try:
                message: Any = decode(payload)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                bad.append((row, str(error)))
                continue
            if len(message.vin) != 17 or not message.vin.isascii():
                bad.append((row, f"vin {message.vin!r:.40} is not 17 characters"))
                continue
            good.append(message)
            rows.append(row)
        n = len(good)
        values = np.array([self._values(m) for m in good], dtype=np.float64)
        try:
            identity = np.array([self._identity(m) for m in good], dtype=np.int64)
        except OverflowError:
            fits = [all(-(2**63) <= v < 2**63 for v in self._identity(m)) for m in good]
            bad += [
                (r, "an integer is beyond 64 bits")
                for r, f in zip(rows, fits, strict=True)
                if not f
            ]
            good = [m for m, f in zip(good, fits, strict=True) if f]
            rows = [r for r, f in zip(rows, fits, strict=True) if f]
            n = len(good)
            values = np.array([self._values(m) for m in good], dtype=np.float64)
            identity = np.array([self._identity(m) for m in good], dtype=np.int64)
        identity = identity.reshape(n, 4)
        columns = TelemetryColumns(
            np.array([m.vin for m in good], dtype="S17"),
            values.reshape(n, len(self.catalogue.names)),
            identity[:, 0],
            identity[:, 1],
            identity[:, 2],
            identity[:, 3],
        )
        return columns, np.array(rows, dtype=np.int64), bad

    def encode(self, columns: TelemetryColumns) -> list[bytes]:
        """Encode a batch as JSON, every signal rounded to its precision, NaN as absent."""
        rounded = np.rint(columns.values * self._scales) / self._scales
        gaps = np.isnan(rounded).any(axis=0).tolist()
        signals = [
            [None if math.isnan(value) else value for value in column] if gap else column
            for column, gap in zip(rounded.T.tolist(), gaps, strict=True)
        ]
        identity = (
            columns.vin.astype("U17").tolist(),
            columns.boot.tolist(),
            columns.seq.tolist(),
            columns.time.tolist(),
            columns.due.tolist(),
        )
        encode, message = self._encoder.encode, self._outgoing
        return [encode(message(*row)) for row in zip(*identity, *signals, strict=True)]


class TelemetryAvro:
    """Encodes and decodes `telemetry` records, for one catalogue and any writer's schema."""

    def __init__(self, catalogue: Catalogue, schema_id: int) -> None:
        self.catalogue = catalogue
        self.schema_id = schema_id
        self._layout = RecordLayout(telemetry_schema(catalogue))
        self._layouts: dict[int, RecordLayout] = {schema_id: self._layout}

    def learn(self, schema_id: int, schema: dict[str, Any]) -> None:
        """Make another writer's schema known, as the registry returns it.

        Raises:
            DecodeError: the schema does not have the layout that columns need.
        """
        layout = RecordLayout(schema)
        missing = [name for name in IDENTITY_FIELDS if name not in layout.longs]
        if missing:
            raise DecodeError(f"The schema {schema_id} lacks {', '.join(missing)}.")
        self._layouts[schema_id] = layout

    def knows(self, schema_id: int) -> bool:
        """Whether records of this schema id can be decoded."""
        return schema_id in self._layouts

    def layout(self, schema_id: int) -> RecordLayout | None:
        """The layout of a schema id that is known."""
        return self._layouts.get(schema_id)

    def strange(self, schema_id: int) -> list[str]:
        """Fields of a known schema that are no signals of the catalogue."""
        layout = self._layouts[schema_id]
        known = {*self.catalogue.names, *IDENTITY_FIELDS}
        return [n for n in (*layout.values, *layout.longs, *layout.rest) if n not in known]

    def encode(self, columns: TelemetryColumns) -> list[bytes]:
        """Encode a batch in Confluent's wire format under the catalogue's own schema."""
        return self._layout.encode(
            self.schema_id, Block(columns.vin, columns.values, columns.longs)
        )

    def decode(self, records: Sequence[bytes], schema_id: int | None = None) -> TelemetryColumns:
        """Decode records of one schema; signals that its writer did not know are NaN.

        Raises:
            DecodeError: as `RecordLayout.decode`.
        """
        layout = self._layouts[self.schema_id if schema_id is None else schema_id]
        block = layout.decode(records)
        if layout.values == self.catalogue.names:
            values = block.values
        else:
            values = np.full((len(block), len(self.catalogue.names)), np.nan)
            for column, name in enumerate(layout.values):
                if name in self.catalogue.names:
                    values[:, self.catalogue.column(name)] = block.values[:, column]
        identity = [block.longs[:, layout.longs.index(name)] for name in IDENTITY_FIELDS]
        return TelemetryColumns(block.vin, values, *identity)
