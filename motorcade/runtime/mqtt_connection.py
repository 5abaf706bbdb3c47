"""One MQTT connection over gmqtt's transport: packets as they come, a bounded close."""

import asyncio
import time
from typing import Any

from gmqtt.mqtt.connection import MQTTConnection
from gmqtt.mqtt.protocol import BaseMQTTProtocol, MQTTProtocol
from gmqtt.mqtt.utils import ConnectionState

#: A broker that is busy may take a while to read what was written.
_FLUSH_S = 5.0


class Protocol(MQTTProtocol):
    """gmqtt's framing, fed as bytes arrive: its stream and reading task would cost a wake-up for
    every read, and read on behind a transport that was asked to pause.
    """

    def __init__(self, id_generator: object) -> None:
        super().__init__(connection_state=ConnectionState(), id_generator=id_generator)
        self._rest = b""
        self._discards = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        BaseMQTTProtocol.connection_made(self, transport)  # without MQTTProtocol's read task

    def data_received(self, data: bytes) -> None:
        if self._discards:
            return
        data = self._rest + data if self._rest else data
        parsed = self._read_packet(data)
        if parsed < 0:
            self._transport.abort()
        else:
            self._rest = data[parsed:]

    def discard(self) -> None:
        """Take no more packets: what still arrives is read and thrown away."""
        self._discards = True

    def eof_received(self) -> bool:
        return False  # the transport closes


class Connection(MQTTConnection):
    """gmqtt's connection with its keepalive, closed within a bound."""

    _protocol: Protocol

    def __init__(
        self,
        transport: asyncio.Transport,
        protocol: Protocol,
        clean: bool,
        keepalive_s: int,
        to: Any,
    ) -> None:
        super().__init__(transport, protocol, clean, keepalive_s, to)

    def write(self, data: bytes) -> None:
        self._protocol.write_data(data)

    def pause(self) -> None:
        """Read nothing more until `resume`; TCP holds the broker back."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        self._last_data_in = time.monotonic()
        if not self._transport.is_closing():
            self._transport.resume_reading()

    async def close(self) -> None:
        """Let the broker close after the DISCONNECT that was sent; a dead one has only a moment.

        Closing here while unread bytes wait would reset the connection (RFC 1122, 4.2.2.13), and
        the broker could lose the PUBACKs that were written before.
        """
        self._forget()
        self._protocol.discard()
        if not (self._transport.is_closing() or self._transport.is_reading()):
            self._transport.resume_reading()
        try:
            async with asyncio.timeout(_FLUSH_S):
                await self._protocol.closed
        except (OSError, TimeoutError):
            self._transport.abort()

    def abort(self) -> None:
        """Cut the socket."""
        self._forget()
        self._transport.abort()

    def _keep_connection(self) -> None:
        if not self.is_closing() and not self._transport.is_reading():
            self._last_data_in = time.monotonic()  # silence that is our own doing
        super()._keep_connection()

    def _forget(self) -> None:
        """Stop the keepalive timer, which would hold a lost connection in memory."""
        if self._keep_connection_callback:
            self._keep_connection_callback.cancel()
