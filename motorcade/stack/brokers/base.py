"""The interface of a broker adapter, and what is common to them: endpoints and queue bounds."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from motorcade.stack.program import Program

#: Largest MQTT packet a broker takes; a larger one is answered with 0x95. A quarter of Kafka's
#: message limit, so what the broker has acknowledged always fits into Kafka.
MAX_PACKET_BYTES = 256 * 1024


@dataclass(frozen=True)
class Endpoint:
    """Where one node of a broker listens for MQTT."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class QueueBound:
    """How much a broker holds for a subscriber that is away: a rate during an outage.

    Args:
        rate_per_s: messages the fleet publishes in a second.
        outage_s: how long the bridge or Kafka may be away without loss.
    """

    rate_per_s: float
    outage_s: float

    @property
    def messages(self) -> int:
        """Messages to hold; never fewer than a burst of 10,000."""
        return max(10_000, round(self.rate_per_s * self.outage_s))


def counted(seen: Sequence[int]) -> int:
    """What a count reached in all, by what was seen of it, when a restart begins it anew at 0."""
    return sum(last for last, after in pairwise([*seen, -1]) if after < last)


#: Asks how many messages were dropped so far; None if the broker won't say.
DropCount = Callable[[], Awaitable[int | None]]


class Broker(Protocol):
    """One kind of broker, as the stack sees it."""

    @property
    def name(self) -> str:
        """The word that `--broker` takes."""

    @property
    def clustered(self) -> bool:
        """Whether the nodes know each other; otherwise they are a farm of independent ones."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Every node's MQTT address."""

    @property
    def node_ports(self) -> tuple[tuple[int, ...], ...]:
        """Of each node its ports beside the one for MQTT."""

    @property
    def durability(self) -> str:
        """What is lost when a node dies, in one sentence."""

    def programs(self) -> list[Program]:
        """What to run, one program a node; writes the configuration. Empty for an external one."""

    async def ready(self) -> bool:
        """Whether a QoS 1 message crosses from a publisher to a subscriber, on every endpoint."""

    async def drops(self) -> int | None:
        """Messages dropped since the nodes started, read from the broker; None if it won't say."""

    def counting(self) -> AbstractAsyncContextManager[DropCount]:
        """Follows the broker's own count, for as long as a run lasts."""
