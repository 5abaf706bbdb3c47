"""Apache Artemis from Maven Central: one node where mosquitto is missing, or a real cluster.

It stores every QoS 1 message on disk before it acknowledges, and pages instead of dropping.
"""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from motorcade.stack.brokers import artemis_files, artemis_gate
from motorcade.stack.brokers.artemis_files import DROPPED, Neighbourhood
from motorcade.stack.brokers.artemis_management import attribute
from motorcade.stack.brokers.base import DropCount, Endpoint
from motorcade.stack.brokers.probe import ANYBODY, crosses
from motorcade.stack.brokers.security import STACK, Security
from motorcade.stack.java import flags, java
from motorcade.stack.ports import LOOPBACK
from motorcade.stack.program import Program

#: Largest Java heap of a node that is alone, and of one among several on the same machine.
_HEAP_ALONE_MB = 768
_HEAP_MB = 256
#: Share of the heap that messages may take before they are paged to disk.
_MESSAGES_SHARE = 0.4

#: Further ports of a node: for its neighbours and for management.
NODE_PORTS = ("core",)

_KEEPS = (
    "a node that is killed keeps what it acknowledged (it is in the file system's cache) and "
    "delivers it after its restart"
)
_POWER = "a power failure may lose the last moments, as the journal is not forced to disk."


@dataclass(frozen=True)
class Artemis:
    """An Artemis node, or a cluster of them joined by core bridges.

    Args:
        home: folder of the unpacked archive.
        folder: configuration and data, one folder a node; kept, a restart finds its sessions and
            messages again.
        ports: each node's loopback port for MQTT.
        node_ports: each node's further ports, as NODE_PORTS names them.
        security: what it asks of clients; None for nothing. Any certificate of the CA may do
            anything; with a login, rights are those of the role, not of the car.
    """

    home: Path
    folder: Path
    ports: tuple[int, ...]
    node_ports: tuple[tuple[int, ...], ...]
    security: Security | None = None

    name = "artemis"

    @property
    def clustered(self) -> bool:
        return len(self.ports) > 1

    @property
    def durability(self) -> str:
        if not self.clustered:
            return f"artemis: {_KEEPS}; {_POWER}"
        return (
            f"artemis cluster: {_KEEPS}, and the other nodes store what they take for its sessions "
            "until then; a session that comes back on another node does not find its queue, and "
            f"retained messages stay on the node that took them; {_POWER}"
        )

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return tuple(Endpoint(LOOPBACK, port) for port in self.ports)

    @property
    def _core_ports(self) -> list[int]:
        return [core for (core,) in self.node_ports]

    @property
    def _heap_mb(self) -> int:
        return _HEAP_MB if self.clustered else _HEAP_ALONE_MB

    def programs(self) -> list[Program]:
        if self.security is not None:
            self.security.prepare()
        neighbourhood = Neighbourhood(self._core_ports, self._secret()) if self.clustered else None
        return [
            self._program(number, *ports, neighbourhood)
            for number, ports in enumerate(zip(self.ports, self._core_ports, strict=True), 1)
        ]

    def _program(
        self, number: int, port: int, core_port: int, neighbourhood: Neighbourhood | None
    ) -> Program:
        name = f"artemis-{number}"
        folder = self.folder / str(number)
        memory_mb = round(self._heap_mb * _MESSAGES_SHARE)
        artemis_files.write(folder, name, port, core_port, memory_mb, neighbourhood, self.security)
        command = self._java(folder)
        if neighbourhood is not None:
            ports = [core_port, *(one for one in self._core_ports if one != core_port)]
            asked = self.security
            login = ("--login", str(asked.credentials(STACK))) if asked and asked.login else ()
            gate = (sys.executable, "-m", artemis_gate.__name__, *login, *map(str, ports), "--")
            command = (*gate, *command)
        return Program(name, command, cwd=folder)

    def _secret(self) -> str:
        """The nodes' common password: made once, so that a node that starts again still fits."""
        path = self.folder / "cluster-password"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe())
        return path.read_text()

    def _java(self, folder: Path) -> tuple[str, ...]:
        etc = folder / "etc"
        return (
            java(),
            *flags(self._heap_mb, folder / "tmp"),
            f"-Dartemis.home={self.home}",
            f"-Dartemis.instance={folder}",
            f"-Dartemis.instance.etc={etc}",
            f"-Dartemis.instance.uri=file:{folder}/",
            f"-Dartemis.instance.etc.uri=file:{etc}/",
            f"-Ddata.dir={folder}/data",
            f"-Djava.security.auth.login.config={etc}/login.config",
            f"-Dlog4j2.configurationFile={etc}/log4j2.properties",
            "-Dlog4j2.disableJmx=true",
            "--enable-native-access=ALL-UNNAMED",
            "--add-opens=java.base/jdk.internal.misc=ALL-UNNAMED",
            "-cp",
            f"{self.home}/lib/artemis-boot.jar",
            "org.apache.activemq.artemis.boot.Artemis",
            "run",
        )

    async def ready(self) -> bool:
        access = self.security.access() if self.security else ANYBODY
        return await crosses(self.endpoints, access)

    async def drops(self) -> int | None:
        asked = self.security
        login = asked.login_of(STACK) if asked and asked.login else None
        counts = await asyncio.gather(
            *(
                attribute(Endpoint(LOOPBACK, port), f"queue.{DROPPED}", "messageCount", login)
                for port in self._core_ports
            )
        )
        return None if None in counts else sum(counts)

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[DropCount]:
        """As `drops`: what was dropped stays in a queue on disk, so a restart forgets none."""
        yield self.drops
