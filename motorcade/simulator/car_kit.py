"""What all cars of a worker share, and what a car has to say: the terms of a car's session."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from motorcade.runtime.mqtt import Sent
from motorcade.runtime.mqtt_options import Access
from motorcade.simulator.deliveries import Deliveries
from motorcade.simulator.ledger import DtcRecord
from motorcade.simulator.measures import Measures, Tally


@dataclass(frozen=True)
class CarKit:
    """What all cars of a worker share.

    Attributes:
        in_flight: unacknowledged messages of a car on the wire.
        buffer: telemetry messages a car keeps while it cannot send.
        aliases: topics of a car that are named by a number after their first use.
        access: how the broker is reached: TLS and credentials.
        sources: addresses that the connections to each endpoint take turns at.
        topic: name of a car's telemetry topic.
        properties: of telemetry, encoded.
        now_ms: the wall clock, milliseconds since 1970.
        consumed: whether somebody is to subscribe; a message without a subscriber comes again.
    """

    endpoints: tuple[str, ...]
    qos: int
    in_flight: int
    buffer: int
    keepalive_s: int
    session_expiry_s: int
    aliases: int
    access: Access
    sources: tuple[str | None, ...]
    topic: Callable[[str], str]
    properties: bytes
    measures: Measures
    tally: Tally
    deliveries: Deliveries
    now_ms: Callable[[], int]
    consumed: bool = True


class Telemetry(Sent, gc=False):
    """Samples `first` to `last` of a boot on their way; `due` is that of the last.

    overtaken: refused for now, and a later message was accepted meanwhile.
    """

    first: int
    last: int
    due: int
    overtaken: bool = False


class Other(Sent, gc=False):
    """A DTC, with its record, or an answer to a command; `said` is the wall clock in ms."""

    said: int
    dtc: DtcRecord | None = None


Outgoing = Telemetry | Other


def samples_of(message: Outgoing) -> int:
    """How many samples of telemetry a message carries."""
    return message.last - message.first + 1 if isinstance(message, Telemetry) else 0


def put_back(waiting: deque[Outgoing], message: Outgoing) -> None:
    """Let a message that was refused for now wait in its place, ahead of all that came later.

    Only telemetry has an order among itself, and other messages among themselves: they go to other
    topics, and wait in front.
    """
    place = 0
    for other in waiting:
        if isinstance(message, Telemetry):
            later = isinstance(other, Telemetry) and other.first > message.first
        else:
            later = isinstance(other, Telemetry) or other.said > message.said
        if later:
            break
        place += 1
    waiting.insert(place, message)


def overtake(waiting: deque[Outgoing], accepted: Telemetry) -> int:
    """Samples that now can only arrive behind `accepted`, each counted once."""
    found = 0
    for other in waiting:
        if isinstance(other, Telemetry):
            if other.first > accepted.first:
                break
            if not other.overtaken:
                other.overtaken = True
                found += samples_of(other)
    return found
