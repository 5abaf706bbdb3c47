"""What a telemetry message must be: structure, topic, identity, physical range, clock. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from motorcade.fleet import mqtt_topics
from motorcade.fleet.arrays import Bools, Ints
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.clock import RunClock
from motorcade.fleet.errors import IdentityError
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.fleet.vin import LENGTH, check_digit, is_vehicle_id, is_vin, shard_of
from motorcade.streaming.refine.reasons import Refusal, Rule
from motorcade.streaming.refine.samples import Payloads, Samples

#: Signals named in one reason.
_NAMED = 3
#: Vehicle ids remembered as well formed; beyond, the memory begins anew.
_KNOWN = 1_000_000


class Raw(NamedTuple):
    """A batch of n samples of `telemetry.raw`, column by column.

    keys: the vehicle id of the MQTT topic. topics: the MQTT topic name where it is not the key's
    own. ingested: (n,) wall-clock milliseconds at which Kafka took the record.
    """

    samples: Samples
    keys: Sequence[bytes]
    topics: dict[int, str]
    ingested: Ints


class Checked(NamedTuple):
    """What the rules found.

    columns: the messages that keep to all of them. rows: (m,) their positions in the batch.
    refusals: by position, of the others. out_of_range: by signal name, how many values.
    absent: (signals,) how many of the messages that parse lack each signal.
    """

    columns: TelemetryColumns
    rows: Ints
    refusals: dict[int, Refusal]
    out_of_range: dict[str, int]
    absent: Ints


class Rules:
    """The rules of one catalogue and one run.

    A replay decides the same, since time is judged by when Kafka took the record.

    Args:
        skew_ms: milliseconds of event time by which a message may be ahead of the run's clock,
            and of wall-clock time by which a boot may be ahead of the message's arrival.
    """

    def __init__(
        self, catalogue: Catalogue, payloads: Payloads, clock: RunClock, skew_ms: int
    ) -> None:
        self._catalogue = catalogue
        self._payloads = payloads
        #: A limit itself is allowed, also where it came as a float of 32 bits.
        self._low_avro, self._high_avro = (
            np.where(
                [signal.type == "float" for signal in catalogue.signals],
                limit.astype(np.float32).astype(np.float64),
                limit,
            )
            for limit in (catalogue.low, catalogue.high)
        )
        self._clock = clock
        self._skew_ms = skew_ms
        self._known: set[bytes] = set()

    def check(self, raw: Raw) -> Checked:
        """Judge a batch, message by message where one is bad and by columns where all are good."""
        columns, rows, avro, refusals = self._payloads.decode(raw.samples)
        for row, name in raw.topics.items():
            refusals[row] = Refusal(Rule.TOPIC, _topic_reason(name))
        vins, keys = columns.vin.tolist(), raw.keys
        if len(rows) < len(keys):
            keys = [keys[row] for row in rows.tolist()]
        if vins != keys or not self._known.issuperset(vins):
            self._vehicles(vins, keys, rows, refusals)
        self._identity(columns, rows, raw.ingested, refusals)
        self._clock_rule(columns, rows, raw.ingested, refusals)
        out_of_range = self._range(columns, rows, avro, refusals)
        absent = np.isnan(columns.values).sum(axis=0)
        if refusals:
            good = np.array([row not in refusals for row in rows.tolist()], dtype=bool)
            columns, rows = columns.take(good), rows[good]
        return Checked(columns, rows, refusals, out_of_range, absent)

    def _vehicles(
        self,
        vins: Sequence[bytes],
        keys: Sequence[bytes],
        rows: Ints,
        refusals: dict[int, Refusal],
    ) -> None:
        for row, vin, key in zip(rows.tolist(), vins, keys, strict=True):
            if row not in refusals and (vin not in self._known or vin != key):
                refusal = self._vehicle(vin, key)
                if refusal is not None:
                    refusals[row] = refusal

    def _vehicle(self, vin: bytes, key: bytes) -> Refusal | None:
        text = vin.decode("ascii", "backslashreplace")
        if self._catalogue.identity == "id17":
            if not is_vehicle_id(text):
                return Refusal(
                    Rule.VEHICLE_ID,
                    f"vin {text!r} is not {LENGTH} characters of digits and capital letters",
                )
        elif not is_vin(text, verify_check_digit=False):
            return Refusal(
                Rule.VEHICLE_ID,
                f"vin {text!r} is not a VIN: {LENGTH} digits and capital letters without I, O, Q",
            )
        elif self._catalogue.check_digit and not is_vin(text):
            return Refusal(
                Rule.VEHICLE_ID,
                f"vin {text!r} has the check digit {text[8]}, it must be {check_digit(text)}",
            )
        if vin != key:
            return Refusal(
                Rule.OTHER_VEHICLE,
                f"the payload says vin {text}, but the topic belongs to "
                f"{key.decode('utf-8', errors='replace')}",
            )
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known.add(vin)
        return None

    def _identity(
        self, columns: TelemetryColumns, rows: Ints, ingested: Ints, refusals: dict[int, Refusal]
    ) -> None:
        # A boot from the future would make every later message of the car a late one.
        ahead = columns.boot > ingested[rows] + self._skew_ms
        bad = (columns.longs <= 0).any(axis=1) | ahead
        for at in np.flatnonzero(bad).tolist():
            for name in ("boot", "seq", "time", "due"):
                value = int(getattr(columns, name)[at])
                if value <= 0:
                    least = "1" if name == "seq" else "a time after 1970"
                    reason = f"{name} is {value}, it must be at least {least}"
                    break
            else:
                late = int(columns.boot[at]) - int(ingested[rows[at]])
                reason = (
                    f"boot, {_when(int(columns.boot[at]))}, is {_duration(late)} after the "
                    "message arrived"
                )
            refusals.setdefault(int(rows[at]), Refusal(Rule.IDENTITY, reason))

    def _clock_rule(
        self, columns: TelemetryColumns, rows: Ints, ingested: Ints, refusals: dict[int, Refusal]
    ) -> None:
        clock = self._clock
        now = clock.event_start_ms + np.rint(
            (ingested[rows] - clock.wall_start_ms) * clock.speedup
        ).astype(np.int64)
        # Not a difference: a time of 2^63 must not wrap around.
        for at in np.flatnonzero(columns.time > now + self._skew_ms).tolist():
            time = int(columns.time[at])
            reason = (
                f"event time {_when(time)} is {_duration(time - int(now[at]))} ahead of the run's "
                f"clock; {_duration(self._skew_ms)} are allowed"
            )
            refusals.setdefault(int(rows[at]), Refusal(Rule.CLOCK, reason))

    def _range(
        self, columns: TelemetryColumns, rows: Ints, avro: Bools, refusals: dict[int, Refusal]
    ) -> dict[str, int]:
        values = columns.values
        low, high = self._catalogue.low, self._catalogue.high
        if avro.any():
            low = np.where(avro[:, None], self._low_avro, low)
            high = np.where(avro[:, None], self._high_avro, high)
        # NaN, an absent signal, compares false both ways; the limits themselves are allowed.
        outside = (values < low) | (values > high)
        if not outside.any():
            return {}
        for at in np.flatnonzero(outside.any(axis=1)).tolist():
            signals = np.flatnonzero(outside[at]).tolist()
            parts = [
                self._outside(column, float(values[at, column])) for column in signals[:_NAMED]
            ]
            if len(signals) > _NAMED:
                parts.append(f"{len(signals) - _NAMED} more signals are out of range")
            refusals.setdefault(int(rows[at]), Refusal(Rule.RANGE, "; ".join(parts)))
        counts = outside.sum(axis=0)
        return {self._catalogue.names[i]: int(counts[i]) for i in np.flatnonzero(counts)}

    def _outside(self, column: int, value: float) -> str:
        signal = self._catalogue.signals[column]
        low, high = signal.range
        unit = "" if signal.unit == "1" else f" {signal.unit}"
        return (
            f"{signal.name} is {_plain(value)}{unit}, "
            f"allowed are {_plain(low)} to {_plain(high)}{unit}"
        )


def _topic_reason(name: str) -> str:
    try:
        topic = mqtt_topics.parse(name)
    except IdentityError as error:
        return error.what
    if not is_vehicle_id(topic.vehicle_id):
        return f"the topic {name!r} does not hold a vehicle id of {LENGTH} characters"
    if shard_of(topic.vehicle_id) != topic.shard:
        return (
            f"the topic {name!r} has the shard {topic.shard}, "
            f"{topic.vehicle_id} belongs to shard {shard_of(topic.vehicle_id)}"
        )
    return f"the topic {name!r} is not one of {', '.join(mqtt_topics.UPSTREAM)}"


def _plain(value: float) -> str:
    """All digits, so that a value just beyond a limit does not look like the limit."""
    return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _when(milliseconds: int) -> str:
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms"
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _duration(milliseconds: int) -> str:
    seconds = milliseconds / 1000
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.0f} days"
