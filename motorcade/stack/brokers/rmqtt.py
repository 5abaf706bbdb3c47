"""RMQTT: a raft cluster of native MQTT brokers, where its program is on this machine.

It keeps sessions, queues and retained messages in memory, on the node that has the session.
"""

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from motorcade.stack.brokers.base import (
    MAX_PACKET_BYTES,
    DropCount,
    Endpoint,
    QueueBound,
    counted,
)
from motorcade.stack.brokers.probe import crosses
from motorcade.stack.errors import StackError
from motorcade.stack.ports import LOOPBACK
from motorcade.stack.program import Program

#: Further ports of a node: for its neighbours' calls, for raft, for its own figures.
NODE_PORTS = ("rpc", "raft", "http")

#: The version that the configuration is written for and tested with.
VERSION = "0.24.0"

#: Packets outstanding to a client, and connections being made, at a time.
_MAX_INFLIGHT = 1000
_MAX_HANDSHAKES = 5000
#: How often the count of drops is asked while a run lasts: a node that dies takes its count along.
_ASK_S = 2.0

# node.busy refuses connections by the machine's load average, which says nothing on a machine that
# a load test fills. Both reuseaddr lines: without them a node that starts again at once fails.
# mqueue_rate_limit would hold a bridge back that drains its queue.
_NODE = """\
node.id = {number}
node.busy.check_enable = false
rpc.server_addr = "{host}:{rpc_port}"
rpc.reuseaddr = true
log.to = "console"
log.level = "warn"
plugins.dir = "{plugins}/"
plugins.default_startups = [{starts}]
listener.tcp.external.addr = "{host}:{port}"
listener.tcp.external.allow_anonymous = true
listener.tcp.external.nodelay = true
listener.tcp.external.max_connections = 1000000
listener.tcp.external.max_handshaking_limit = {max_handshakes}
listener.tcp.external.max_packet_size = "{max_packet_kb}KB"
listener.tcp.external.max_mqueue_len = {max_queued}
listener.tcp.external.mqueue_rate_limit = "1000000,1s"
listener.tcp.external.max_inflight = {max_inflight}
listener.tcp.external.backlog = 2048
listener.tcp.external.session_expiry_interval = "5m"
listener.tcp.external.max_session_expiry_interval = "2d"
"""

# leader_id 1: nodes that start together and choose by themselves each found a cluster of their own,
# acknowledge publishers and deliver to a third of the subscribers.
_RAFT = """\
node_grpc_addrs = [{rpc}]
raft_peer_addrs = [{raft}]
laddr = "{host}:{raft_port}"
leader_id = 1
raft.grpc_reuseaddr = true
"""

# On by default, and on every address of the machine.
_HTTP = """\
http_laddr = "{host}:{http_port}"
http_bearer_token = "{token}"
"""

# A node that has no neighbours ends at once if it is to look for their leader.
_ALWAYS, _CLUSTERED = ("rmqtt-retainer", "rmqtt-shared-subscription"), ("rmqtt-cluster-raft",)

_ACCESS = 'rules = [["allow", "all"]]\n'


def find(named: Path | None) -> str | None:
    """The rmqttd program: the one that is named, in the PATH, or where Cargo installs."""
    if named is not None:
        return shutil.which(str(named))
    return shutil.which("rmqttd") or shutil.which(
        "rmqttd", path=str(Path.home() / ".cargo" / "bin")
    )


