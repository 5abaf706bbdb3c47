"""How a client program talks to the bench: one word a line, on standard input and output.

Told the order `endpoint clients interval_s seconds payload_bytes qos` as arguments, a client says
`started`, waits for a line, connects all, says `connected SECONDS`, waits for a line, publishes
for the given seconds (each client once an interval), waits until all is acknowledged, says
`published SENT ACKNOWLEDGED`, and waits for a last line before it ends. The bench reads CPU and
memory of the process from the kernel at each word, so that a program measures nothing itself.
"""

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Order:
    """What a client program is to do."""

    endpoint: str
    clients: int
    interval_s: float
    seconds: float
    payload_bytes: int
    qos: int

    @classmethod
    def read(cls) -> "Order":
        endpoint, clients, interval_s, seconds, payload_bytes, qos = sys.argv[1:7]
        return cls(
            endpoint, int(clients), float(interval_s), float(seconds), int(payload_bytes), int(qos)
        )

    @property
    def host(self) -> str:
        return self.endpoint.rpartition(":")[0]

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])

    @property
    def payload(self) -> bytes:
        return b"x" * self.payload_bytes

    @property
    def names(self) -> list[str]:
        """Client ids, of the length of a VIN."""
        return [f"BENCH{number:012d}" for number in range(self.clients)]


def topic(name: str) -> str:
    """Where a client publishes."""
    return f"fleet/v1/{name[-2:]}/{name}/telemetry"


def say(*words: object) -> None:
    """One line to the bench."""
    print(*words, flush=True)


def wait() -> None:
    """Until the bench says go on."""
    sys.stdin.readline()
