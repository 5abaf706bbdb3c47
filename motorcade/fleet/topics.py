"""Kafka topics: names, partitions, retention and compaction of each, declared once."""

from dataclasses import dataclass, field

RAW = "telemetry.raw"
TELEMETRY = "telemetry"
DLQ = "telemetry.dlq"
STATUS = "vehicle.status"
DTC = "vehicle.dtc"
PREDICTIONS = "predictions"
ALERTS = "alerts"
ALERTS_STATE = "alerts.state"
COMMANDS = "commands"
COMMANDS_STATUS = "commands.status"
MODELS = "models"

#: One partition count and one partitioner for all that derives from telemetry.raw, so that
#: partition p of each comes from partition p of the one before. Never changed in place.
PARTITIONS = 12

_DAY_MS = 24 * 3600 * 1000

#: Header of a derived record: partition and offset it came from, see `motorcade.fleet.source`.
SOURCE_HEADER = "source"
#: Header of a raw record whose MQTT topic is not the canonical one of its key.
MQTT_TOPIC_HEADER = "mqtt.topic"
#: Header of a record that `motorcade generate` wrote, and no car sent.
GENERATED_HEADER = "generated"
#: Header of a refined record that arrived after a newer one of the same car.
LATE_HEADER = "late"


@dataclass(frozen=True)
class Topic:
    """A topic as declared: `cleanup` is Kafka's cleanup.policy, retention in milliseconds."""

    name: str
    partitions: int
    cleanup: str = "delete"
    retention_ms: int = 7 * _DAY_MS
    config: dict[str, str] = field(default_factory=dict)

    def settings(self) -> dict[str, str]:
        """The topic's Kafka settings. Record timestamps are ingest times, so retention works."""
        return {
            "cleanup.policy": self.cleanup,
            "retention.ms": str(self.retention_ms),
            "message.timestamp.type": "LogAppendTime",
            **self.config,
        }


TOPICS: tuple[Topic, ...] = (
    Topic(RAW, PARTITIONS),
    Topic(TELEMETRY, PARTITIONS),
    Topic(DLQ, PARTITIONS, retention_ms=30 * _DAY_MS),
    Topic(STATUS, PARTITIONS, cleanup="compact", retention_ms=-1),
    Topic(DTC, PARTITIONS, retention_ms=365 * _DAY_MS),
    Topic(PREDICTIONS, PARTITIONS),
    Topic(ALERTS, PARTITIONS, retention_ms=90 * _DAY_MS),
    Topic(ALERTS_STATE, PARTITIONS, cleanup="compact", retention_ms=-1),
    Topic(COMMANDS, PARTITIONS, retention_ms=30 * _DAY_MS),
    Topic(COMMANDS_STATUS, PARTITIONS, retention_ms=30 * _DAY_MS),
    Topic(MODELS, 1, cleanup="compact", retention_ms=-1),
)


def partition_of(key: bytes, partitions: int = PARTITIONS) -> int:
    """Partition of a key by Kafka's default partitioner (murmur2), as Java and aiokafka do."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    """Murmur2 of Kafka's org.apache.kafka.common.utils.Utils.murmur2 (Austin Appleby, 2008)."""
    mask = 0xFFFFFFFF
    m = 0x5BD1E995
    length = len(data)
    h = (0x9747B28C ^ length) & mask
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little")
        k = (k * m) & mask
        k ^= k >> 24
        k = (k * m) & mask
        h = ((h * m) & mask) ^ k
    tail = data[whole:]
    if tail:
        h ^= int.from_bytes(tail, "little")
        h = (h * m) & mask
    h ^= h >> 13
    h = (h * m) & mask
    return h ^ (h >> 15)
