"""Apicurio Registry, serving the Confluent-compatible schema API on the loopback address.

Its schemas are kept in an H2 database file. In-memory storage would forget them when the process is
restarted, and records already in Kafka would become unreadable; storage in Kafka makes it wait for
Kafka, which more than doubles its start, and adds nothing on one machine.
"""

from dataclasses import dataclass
from pathlib import Path

import aiohttp

from motorcade.stack.java import flags, java
from motorcade.stack.ports import LOOPBACK
from motorcade.stack.program import Program


@dataclass(frozen=True)
class Registry:
    """One registry process.

    Args:
        home: folder of the unpacked archive.
        folder: where its database lives; kept, a restart finds its schemas again.
        port, management_port: loopback ports.
        heap_mb: largest Java heap.
    """

    home: Path
    folder: Path
    port: int
    management_port: int
    heap_mb: int = 256

    @property
    def url(self) -> str:
        """Address for clients of the Confluent schema-registry API."""
        return f"http://{LOOPBACK}:{self.port}/apis/ccompat/v7"

    def program(self) -> Program:
        """The server process."""
        scratch = self.folder / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        return Program(
            name="registry",
            argv=(
                java(),
                *flags(self.heap_mb, scratch),
                # It serves a handful of requests a run: the fast compiler starts it sooner.
                "-XX:TieredStopAtLevel=1",
                f"-Dquarkus.http.host={LOOPBACK}",
                f"-Dquarkus.http.port={self.port}",
                # Without it the management port listens on every address.
                f"-Dquarkus.management.host={LOOPBACK}",
                f"-Dquarkus.management.port={self.management_port}",
                "-Dapicurio.storage.kind=sql",
                "-Dapicurio.storage.sql.kind=h2",
                f"-Dapicurio.datasource.url=jdbc:h2:file:{self.folder}/registry",
                "-jar",
                str(self.home / "quarkus-run.jar"),
            ),
            cwd=self.home,
            nice=5,
        )


async def ready(url: str) -> bool:
    """Whether the schema API answers: its storage is open."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
            session.get(f"{url}/subjects") as response,
        ):
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False
