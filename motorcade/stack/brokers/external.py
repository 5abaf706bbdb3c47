"""Somebody's own broker: addresses and credentials, nothing to run."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from motorcade.fleet.errors import SettingsError
from motorcade.runtime.mqtt import Credentials
from motorcade.runtime.mqtt_options import Access, Tls
from motorcade.stack.brokers.base import DropCount, Endpoint
from motorcade.stack.brokers.probe import crosses
from motorcade.stack.program import Program

_ADDRESS = re.compile(
    r"(?:(?P<scheme>mqtts?)://)?(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+)(?::(?P<port>\d{1,5})?)?/?"
)
#: Ports that MQTT has of old, by scheme.
_PORTS = {"mqtt": 1883, "mqtts": 8883}


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


def parse_endpoints(text: str, ca: Path | None = None) -> tuple[Endpoint, ...]:
    """Reads "mqtt://host:port,mqtts://host:port"; scheme and port may be left out.

    Args:
        text: the addresses; one of IPv6 stands in brackets.
        ca: certificate authority with which TLS is spoken; `mqtts://` needs one.

    Raises:
        SettingsError: an address has another form, names it; or asks for TLS without a CA.
    """
    return tuple(_endpoint(one.strip(), ca) for one in text.split(","))


def _endpoint(address: str, ca: Path | None) -> Endpoint:
    if "@" in address:  # never shown: what stands before it is a password
        raise SettingsError(
            f"the broker address at {address.rpartition('@')[2]!r} holds a name or a password.",
            "Put them into a YAML file with username and password: --set target.credentials=FILE "
            "of `motorcade load`, --broker-credentials of `motorcade up`.",
        )
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise SettingsError(
            f"the broker address {address!r} is not of the form mqtt://HOST:PORT.",
            "Give mqtt://HOST:1883 or mqtts://HOST:8883, several separated by commas.",
        )
    scheme = found["scheme"] or "mqtt"
    if scheme == "mqtts" and ca is None:
        raise SettingsError(
            f"the broker address {address!r} asks for TLS, and there is no CA to trust here.",
            "`motorcade up` takes one with --broker-ca FILE, `motorcade load` with "
            "--set target.ca=FILE.",
        )
    return Endpoint(found["host"].strip("[]"), int(found["port"] or _PORTS[scheme]))
