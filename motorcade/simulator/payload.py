"""What telemetry looks like on the wire: JSON, Avro or somebody else's template; broken on purpose.

Payloads are made for many cars at once. Samples of a batch are made one by one and joined when the
batch is full.
"""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from motorcade.fleet import mqtt_topics
from motorcade.fleet.arrays import Floats, Ints
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.errors import SettingsError
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns, TelemetryJson
from motorcade.fleet.vin import shard_of
from motorcade.simulator.settings import SimulatorSettings

#: Ways in which a payload breaks a rule; a car takes them in turn.
CUT, MISSING, OUT_OF_RANGE, WRONG_TYPE = range(4)
SORTS = 4
#: Beyond every range, and still a number that the wire forms can carry.
_ABSURD = 1e9
_PLACE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_SEQ = re.compile(rb'"seq":(\d+)')
_IDENTITY = ("vin", "boot", "seq", "time", "due")


class Payload(Protocol):
    """A form of telemetry."""

    content_type: str

    def encode(self, columns: TelemetryColumns) -> list[bytes]:
        """One payload a sample."""

    def join(self, samples: Sequence[bytes]) -> bytes:
        """The samples of one batch, oldest first, as one payload."""

    def mistype(self, payload: bytes) -> bytes:
        """The payload of a sample with a value of a wrong type."""


class JsonPayload:
    """An object a sample, an array of objects a batch."""

    content_type = "application/json"

    def __init__(self, catalogue: Catalogue) -> None:
        self._json = TelemetryJson(catalogue)
        self.encode: Callable[[TelemetryColumns], list[bytes]] = self._json.encode

    def join(self, samples: Sequence[bytes]) -> bytes:
        return b"[" + b",".join(samples) + b"]"

    def mistype(self, payload: bytes) -> bytes:
        return _SEQ.sub(rb'"seq":"\1"', payload, count=1)


class AvroPayload:
    """Confluent's wire format; the frames of a batch stand back to back."""

    content_type = "application/avro"

    def __init__(self, catalogue: Catalogue, schema_id: int) -> None:
        self._avro = TelemetryAvro(catalogue, schema_id)
        self.encode: Callable[[TelemetryColumns], list[bytes]] = self._avro.encode

    def join(self, samples: Sequence[bytes]) -> bytes:
        return b"".join(samples)

    def mistype(self, payload: bytes) -> bytes:
        return payload[:5] + b"\x01" + payload[6:]  # the length of the vin is below 0


class TemplatePayload:
    """Somebody else's form: a text in which names in braces stand for values; absent is null.

    Raises:
        SettingsError: the file cannot be read, or names what there is not.
    """

    content_type = "application/json"

    def __init__(self, catalogue: Catalogue, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"The payload template {path} cannot be read: {error}.") from error
        parts = _PLACE.split(text)
        known = (*_IDENTITY, *catalogue.names)
        if unknown := sorted(set(parts[1::2]) - set(known)):
            raise SettingsError(
                f"The payload template {path} names {', '.join(unknown)}.",
                f"There are {', '.join(known)}.",
            )
        self._texts, self._names = parts[::2], parts[1::2]
        self._column = {name: at for at, name in enumerate(catalogue.names)}
        self._precision = [signal.precision for signal in catalogue.signals]

    def encode(self, columns: TelemetryColumns) -> list[bytes]:
        values = [self._values(name, columns) for name in self._names]
        first, *rest = self._texts
        return [
            (first + "".join(v + t for v, t in zip(row, rest, strict=True))).encode()
            for row in zip(*values, strict=True)
        ]

    def join(self, samples: Sequence[bytes]) -> bytes:
        return b"[" + b",".join(samples) + b"]"

    def mistype(self, payload: bytes) -> bytes:
        return b'"' + payload

    def _values(self, name: str, columns: TelemetryColumns) -> list[str]:
        if name == "vin":
            return [vin.decode("ascii") for vin in columns.vin.tolist()]
        if name in _IDENTITY:
            numbers: Ints = getattr(columns, name)
            return list(map(str, numbers.tolist()))
        at = self._column[name]
        column: Floats = np.round(columns.values[:, at], self._precision[at])
        return ["null" if math.isnan(value) else repr(value) for value in column.tolist()]


def spoil(
    payload: Payload, catalogue: Catalogue, columns: TelemetryColumns, sorts: Ints
) -> list[bytes]:
    """The samples as bad firmware sends them, each broken in one way: `sorts`, shape (n,)."""
    values = columns.values.copy()
    required = [at for at, signal in enumerate(catalogue.signals) if signal.required] or [0]
    values[sorts == MISSING, required[0]] = np.nan
    values[sorts == OUT_OF_RANGE, required[-1]] = _ABSURD
    broken = TelemetryColumns(
        columns.vin, values, columns.boot, columns.seq, columns.time, columns.due
    )
    samples = payload.encode(broken)
    for at, sort in enumerate(sorts.tolist()):
        if sort == CUT:
            samples[at] = samples[at][: len(samples[at]) // 2]
        elif sort == WRONG_TYPE:
            samples[at] = payload.mistype(samples[at])
    return samples


def content_type_of(settings: SimulatorSettings) -> str:
    """Content type of the telemetry that these settings ask for."""
    if settings.payload == "avro" and settings.payload_template is None:
        return AvroPayload.content_type
    return JsonPayload.content_type


def topic_of(template: str | None) -> Callable[[str], str]:
    """How a car's telemetry topic is called: the contract's own, or after a template.

    Raises:
        SettingsError: the template names something else than {vin} and {shard}, or not {vin}.
    """
    if template is None:
        return lambda vin: mqtt_topics.topic(vin, mqtt_topics.TELEMETRY)
    unknown = sorted(set(re.findall(r"\{([^}]*)\}", template)) - {"vin", "shard"})
    if unknown or "+" in template or "#" in template:
        raise SettingsError(
            f"The topic template {template!r} cannot be used.",
            "It may hold {vin} and {shard}, and no wildcard.",
        )
    return lambda vin: template.replace("{vin}", vin).replace("{shard}", shard_of(vin))
