"""Headers of a quarantined record: Kafka Connect's names, so that its tools read them too."""

from motorcade.fleet.topics import MQTT_TOPIC_HEADER
from motorcade.runtime.kafka import Record
from motorcade.streaming.refine.reasons import Refusal

#: Names of Kafka Connect's dead letter queue (KIP-298).
_PREFIX = "__connect.errors."
TOPIC = f"{_PREFIX}topic"
PARTITION = f"{_PREFIX}partition"
OFFSET = f"{_PREFIX}offset"
CONNECTOR = f"{_PREFIX}connector.name"
STAGE = f"{_PREFIX}stage"
CLASS = f"{_PREFIX}class.name"
MESSAGE = f"{_PREFIX}exception.message"

_FIXED = ((CONNECTOR, b"motorcade-refine"), (STAGE, b"VALUE_CONVERTER"))


def dlq_headers(record: Record, refusal: Refusal) -> tuple[tuple[str, bytes], ...]:
    """Where a record came from and why it was refused; its MQTT topic goes with it."""
    return (
        (TOPIC, record.topic.encode()),
        (PARTITION, str(record.partition).encode()),
        (OFFSET, str(record.offset).encode()),
        *_FIXED,
        (CLASS, refusal.rule.encode()),
        (MESSAGE, refusal.reason.encode(errors="replace")),
        *((name, value) for name, value in record.headers if name == MQTT_TOPIC_HEADER),
    )
