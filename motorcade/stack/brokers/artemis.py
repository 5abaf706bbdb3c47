"""Apache Artemis: one node from Maven Central, for machines without mosquitto.

It stores every QoS 1 message on disk before it acknowledges, and pages instead of dropping.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from motorcade.stack.brokers.base import MAX_PACKET_BYTES, DropCount, Endpoint
from motorcade.stack.brokers.probe import crosses
from motorcade.stack.java import flags, java
from motorcade.stack.ports import LOOPBACK
from motorcade.stack.program import Program

#: Expired and undeliverable messages go here and are counted as drops.
_DROPPED = "motorcade.dropped"

# max-delivery-attempts -1: a session that is resumed again and again must not lose its messages to
# the dead-letter queue after ten tries, which is the default.
_BROKER = """\
<?xml version="1.0" encoding="UTF-8"?>
<configuration xmlns="urn:activemq"><core xmlns="urn:activemq:core">
  <name>{name}</name>
  <security-enabled>false</security-enabled>
  <persistence-enabled>true</persistence-enabled>
  <journal-type>NIO</journal-type>
  <journal-datasync>false</journal-datasync>
  <journal-directory>{data}/journal</journal-directory>
  <bindings-directory>{data}/bindings</bindings-directory>
  <paging-directory>{data}/paging</paging-directory>
  <large-messages-directory>{data}/large</large-messages-directory>
  <critical-analyzer>false</critical-analyzer>
  <max-disk-usage>98</max-disk-usage>
  <acceptors>
    <acceptor name="core">tcp://{host}:{core_port}?protocols=CORE</acceptor>
    <acceptor name="mqtt">tcp://{host}:{port}?protocols=MQTT;maximumPacketSize={max_packet};\
receiveMaximum=1000;tcpSendBufferSize=16384;tcpReceiveBufferSize=16384;backlog=2048</acceptor>
  </acceptors>
  <addresses>
    <address name="{dropped}"><anycast><queue name="{dropped}"/></anycast></address>
  </addresses>
  <address-settings>
    <address-setting match="#">
      <expiry-address>{dropped}</expiry-address>
      <dead-letter-address>{dropped}</dead-letter-address>
      <max-delivery-attempts>-1</max-delivery-attempts>
      <max-size-bytes>64M</max-size-bytes>
      <address-full-policy>PAGE</address-full-policy>
    </address-setting>
  </address-settings>
</core></configuration>
"""

_BOOTSTRAP = """\
<broker xmlns="http://activemq.apache.org/schema">
  <jaas-security domain="activemq"/>
  <server configuration="file:{etc}/broker.xml"/>
</broker>
"""

_MANAGEMENT = '<management-context xmlns="http://activemq.apache.org/schema"/>'

_LOGIN = """\
activemq {
  org.apache.activemq.artemis.spi.core.security.jaas.GuestLoginModule required
    org.apache.activemq.jaas.guest.user="motorcade"
    org.apache.activemq.jaas.guest.role="motorcade";
};
"""

_LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
# The audit logger is on by default and would write several lines a message.
logger.audit.name = org.apache.activemq.audit
logger.audit.level = OFF
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %-5level [%logger] %msg%n
"""


@dataclass(frozen=True)
class Artemis:
    """One Artemis node.

    Args:
        home: folder of the unpacked archive.
        folder: configuration and data; kept, a restart finds its sessions and messages again.
        port, core_port: loopback ports for MQTT and for management.
        heap_mb: largest Java heap.
    """

    home: Path
    folder: Path
    port: int
    core_port: int
    heap_mb: int = 768

    name = "artemis"
    clustered = False
    durability = (
        "artemis: a node that is killed keeps what it acknowledged (it is in the file system's "
        "cache) and delivers it after its restart; a power failure may lose the last moments."
    )

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return (Endpoint(LOOPBACK, self.port),)

    def programs(self) -> list[Program]:
        etc = self.folder / "etc"
        for needed in (etc, self.folder / "tmp", self.folder / "data"):
            needed.mkdir(parents=True, exist_ok=True)
        (etc / "broker.xml").write_text(
            _BROKER.format(
                name="artemis-1",
                data=self.folder / "data",
                host=LOOPBACK,
                port=self.port,
                core_port=self.core_port,
                max_packet=MAX_PACKET_BYTES,
                dropped=_DROPPED,
            )
        )
        (etc / "bootstrap.xml").write_text(_BOOTSTRAP.format(etc=etc))
        (etc / "management.xml").write_text(_MANAGEMENT)
        (etc / "login.config").write_text(_LOGIN)
        (etc / "log4j2.properties").write_text(_LOGGING)
        return [Program("artemis-1", (*self._java(self.heap_mb), "run"), cwd=self.folder)]

    def _java(self, heap_mb: int) -> tuple[str, ...]:
        etc = self.folder / "etc"
        return (
            java(),
            *flags(heap_mb, self.folder / "tmp"),
            f"-Dartemis.home={self.home}",
            f"-Dartemis.instance={self.folder}",
            f"-Dartemis.instance.etc={etc}",
            f"-Dartemis.instance.uri=file:{self.folder}/",
            f"-Dartemis.instance.etc.uri=file:{etc}/",
            f"-Ddata.dir={self.folder}/data",
            f"-Djava.security.auth.login.config={etc}/login.config",
            f"-Dlog4j2.configurationFile={etc}/log4j2.properties",
            "-Dlog4j2.disableJmx=true",
            "--enable-native-access=ALL-UNNAMED",
            "--add-opens=java.base/jdk.internal.misc=ALL-UNNAMED",
            "-cp",
            f"{self.home}/lib/artemis-boot.jar",
            "org.apache.activemq.artemis.boot.Artemis",
        )

    async def ready(self) -> bool:
        return await crosses(self.endpoints[0])

    async def drops(self) -> int | None:
        # Artemis counts nothing under $SYS; its own tool asks it over the management port.
        tool = await asyncio.create_subprocess_exec(
            *self._java(128),
            *("queue", "stat", "--json", "--silent", "--queueName", _DROPPED),
            *("--url", f"tcp://{LOOPBACK}:{self.core_port}"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        output, _ = await tool.communicate()
        text = output.decode(errors="replace")
        try:
            queues = json.loads(text[text.index("{") : text.rindex("}") + 1])["data"]
            counts = [int(one["messagesAdded"]) for one in queues if one["name"] == _DROPPED]
        except (ValueError, KeyError):  # it does not answer
            return None
        return sum(counts)

    @asynccontextmanager
    async def counting(self) -> AsyncIterator[DropCount]:
        """As `drops`, which can be asked at any time."""
        yield self.drops
