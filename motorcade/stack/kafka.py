"""Kafka 3.9 in KRaft mode, one node that is broker and controller, on the loopback address."""

import asyncio
import base64
import uuid
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from motorcade.runtime.kafka_access import OPEN, KafkaAccess, require_admission
from motorcade.stack.errors import StackError
from motorcade.stack.java import flags, java
from motorcade.stack.ports import LOOPBACK
from motorcade.stack.program import Program

#: Kafka's own default: one batch of records, which is what a broker's packet limit has to stay
#: below (motorcade.stack.brokers.base.MAX_PACKET_BYTES).
MESSAGE_MAX_BYTES = 1_048_588

#: Readiness is a record acknowledged, not an open port; this topic takes it.
_PROBE_TOPIC = "motorcade.probe"

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}/logs
auto.create.topics.enable=false
message.max.bytes={message_max_bytes}
num.network.threads=2
num.io.threads=4
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=10485760
"""

_LOGGING = """\
log4j.rootLogger=INFO, console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=[%d] %p %m (%c)%n
"""


@dataclass(frozen=True)
class Kafka:
    """One Kafka node.

    Args:
        jars: folder of Kafka's jars.
        folder: configuration and data of this node; kept, a restart finds its topics again.
        port, controller_port: loopback ports.
        heap_mb: largest Java heap.
    """

    jars: Path
    folder: Path
    port: int
    controller_port: int
    heap_mb: int = 512

    @property
    def bootstrap(self) -> str:
        """Address for clients."""
        return f"{LOOPBACK}:{self.port}"

    async def prepare(self) -> None:
        """Writes the configuration and formats the storage; keeps a formatted storage as it is.

        Raises:
            StackError: Kafka's storage tool refused, with what it said.
        """
        (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
        (self.folder / "log4j.properties").write_text(_LOGGING)
        properties = self.folder / "server.properties"
        properties.write_text(
            _PROPERTIES.format(
                host=LOOPBACK,
                port=self.port,
                controller_port=self.controller_port,
                data=self.folder,
                message_max_bytes=MESSAGE_MAX_BYTES,
            )
        )
        if (self.folder / "logs" / "meta.properties").exists():
            return
        tool = await asyncio.create_subprocess_exec(
            *self._java(128, "-XX:TieredStopAtLevel=1"),
            "kafka.tools.StorageTool",
            "format",
            "--cluster-id",
            _cluster_id(),
            "--config",
            str(properties),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await tool.communicate()
        if tool.returncode:
            raise StackError(
                f"Kafka's storage in {self.folder} cannot be formatted: "
                f"{output.decode(errors='replace').strip().splitlines()[0]}",
                "Free some disk space, or delete that folder.",
            )

    def program(self) -> Program:
        """The server process."""
        return Program(
            name="kafka",
            argv=(*self._java(self.heap_mb), "kafka.Kafka", str(self.folder / "server.properties")),
            cwd=self.folder,
            stop_s=30,
        )

    def _java(self, heap_mb: int, *more: str) -> tuple[str, ...]:
        classpath = ":".join(str(jar) for jar in sorted(self.jars.glob("*.jar")))
        return (
            java(),
            *flags(heap_mb, self.folder / "tmp"),
            *more,
            f"-Dlog4j.configuration=file:{self.folder}/log4j.properties",
            "-cp",
            classpath,
        )


def _cluster_id() -> str:
    # A leading "-" would be read as an option.
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode())[0] == "-":
        pass
    return made


async def ready(bootstrap: str, access: KafkaAccess = OPEN) -> bool:
    """Whether a record is acknowledged by all in-sync replicas: Kafka takes messages.

    Raises:
        KafkaRefused: it is there and does not let us in.
    """
    for address in bootstrap.split(","):
        host, _, port = address.rpartition(":")
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), 5)
        except (OSError, TimeoutError):
            continue
        writer.close()
        return await asyncio.to_thread(_takes_a_record, bootstrap, access)
    return False


def _takes_a_record(bootstrap: str, access: KafkaAccess) -> bool:
    require_admission(bootstrap, access)
    quiet = {"bootstrap.servers": bootstrap, "log_level": 0, **access.librdkafka()}
    errors: list[KafkaError | None] = []
    topic = NewTopic(_PROBE_TOPIC, 1, -1, config={"retention.ms": "60000"})
    admin = AdminClient(quiet)
    try:
        admin.create_topics([topic], operation_timeout=5)[_PROBE_TOPIC].result(10)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            return False
    except TimeoutError:
        return False
    producer = Producer({**quiet, "acks": "all", "message.timeout.ms": 5000, "linger.ms": 0})
    producer.produce(_PROBE_TOPIC, b"ready?", on_delivery=lambda error, _: errors.append(error))
    producer.flush(6)
    return errors == [None]
