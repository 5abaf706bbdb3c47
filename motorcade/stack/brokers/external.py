"""Somebody's own broker: addresses and credentials, nothing to run."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from motorcade.fleet.errors import SettingsError
from motorcade.runtime.mqtt import Credentials
from motorcade.runtime.mqtt_options import Access, Tls
from motorcade.stack.brokers.base import DropCount, Endpoint
from motorcade.stack.brokers.probe import crosses
from motorcade.stack.program import Program


@dataclass(frozen=True)
class External:
    """A broker that runs elsewhere.

    Args:
        endpoints: its MQTT addresses.
        clustered: whether they are one cluster.
        credentials: user name and password; None for an anonymous one.
        tls: the trusted CA, and a certificate to show; None without TLS.
    """

    endpoints: tuple[Endpoint, ...]
    clustered: bool = False
    credentials: Credentials | None = None
    tls: Tls | None = None

    name = "external"
    node_ports = ()
    durability = "external: as durable as its operator makes it; Motorcade cannot tell."

    def programs(self) -> list[Program]:
        return []

    async def ready(self) -> bool:
        access = Access(tls=self.tls, credentials=self.credentials)
        groups = [self.endpoints] if self.clustered else [(one,) for one in self.endpoints]
        return all(await asyncio.gather(*(crosses(group, access) for group in groups)))

    async def drops(self) -> int | None:
        return None

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[DropCount]:
        """As `drops`, which can be asked at any time."""
        yield self.drops


def parse_endpoints(text: str) -> tuple[Endpoint, ...]:
    """Reads "host:port,host:port"; each may begin with mqtt:// and leave out port 1883.

    Raises:
        SettingsError: an address has another form; names it.
    """
    return tuple(_endpoint(one.strip()) for one in text.split(","))


def _endpoint(address: str) -> Endpoint:
    bare = address.removeprefix("mqtt://").rstrip("/")
    host, _, port = bare.partition(":")
    if not host or "/" in bare or not (port or "1883").isdigit():
        raise SettingsError(
            f"the broker address {address!r} is not of the form mqtt://HOST:PORT.",
            "Give --broker-url mqtt://HOST:1883, several separated by commas.",
        )
    return Endpoint(host, int(port or "1883"))
