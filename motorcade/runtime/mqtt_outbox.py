"""What a session has published at QoS 1 and not yet seen acknowledged, across connections."""

from collections.abc import Callable, Container

import msgspec

MAX_PACKET_ID = 65535


class Sent(msgspec.Struct, gc=False):
    """A message as it can be sent again: topic aliases do not outlive a connection."""

    topic: bytes
    payload: bytes
    retain: bool
    properties: bytes


class Outbox:
    """Messages that wait for a PUBACK, by packet id, in the order of publishing.

    Args:
        others: packet ids in use for other packets.
    """

    __slots__ = ("_duplicate", "_last", "_others", "_resend", "_waiting", "window")

    def __init__(self, others: Container[int] = ()) -> None:
        self._others = others
        self._last = 0
        self._waiting: dict[int, Sent] = {}
        #: Ids still to be sent again, last one first.
        self._resend: list[int] | None = None
        self._duplicate = False
        #: Receive-maximum of the broker.
        self.window = MAX_PACKET_ID

    def __len__(self) -> int:
        """Messages that wait for their PUBACK."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        return len(self._waiting) >= self.window

    def next_id(self) -> int:
        """A packet id that is not in use, 1 to 65535."""
        while True:
            self._last = self._last % MAX_PACKET_ID + 1
            if self._last not in self._waiting and self._last not in self._others:
                return self._last

    def add(self, packet_id: int, sent: Sent) -> None:
        """A message was published under this id."""
        self._waiting[packet_id] = sent

    def acknowledged(self, packet_id: int) -> bool:
        """A PUBACK came: False if nothing waited for it."""
        return self._waiting.pop(packet_id, None) is not None

    def begin_again(self, *, duplicate: bool) -> None:
        """A new connection: everything that waits is to be sent again, in order.

        Args:
            duplicate: mark it DUP, since the broker kept the session and may have seen it.
        """
        self._resend = list(reversed(self._waiting)) or None
        self._duplicate = duplicate

    def send_again(self, write: Callable[[int, Sent, bool], None], room: int) -> None:
        """Send again up to `room` of what a reconnect left over."""
        waiting = self._resend
        while waiting and room > 0:
            packet_id = waiting.pop()
            write(packet_id, self._waiting[packet_id], self._duplicate)
            room -= 1
        if not waiting:
            self._resend = None

    @property
    def resending(self) -> bool:
        return self._resend is not None

    def clear(self) -> None:
        """Forget every message."""
        self._waiting.clear()
        self._resend = None
