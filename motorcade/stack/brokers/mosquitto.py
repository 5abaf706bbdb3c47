"""Eclipse Mosquitto: a farm of independent nodes, the light default where it is installed."""

import asyncio
import getpass
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from motorcade.runtime.mqtt_options import Access
from motorcade.stack.brokers.base import (
    MAX_PACKET_BYTES,
    DropCount,
    Endpoint,
    QueueBound,
    counted,
)
from motorcade.stack.brokers.probe import ANYBODY, crosses, first_message, follow
from motorcade.stack.brokers.security import Security
from motorcade.stack.errors import StackError
from motorcade.stack.ports import LOOPBACK
from motorcade.stack.program import Program

_SYS_INTERVAL_S = 2
_DROPPED = "$SYS/broker/publish/messages/dropped"

#: Packets outstanding to a client that names no receive-maximum of its own (mosquitto's default of
#: 20 would throttle such a subscriber).
_MAX_INFLIGHT = 1000

_CONFIGURATION = """\
listener {port} {host}
{security}
# As root it would change to another user, which clears the tie to its parent's life.
user {user}
max_packet_size {max_packet}
max_queued_messages {max_queued}
max_queued_bytes 0
max_inflight_messages {max_inflight}
persistence true
persistence_location {data}/
autosave_interval 60
persistent_client_expiration 1d
sys_interval {sys_interval}
set_tcp_nodelay true
connection_messages false
log_dest stderr
log_type error
log_type warning
log_type notice
"""


def find() -> str | None:
    """The mosquitto program, if it is installed; Debian keeps it outside a plain user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True)
class Mosquitto:
    """A farm of mosquitto nodes.

    Args:
        folder: configuration and data, one folder a node.
        ports: one loopback port a node.
        bound: what a node holds for each subscriber that is away.
        security: what it asks of clients; None for nothing.
    """

    folder: Path
    ports: tuple[int, ...]
    bound: QueueBound
    security: Security | None = None

    name = "mosquitto"
    node_ports = ()
    clustered = False
    durability = (
        "mosquitto: a node that is killed loses what it held in memory since it last saved "
        "(every 60 s) and had not yet delivered; stopped in order it loses nothing."
    )

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(Endpoint(LOOPBACK, port) for port in self.ports)

    def programs(self) -> list[Program]:
        """Raises StackError if mosquitto is not installed."""
        binary = find()
        if binary is None:
            raise StackError(
                "mosquitto is not installed.",
                "Install it (apt-get install mosquitto), or take --broker artemis.",
            )
        return [self._program(binary, node, port) for node, port in enumerate(self.ports, 1)]

    def _program(self, binary: str, node: int, port: int) -> Program:
        data = self.folder / str(node)
        data.mkdir(parents=True, exist_ok=True)
        configuration = data / "mosquitto.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                port=port,
                host=LOOPBACK,
                security=self._security(),
                user=getpass.getuser(),
                max_packet=MAX_PACKET_BYTES,
                max_queued=self.bound.messages,
                max_inflight=_MAX_INFLIGHT,
                data=data,
                sys_interval=_SYS_INTERVAL_S,
            )
        )
        return Program(f"mosquitto-{node}", (binary, "-c", str(configuration)), cwd=data)

    def _security(self) -> str:
        security = self.security
        if security is None:
            return "allow_anonymous true"
        security.prepare()
        lines = [f"allow_anonymous {str(not security.named).lower()}"]
        if security.tls:
            server = security.server
            lines += [f"cafile {security.ca}", f"certfile {server}", f"keyfile {server}"]
        if security.mutual_tls:
            lines += ["require_certificate true", "use_identity_as_username true"]
        if security.login:
            passwords = security.mosquitto_passwords()
            lines.append(f"password_file {_private(self.folder, 'passwords', passwords)}")
        if security.named:
            rules = security.mosquitto_access()
            lines.append(f"acl_file {_private(self.folder, 'access', rules)}")
        return "\n".join(lines)

    @property
    def _access(self) -> Access:
        return self.security.access() if self.security else ANYBODY

    async def ready(self) -> bool:
        access = self._access
        return all(await asyncio.gather(*(crosses([one], access) for one in self.endpoints)))

    async def drops(self) -> int | None:
        """None, too, when nothing was dropped for a minute: mosquitto then forgets the count."""
        access = self._access
        counts = await asyncio.gather(
            *(
                first_message(endpoint, _DROPPED, access=access, timeout_s=3 * _SYS_INTERVAL_S)
                for endpoint in self.endpoints
            )
        )
        known = [int(count) for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[DropCount]:
        """A count is retained for a minute only, so whoever wants it at the end must have listened.

        mosquitto tells a count when it changes: a node that is silent meanwhile has dropped
        nothing. A node that starts again counts from 0; what it had counted before is kept.
        """
        counts: dict[Endpoint, list[int]] = {endpoint: [] for endpoint in self.endpoints}

        async def total() -> int:
            return sum(map(counted, counts.values()))

        access = self._access
        async with AsyncExitStack() as listening:
            for endpoint, seen in counts.items():
                await listening.enter_async_context(
                    follow(endpoint, _DROPPED, partial(_note, seen), access)
                )
            yield total


def _private(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def _note(seen: list[int], count: bytes) -> None:
    seen.append(int(count))
