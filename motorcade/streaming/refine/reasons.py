"""Why a message is refused: the rules by name, and reasons that a person understands."""

import re
from enum import StrEnum
from typing import NamedTuple


class Rule(StrEnum):
    """What a message must keep to; the name is stable, it stands in the DLQ and in metrics."""

    EMPTY = "empty-payload"
    JSON = "not-json"
    AVRO = "not-avro"
    BATCH = "batch"
    TYPE = "wrong-type"
    MISSING = "missing-field"
    UNKNOWN = "unknown-field"
    TOPIC = "topic"
    VEHICLE_ID = "vehicle-id"
    OTHER_VEHICLE = "id-not-of-topic"
    IDENTITY = "identity"
    RANGE = "out-of-range"
    CLOCK = "clock"
    CONFLICT = "identity-conflict"
    INCOMPARABLE = "identity-incomparable"


#: What to do about messages that a rule refused; `motorcade dlq show` prints it.
REMEDY: dict[Rule, str] = {
    Rule.EMPTY: "Correct the sender: a message carries one sample or several.",
    Rule.JSON: "Correct the sender's encoder; NaN and infinity are not JSON, leave the signal out.",
    Rule.AVRO: "Correct the sender: records of telemetry's schema, in Confluent's wire format.",
    Rule.BATCH: "Correct the sender: a batch holds 1 to 4096 samples.",
    Rule.TYPE: "Correct the sender: numbers as numbers, identity as whole numbers.",
    Rule.MISSING: "Correct the sender, or make the signal optional in the catalogue and replay.",
    Rule.UNKNOWN: "Add the signal to the catalogue and replay, or correct the sender.",
    Rule.TOPIC: "Correct the sender's topic: fleet/v1/{shard}/{vin}/telemetry.",
    Rule.VEHICLE_ID: "Correct the id, or the catalogue's identity and check_digit, and replay.",
    Rule.OTHER_VEHICLE: "A sender speaks for another vehicle: check its credentials and its id.",
    Rule.IDENTITY: "Correct the sender: boot, time, due in milliseconds since 1970, seq from 1.",
    Rule.RANGE: "Check the sensor; if the range is wrong, correct the catalogue and replay.",
    Rule.CLOCK: "Check the sender's clock; replay once the time has come.",
    Rule.CONFLICT: "Two senders share an id, or one repeats its numbers: compare with the first.",
    Rule.INCOMPARABLE: "Compare it by hand with the record of this identity in telemetry.",
}


class Refusal(NamedTuple):
    """A rule that a message broke, and how."""

    rule: Rule
    reason: str


_MALFORMED = re.compile(r"JSON is malformed: (?P<what>.*) \(byte (?P<at>\d+)\)$")
_EXPECTED = re.compile(
    r"Expected `(?P<want>[^`]+)`, got `(?P<got>[^`]+)`(?: - at `\$\.?(?P<at>.*)`)?"
)
_FIELD = re.compile(r"field `(?P<name>.*)`$")
_AT = re.compile(r"at `\$\.(?P<at>.*)`$")
_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "float | null": "a number or null",
    "str": "a text",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
    "null": "null",
}
_NOT_NUMBERS = (b"NaN", b"-Infinity", b"Infinity", b"nan", b"-inf", b"inf")
_NAME = 60


def explain(payload: bytes, problem: str) -> Refusal:
    """What a JSON decoder's message means for whoever sent the payload."""
    if not payload:
        return Refusal(Rule.EMPTY, "the payload is empty")
    if problem == "Input data was truncated":
        return Refusal(Rule.JSON, f"not JSON: cut short after {len(payload)} bytes")
    if found := _MALFORMED.search(problem):
        return _malformed(payload, found["what"], int(found["at"]))
    return _field(problem) or Refusal(Rule.JSON, f"not JSON: {problem}")


def _malformed(payload: bytes, what: str, at: int) -> Refusal:
    for word in _NOT_NUMBERS:
        # The decoder stops at the first letter that no JSON word continues with.
        start = payload.find(word, max(0, at - len(word)), at + len(word))
        if start >= 0:
            return Refusal(
                Rule.JSON, f"{word.decode()} at byte {start} is not JSON: leave the signal out"
            )
    return Refusal(Rule.JSON, f"not JSON: {what} at byte {at}")


def _field(problem: str) -> Refusal | None:
    if found := _EXPECTED.search(problem):
        want, got = (_TYPES.get(name, name) for name in (found["want"], found["got"]))
        what = f"field {found['at'][:_NAME]}" if found["at"] else "the payload"
        return Refusal(Rule.TYPE, f"{what} is {got}, it must be {want}")
    if found := _FIELD.search(problem):
        name = found["name"][:_NAME]
        if "missing required" in problem:
            return Refusal(Rule.MISSING, f"the required field {name} is missing")
        return Refusal(Rule.UNKNOWN, f"the field {name} is not in the signal catalogue")
    if problem.startswith("vin "):
        return Refusal(Rule.VEHICLE_ID, problem)
    if "out of range" in problem and (found := _AT.search(problem)):
        return Refusal(Rule.RANGE, f"field {found['at']} is too large for any number type")
    if "beyond 64 bits" in problem:
        return Refusal(Rule.IDENTITY, "boot, seq, time or due is beyond 64 bits")
    return None
