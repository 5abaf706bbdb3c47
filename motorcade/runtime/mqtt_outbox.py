"""What a session has published at QoS 1 and not yet seen acknowledged, across connections."""

from collections import deque
from collections.abc import Callable

from motorcade.runtime.mqtt_packets import DUP

MAX_PACKET_ID = 65535


class Outbox:
    """Packet ids in use and the packets that wait for a PUBACK, in the order of publishing.

    gmqtt draws its ids for SUBSCRIBE from here too (`next_id`); those do not count in the window.
    """

    __slots__ = ("_last", "_resend", "_used", "_waiting", "window")

    def __init__(self) -> None:
        self._used: set[int] = set()
        self._last = 0
        self._waiting: dict[int, bytes] = {}
        self._resend: deque[int] = deque()
        #: Receive-maximum of the broker.
        self.window = MAX_PACKET_ID

    def __len__(self) -> int:
        """Messages that wait for their PUBACK."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        return len(self._waiting) >= self.window

    @property
    def ids_in_use(self) -> int:
        return len(self._used)

    def next_id(self) -> int:
        """A packet id that is not in use, 1 to 65535."""
        while True:
            self._last = self._last % MAX_PACKET_ID + 1
            if self._last not in self._used:
                self._used.add(self._last)
                return self._last

    def free(self, packet_id: int) -> None:
        """Give back an id that carries no message."""
        self._used.discard(packet_id)

    def add(self, packet_id: int, packet: bytes) -> None:
        """A message was published under this id."""
        self._waiting[packet_id] = packet

    def acknowledged(self, packet_id: int, write: Callable[[bytes], None]) -> bool:
        """A PUBACK came: False if nothing waited for it. Sends what a reconnect left to resend."""
        if self._waiting.pop(packet_id, None) is None:
            return False
        self._used.discard(packet_id)
        if self._resend:
            write(self._waiting[self._resend.popleft()])
        return True

    def send_again(self, write: Callable[[bytes], None], *, duplicate: bool) -> None:
        """On a new connection: send what waits, in order, as far as the window goes.

        Args:
            duplicate: mark them DUP, since the broker kept the session and may have seen them.
        """
        if duplicate:
            for packet_id, packet in self._waiting.items():
                self._waiting[packet_id] = bytes((packet[0] | DUP,)) + packet[1:]
        self._resend = deque(self._waiting)
        for _ in range(min(self.window, len(self._resend))):
            write(self._waiting[self._resend.popleft()])

    def clear(self) -> None:
        """Forget every message."""
        self._used.difference_update(self._waiting)
        self._waiting.clear()
        self._resend.clear()
