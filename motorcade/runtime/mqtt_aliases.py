"""Topic aliases of one connection: a topic is named once and is a number from then on."""

from motorcade.runtime import mqtt_packets as packets


class TopicAliases:
    """The aliases that a client has given out, up to the broker's maximum (MQTT 5, 3.3.2.3.4)."""

    __slots__ = ("_known", "_maximum")

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._known: dict[bytes, int] = {}

    def apply(self, topic: bytes, properties: bytes) -> tuple[bytes, bytes]:
        """Topic and properties as the next PUBLISH carries them; call `sent` when it is written."""
        if (alias := self._known.get(topic)) is not None:
            return b"", packets.with_alias(alias, properties)
        if len(self._known) < self._maximum:
            return topic, packets.with_alias(len(self._known) + 1, properties)
        return topic, properties

    def sent(self, topic: bytes) -> None:
        """The broker will know the topic's alias."""
        if topic not in self._known and len(self._known) < self._maximum:
            self._known[topic] = len(self._known) + 1