@dataclass(frozen=True)
class Rmqtt:
    """An RMQTT node, or a raft cluster of them.

    Args:
        program: the rmqttd to run; None if there is none.
        folder: configuration, one folder a node.
        ports: each node's loopback port for MQTT.
        node_ports: each node's further ports, as NODE_PORTS names them.
        bound: what a node holds for each subscriber that is away.
    """

    program: str | None
    folder: Path
    ports: tuple[int, ...]
    node_ports: tuple[tuple[int, ...], ...]
    bound: QueueBound

    name = "rmqtt"
    durability = (
        "rmqtt: a node that is killed loses its sessions with what they had not yet delivered, and "
        "messages for them until they subscribe again; the other nodes go on."
    )

    @property
    def clustered(self) -> bool:
        return len(self.ports) > 1

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(Endpoint(LOOPBACK, port) for port in self.ports)

    def programs(self) -> list[Program]:
        """Raises StackError if RMQTT is not on this machine."""
        if self.program is None:
            raise StackError(
                "RMQTT is not on this machine.",
                f"Build it (cargo install rmqttd --version {VERSION} --locked; it needs protoc), "
                "name it in MOTORCADE_RMQTT, or take --broker artemis.",
            )
        return [self._program(self.program, n) for n in range(1, len(self.ports) + 1)]

    def _program(self, binary: str, number: int) -> Program:
        folder = self.folder / str(number)
        plugins = folder / "plugins"
        plugins.mkdir(parents=True, exist_ok=True)
        rpc_port, raft_port, http_port = self.node_ports[number - 1]
        node = _NODE.format(
            number=number,
            host=LOOPBACK,
            port=self.ports[number - 1],
            rpc_port=rpc_port,
            plugins=plugins,
            starts=", ".join(
                f'"{name}"' for name in (_CLUSTERED if self.clustered else ()) + _ALWAYS
            ),
            max_packet_kb=MAX_PACKET_BYTES // 1024,
            max_queued=self.bound.messages,
            max_inflight=_MAX_INFLIGHT,
            max_handshakes=_MAX_HANDSHAKES,
        )
        raft = _RAFT.format(
            host=LOOPBACK,
            raft_port=raft_port,
            rpc=_addresses(rpc for rpc, _, _ in self.node_ports),
            raft=_addresses(raft for _, raft, _ in self.node_ports),
        )
        http = _HTTP.format(host=LOOPBACK, http_port=http_port, token=self._token())
        for path, text in {
            folder / "rmqtt.toml": node,
            plugins / "rmqtt-cluster-raft.toml": raft,
            plugins / "rmqtt-http-api.toml": http,
            plugins / "rmqtt-acl.toml": _ACCESS,
        }.items():
            path.touch(mode=0o600)
            path.write_text(text)
        command = (binary, "-f", str(folder / "rmqtt.toml"), "--id", str(number))
        return Program(f"rmqtt-{number}", command, cwd=folder)

    def _token(self) -> str:
        """What its HTTP interface asks for; made once."""
        path = self.folder / "http-token"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe())
        return path.read_text()

    async def ready(self) -> bool:
        return await crosses(self.endpoints)

    async def drops(self) -> int | None:
        counts = await self._counts()
        return None if None in counts else sum(count or 0 for count in counts)

    async def _counts(self) -> list[int | None]:
        """Each node's drops; None from one that does not answer."""
        headers = {"Authorization": f"Bearer {self._token()}"}
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
            return await asyncio.gather(
                *(self._count(session, number) for number in range(1, len(self.ports) + 1))
            )

    async def _count(self, session: aiohttp.ClientSession, number: int) -> int | None:
        url = f"http://{LOOPBACK}:{self.node_ports[number - 1][2]}/api/v1/metrics/{number}"
        try:
            async with session.get(url) as answer:
                return int((await answer.json())["metrics"]["messages.dropped"])
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError):
            return None

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[DropCount]:
        """A node that starts again counts from 0; what it had counted before is kept."""
        seen: list[list[int]] = [[] for _ in self.ports]

        async def look() -> None:
            for node, count in zip(seen, await self._counts(), strict=True):
                if count is not None:
                    node.append(count)

        async def follow() -> None:
            while True:
                await look()
                await asyncio.sleep(_ASK_S)

        async def total() -> int | None:
            await look()
            return sum(map(counted, seen)) if all(seen) else None

        following = asyncio.create_task(follow())
        try:
            yield total
        finally:
            following.cancel()


def _addresses(ports: Iterable[int]) -> str:
    return ", ".join(f'"{n}@{LOOPBACK}:{port}"' for n, port in enumerate(ports, 1))
