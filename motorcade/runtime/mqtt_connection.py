"""One MQTT connection: framing, keepalive, writing, and a close within a bound."""

import asyncio
import random
import socket
import ssl
import sys
import time
from typing import Any, Protocol

from motorcade.runtime import mqtt_keepalive
from motorcade.runtime import mqtt_packets as packets
from motorcade.runtime.mqtt_addresses import addresses

#: A broker that is busy may take a while to read what was written.
_FLUSH_S = 5.0
#: Linux: choose the port of a bound address at connect, so that it counts per destination.
_IP_BIND_ADDRESS_NO_PORT = 24


class Receiver(Protocol):
    """Whose connection it is. Everything is called on the loop; what raises ends the connection."""

    def acknowledged(self, packet_id: int, reason_code: int) -> None:
        """A PUBACK came."""

    def arrived(self, first_byte: int, body: bytes) -> None:
        """Any other packet came."""

    def closed(self, error: Exception | None) -> None:
        """The socket is closed, not by us."""

    def failed(self, error: Exception) -> None:
        """A packet was malformed, or the receiver raised."""


class Connection(asyncio.Protocol):
    """A connection to a broker; it belongs to its receiver until that forgets it.

    gmqtt's own takes a task, two queues and a timer for each connection: see docs/decisions.md.
    """

    __slots__ = (
        "_closed",
        "_keepalive_s",
        "_last_in",
        "_last_out",
        "_pinged",
        "_receiver",
        "_rest",
        "_transport",
        "congested",
    )

    def __init__(self, receiver: Receiver) -> None:
        self._receiver: Receiver | None = receiver
        self._closed: asyncio.Future[None] | None = None
        self._transport: Any = None
        self._rest = b""
        self._keepalive_s = 0
        self._pinged = 0.0
        self._last_in = self._last_out = time.monotonic()
        #: Written data piles up here: the broker reads too slowly.
        self.congested = False

    async def open(
        self, endpoint: str, context: ssl.SSLContext | None, source_address: str | None
    ) -> None:
        """Connect to "host:port", with TLS if a context is given.

        Raises:
            OSError: nobody answers, or TLS fails.
        """
        host, _, port = endpoint.rpartition(":")
        host = host.strip("[]")  # of an IPv6 address
        *others, last = await addresses(host)
        for address in others:
            try:
                await self._open(address, int(port), context, host, source_address)
                return
            except ssl.SSLError:
                raise
            except OSError:
                continue  # another of the name's addresses may answer
        await self._open(last, int(port), context, host, source_address)

    async def _open(
        self,
        address: str,
        port: int,
        context: ssl.SSLContext | None,
        name: str,
        source_address: str | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        name_to_verify = name if context else None
        if source_address is None:
            await loop.create_connection(
                self._itself, address, port, ssl=context, server_hostname=name_to_verify
            )
            return
        bound = await _connected_from(source_address, address, port)
        try:
            await loop.create_connection(
                self._itself, sock=bound, ssl=context, server_hostname=name_to_verify
            )
        except BaseException:
            bound.close()
            raise

    def _itself(self) -> "Connection":
        return self

    # -- what its owner does --------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Write; several writes of one turn of the loop are one system call on uvloop."""
        self._last_out = time.monotonic()
        self._transport.write(data)

    def keep_alive(self, keepalive_s: int) -> None:
        """Ping when there is nothing else to say; 0 never does."""
        self._keepalive_s = keepalive_s
        if keepalive_s and (at := self.look(time.monotonic())) is not None:
            mqtt_keepalive.wheel().add(self, at)

    def pause(self) -> None:
        """Read nothing more until `resume`; TCP holds the broker back."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._last_in = time.monotonic()
        if not (self._transport.is_closing() or self._transport.is_reading()):
            self._transport.resume_reading()

    def forget(self) -> None:
        """Take no more packets and report nothing more: what still arrives is thrown away."""
        self._receiver = None
        self._rest = b""

    def abort(self) -> None:
        """Cut the socket."""
        self.forget()
        if self._transport is not None:
            self._transport.abort()

    async def close(self, reason_code: int) -> None:
        """Send DISCONNECT and let the broker close; a dead one has only a moment.

        Closing here while unread bytes wait would reset the connection (RFC 1122, 4.2.2.13), and
        the broker could lose the PUBACKs that were written before.
        """
        self.forget()
        if self._transport.is_closing():
            return
        self._transport.write(packets.disconnect(reason_code))
        self.resume()
        self._closed = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(_FLUSH_S):
                await self._closed
        except TimeoutError:
            self._transport.abort()

    # -- what the keepalive wheel calls -----------------------------------------------------------

    def look(self, now: float) -> float | None:
        """Ping or give up if it is time; returns when to look again."""
        receiver = self._receiver
        if receiver is None or self._transport.is_closing():
            return None
        if not self._transport.is_reading():
            self._last_in = now  # silence that is our own doing
        action, at = mqtt_keepalive.step(
            now, self._last_in, self._last_out, self._pinged, self._keepalive_s, random.random()
        )
        if action == "lost":
            self.abort()
            receiver.closed(TimeoutError("no answer to a ping"))
            return None
        if action == "ping":
            self._pinged = now
            self.write(packets.PINGREQ)
        return at

    # -- what the transport calls -----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        self._last_in = time.monotonic()
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        try:
            while end - at >= 2:
                size, body = data[at + 1], at + 2
                if size & 0x80:
                    size, body = _remaining_length(data, at)
                after = body + size
                if after > end:
                    break
                first = data[at]
                at = after
                if first == packets.PUBACK and size == 2:
                    receiver.acknowledged(data[body] << 8 | data[body + 1], 0)
                else:
                    receiver.arrived(first, data[body:after])
                if self._receiver is None:
                    return
        except Exception as error:  # noqa: BLE001 - the receiver decides
            self.abort()
            receiver.failed(error)
            return
        self._rest = data[at:]

    def pause_writing(self) -> None:
        self.congested = True

    def resume_writing(self) -> None:
        self.congested = False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
        receiver = self._receiver
        if receiver is not None:
            self.forget()
            receiver.closed(exc)


def _remaining_length(data: bytes, at: int) -> tuple[int, int]:
    """Size of the body and where it begins; a size beyond the data when the header is cut.

    Raises:
        ValueError: the length takes more than four bytes.
    """
    size = shift = 0
    for body in range(at + 1, min(at + 5, len(data))):
        byte = data[body]
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            return size, body + 1
        shift += 7
    if len(data) >= at + 5:
        raise ValueError("a packet's length takes more than four bytes")
    return len(data), at


async def _connected_from(source_address: str, address: str, port: int) -> socket.socket:
    """A socket that is bound to a source address and connected."""
    bound = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        bound.setblocking(False)
        if sys.platform == "linux":
            bound.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        bound.bind((source_address, 0))
        await asyncio.get_running_loop().sock_connect(bound, (address, port))
    except BaseException:
        bound.close()
        raise
    return bound
