"""A client's connection to a broker that comes back when it is lost."""

import asyncio
import random
import ssl
import time
from collections.abc import Callable
from typing import Any

from motorcade.fleet.errors import UnreachableError
from motorcade.runtime import mqtt_packets as packets
from motorcade.runtime.mqtt_connection import Connection
from motorcade.runtime.mqtt_doors import door
from motorcade.runtime.mqtt_errors import MqttOffline, MqttRefused, MqttUntrusted
from motorcade.runtime.mqtt_options import Credentials, Tls, Will
from motorcade.runtime.mqtt_packets import Connack
from motorcade.runtime.mqtt_reasons import FINAL, NOT_AUTHORISED, TRANSIENT

_BACKOFF_BASE_S = 0.5
_BACKOFF_CAP_S = 30.0
_CONNACK_TIMEOUT_S = 10.0


def ignore(*_: object) -> None:
    """The callback of who does not listen."""


class MqttLink:
    """Connects, tells who the client is, notices the loss, and comes back with back-off.

    What a session does with the connection is its own: it extends this class, and one of these has
    no other use. Arguments and callbacks: see `MqttSession`.
    """

    __slots__ = (
        "__weakref__",
        "_attempts",
        "_clean_start",
        "_closing",
        "_connack",
        "_connection",
        "_credentials",
        "_cuts",
        "_keepalive_s",
        "_receive_maximum",
        "_reconnect",
        "_reconnecting",
        "_session_expiry_s",
        "_source_address",
        "_tls",
        "accepted_at",
        "away_until",
        "client_id",
        "connected",
        "ended",
        "endpoint",
        "generation",
        "on_connected",
        "on_disconnected",
        "will",
    )

    def __init__(
        self,
        client_id: str,
        endpoint: str,
        *,
        clean_start: bool,
        session_expiry_s: int,
        receive_maximum: int,
        keepalive_s: int,
        will: Will | None,
        tls: Tls | None,
        credentials: Credentials | None,
        source_address: str | None,
        reconnect: bool,
    ) -> None:
        self.client_id = client_id
        self.endpoint = endpoint
        self._clean_start = clean_start
        self._session_expiry_s = session_expiry_s
        self._receive_maximum = receive_maximum
        self._keepalive_s = keepalive_s
        #: The will of the next connection; the present one keeps its own.
        self.will = will
        self._tls = tls
        self._credentials = credentials
        self._source_address = source_address
        self._reconnect = reconnect

        #: (session, whether the broker still had the session), subscriptions being in place.
        self.on_connected: Callable[[Any, bool], None] = ignore
        #: (session, reason code of the broker's DISCONNECT or refusal; None for a lost socket).
        self.on_disconnected: Callable[[Any, int | None], None] = ignore

        self.connected = False
        #: Lost for good: it does not come back by itself.
        self.ended = False
        #: Rises with each connection: packet ids received belong to one generation.
        self.generation = 0
        #: When the broker last accepted the client (CONNACK), and until when there is no network;
        #: monotonic seconds.
        self.accepted_at = 0.0
        self.away_until = 0.0

        self._connection: Connection | None = None
        self._connack: asyncio.Future[Connack] | None = None
        self._reconnecting: asyncio.Task[None] | None = None
        self._attempts = 0
        self._cuts = 0
        self._closing = False

    async def connect(self, timeout_s: float, *, retry: bool = False) -> None:
        """Connect once, or with `retry` until it succeeds, waiting between attempts.

        Raises:
            MqttRefused: the broker refused; with `retry` only for a reason that stays.
            UnreachableError: there was no connection within `timeout_s`.
            SettingsError: the client's own certificate cannot be used.
        """
        self._closing = self.ended = False
        try:
            async with asyncio.timeout(timeout_s):
                attempt = 0
                while True:
                    try:
                        await self._open()
                        return
                    except (OSError, TimeoutError, MqttOffline) as error:
                        if not retry:
                            raise self._unreachable(str(error)) from error
                    except MqttRefused as refusal:
                        if not retry or refusal.reason_code not in TRANSIENT:
                            raise
                    await self._pause(attempt)
                    attempt += 1
        except TimeoutError as error:
            raise self._unreachable(f"no answer within {timeout_s:g} s") from error

    async def disconnect(self, *, reason_code: int = 0) -> None:
        """End the connection in order; unacknowledged messages are forgotten."""
        if (connection := self._end()) is not None:
            await connection.close(reason_code)

    async def drop(self) -> None:
        """Cut the socket without a DISCONNECT, so that the will is published; do not come back."""
        if (connection := self._end()) is not None:
            connection.abort()

    def cut(self, away_s: float = 0.0) -> None:
        """Lose the connection as if the network had cut it: the session comes back by itself.

        One that is only being made is lost as well.

        Args:
            away_s: how long there is no network; it does not try again before. The end of a longer
                absence stays where it is.
        """
        self.away_until = max(self.away_until, time.monotonic() + away_s)
        self._cuts += 1
        if self._connection is not None:
            self._lost(None)

    # -- what a session adds ----------------------------------------------------------------------

    async def _restore(self, connection: Connection, answer: Connack) -> None:
        """The broker has accepted: take its terms, subscribe again."""
        raise NotImplementedError

    def _send_again(self, *, duplicate: bool) -> None:
        """Everything is in place: send what the last connection left over."""
        raise NotImplementedError

    def _forget(self) -> None:
        """The session ends here."""
        raise NotImplementedError

    def _interrupted(self) -> None:
        """The connection is lost, or was not made."""
        raise NotImplementedError

    # -- one connection ---------------------------------------------------------------------------

    async def _open(self) -> None:
        """One attempt, bounded: socket, CONNECT, CONNACK, subscriptions and messages restored."""
        context = self._tls.context(self.client_id) if self._tls else None
        connection = Connection(self)
        cuts = self._cuts
        try:
            async with asyncio.timeout(_CONNACK_TIMEOUT_S):
                await connection.open(self.endpoint, context, self._source_address)
                if self._cuts != cuts:
                    raise ConnectionResetError("cut before CONNECT")
                self._connection = connection
                await self._handshake(connection)
        except BaseException as error:
            if self._connection is connection:
                self._connection = None
                self.connected = False
            connection.abort()
            if context is not None and (why := _distrust(error)):
                raise MqttUntrusted(why, self.endpoint) from error
            raise
        finally:
            self._connack = None

    async def _handshake(self, connection: Connection) -> None:
        self._connack = asyncio.get_running_loop().create_future()
        connection.write(self._connect_packet())
        answer = await self._connack
        if answer.reason_code:
            raise MqttRefused(
                f"the client {self.client_id}",
                answer.reason_code,
                self.endpoint,
                answer.properties.get("server_reference", ""),
            )
        connection.keep_alive(answer.properties.get("server_keep_alive", self._keepalive_s))
        self.accepted_at = time.monotonic()
        await self._restore(connection, answer)
        if self._connection is not connection:  # lost between its CONNACK and now
            raise ConnectionResetError("closed after CONNACK")
        self.connected = True
        self._send_again(duplicate=answer.session_present)
        self.on_connected(self, answer.session_present)

    def _connect_packet(self) -> bytes:
        wanted = {"receive_maximum": self._receive_maximum}
        if self._session_expiry_s:
            wanted["session_expiry_interval"] = self._session_expiry_s
        will = self.will and packets.WillMessage(
            self.will.topic,
            self.will.payload,
            self.will.qos,
            self.will.retain,
            packets.encode_properties(self.will.properties),
        )
        credentials = self._credentials
        username, password = credentials.for_client(self.client_id) if credentials else (None, None)
        return packets.connect(
            self.client_id,
            clean_start=self._clean_start,
            keepalive_s=self._keepalive_s,
            properties=packets.encode_properties(wanted),
            will=will,
            username=username,
            password=password,
        )

    def _lost(self, reason_code: int | None, error: Exception | None = None) -> None:
        """The connection is over, by the broker's DISCONNECT or because the socket closed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        was_connected, self.connected = self.connected, False
        if self._connack is not None and not self._connack.done():
            self._connack.set_exception(error or ConnectionResetError("closed before CONNACK"))
        self._interrupted()
        if not was_connected:
            return
        if self._reconnect and not self._closing and not self._final(reason_code):
            self._reconnecting = asyncio.get_running_loop().create_task(self._come_back())
        else:
            self.ended = True
        self.on_disconnected(self, reason_code)

    def _final(self, reason_code: int | None) -> bool:
        if reason_code == NOT_AUTHORISED and self._credentials and self._credentials.renewed:
            return False  # most likely the token ran out; CONNACK tells otherwise
        return reason_code in FINAL

    async def _come_back(self) -> None:
        # Two clients of one id take the session from each other, and not every broker says so
        # (mosquitto 2.0.11 closes without 0x8E): a short life does not end the back-off.
        if time.monotonic() - self.accepted_at > _BACKOFF_CAP_S:
            self._attempts = 0
        while True:
            await self._pause(self._attempts)
            self._attempts += 1
            try:
                async with door(self.endpoint):
                    await self._open()
                self._reconnecting = None
                return
            except (OSError, TimeoutError, MqttOffline):
                continue
            except MqttRefused as refusal:
                if refusal.reason_code not in TRANSIENT:
                    self.ended = True
                    self.on_disconnected(self, refusal.reason_code)
                    return
            except Exception as error:  # noqa: BLE001 - whatever it is, it may be over next time
                self._report(error, "coming back failed")

    async def _pause(self, attempt: int) -> None:
        """Wait before an attempt, and for the network, which may go away again meanwhile."""
        while True:
            away_s = max(0.0, self.away_until - time.monotonic())
            await asyncio.sleep(away_s + _backoff_s(attempt))
            if time.monotonic() >= self.away_until:
                return

    def _end(self) -> Connection | None:
        self._closing = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            self._reconnecting = None
        self._forget()
        self.connected = False
        connection, self._connection = self._connection, None
        return connection

    # -- what the connection calls --------------------------------------------------------------

    def acknowledged(self, packet_id: int, reason_code: int) -> None:
        """A PUBACK came."""
        raise NotImplementedError

    def arrived(self, first_byte: int, body: bytes) -> None:
        """A packet other than PUBACK came; those of the connection's own life are handled here."""
        kind = first_byte & 0xF0
        if kind == packets.DISCONNECT:
            self._lost(body[0] if body else 0)
        elif kind == packets.CONNACK and self._connack is not None and not self._connack.done():
            # Now, not when the waiter wakes: messages may follow in the same segment.
            self.generation += 1
            self._connack.set_result(packets.parse_connack(body))

    def closed(self, error: Exception | None) -> None:
        """The socket is closed, not by us."""
        self._lost(None, error)

    def failed(self, error: Exception) -> None:
        """A packet was malformed, or a callback raised."""
        self._report(error, "a received packet failed")
        self._lost(None)

    def _report(self, error: Exception, what: str) -> None:
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"{self.client_id}: {what}", "exception": error}
        )

    def _unreachable(self, why: str) -> UnreachableError:
        return UnreachableError(
            f"The MQTT broker {self.endpoint} cannot be reached: {why}.",
            "Is it running? Check the address.",
        )


def _backoff_s(attempt: int) -> float:
    """Exponential back-off with full jitter, so that a fleet does not come back in step."""
    return random.uniform(0, min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2 ** min(attempt, 10)))


def _distrust(error: BaseException) -> str:
    """Why TLS failed, if trying again cannot help; empty if it may."""
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return getattr(error, "verify_message", "") or error.reason or str(error)
    return ""
