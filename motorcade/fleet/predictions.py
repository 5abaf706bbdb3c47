"""Predictions in columns: what the scorer writes and alerts, twin and audit read."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from motorcade.fleet.arrays import Floats, Ids, Ints
from motorcade.fleet.avro import PREDICTION_FLOATS, PREDICTION_LONGS, predictions_schema
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.columns import Block, RecordLayout


@dataclass(frozen=True)
class PredictionColumns:
    """A batch of n predictions.

    vin: (n,) S17. score (NaN when not scored), threshold, coverage: (n,) float64.
    boot, seq, time, due: identity and clocks of the scored message. partition, offset: its place
    in `telemetry`. version: of the model, 0 when none was live. All (n,) int64.
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

    def __len__(self) -> int:
        return len(self.vin)


class PredictionAvro:
    """Encodes and decodes `predictions` records."""

    def __init__(self, catalogue: Catalogue, schema_id: int) -> None:
        self.schema_id = schema_id
        self._layout = RecordLayout(predictions_schema(catalogue))

    def encode(
        self,
        columns: PredictionColumns,
        model: str,
        reasons: Sequence[str],
        contributions: Sequence[Sequence[tuple[str, float]]],
    ) -> list[bytes]:
        """Encode a batch; `reasons[i]` is empty for a scored record.

        Args:
            columns: n predictions.
            model: name of the model that scored them.
            reasons: n texts.
            contributions: n lists of (signal, share of the score), highest first.
        """
        floats = np.stack([getattr(columns, name) for name in PREDICTION_FLOATS], axis=1)
        longs = np.stack([getattr(columns, name) for name in PREDICTION_LONGS], axis=1)
        texts = {text: _string(text) for text in {model, *reasons}}
        signals: dict[str, bytes] = {}
        rest = []
        for reason, parts in zip(reasons, contributions, strict=True):
            block = b""
            if parts:
                block = _long(len(parts))
                for signal, share in parts:
                    encoded = signals.get(signal) or signals.setdefault(signal, _string(signal))
                    block += encoded + struct.pack("<f", share)
            rest.append(texts[model] + texts[reason] + block + b"\0")
        return self._layout.encode(self.schema_id, Block(columns.vin, floats, longs), rest)

    def decode(self, records: Sequence[bytes]) -> PredictionColumns:
        """Decode a batch; model, reason and contributions are read by `decode_one`.

        Raises:
            DecodeError: as `RecordLayout.decode`.
        """
        block = self._layout.decode(records)
        score, threshold, coverage = block.values.T
        boot, seq, time, due, partition, offset, version = block.longs.T
        return PredictionColumns(
            block.vin,
            score,
            threshold,
            coverage,
            boot,
            seq,
            time,
            due,
            partition,
            offset,
            version,
        )

    def decode_one(self, record: bytes) -> dict[str, Any]:
        """One record in full."""
        return self._layout.decode_one(record)


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
