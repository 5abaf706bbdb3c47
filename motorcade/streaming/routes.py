"""Where the bridge puts a message: MQTT topic name → Kafka topic, partition, key and headers."""

from typing import NamedTuple

from motorcade.fleet import mqtt_topics, topics
from motorcade.fleet.errors import IdentityError

#: Kafka topic of each kind of upstream message.
TOPIC_OF_KIND = {
    mqtt_topics.TELEMETRY: topics.RAW,
    mqtt_topics.DTC: topics.DTC,
    mqtt_topics.STATUS: topics.STATUS,
    mqtt_topics.COMMAND_RESPONSE: topics.COMMANDS_STATUS,
}

Headers = list[tuple[str, bytes]]


class Route(NamedTuple):
    """Where a message goes; the headers keep a topic name that the key does not imply."""

    topic: str
    key: bytes
    headers: Headers


def route(name: str) -> Route:
    """The route of an MQTT topic name; what cannot be told goes to `telemetry.raw` all the same."""
    try:
        parsed = mqtt_topics.parse(name)
    except IdentityError:
        return Route(topics.RAW, name.encode(), _as_header(name))
    topic = TOPIC_OF_KIND.get(parsed.kind)
    known = parsed.canonical and topic is not None
    return Route(topic or topics.RAW, parsed.vehicle_id.encode(), [] if known else _as_header(name))


def _as_header(name: str) -> Headers:
    return [(topics.MQTT_TOPIC_HEADER, name.encode())]
