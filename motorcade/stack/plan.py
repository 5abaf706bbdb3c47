"""Turns options into a plan: which servers, on which ports, told to which processes."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from motorcade.fleet.clock import RunClock
from motorcade.runtime.kafka_access import KafkaAccess
from motorcade.runtime.mqtt_options import Credentials, Tls
from motorcade.stack import archives
from motorcade.stack.brokers import artemis, rmqtt, security
from motorcade.stack.brokers.artemis import Artemis
from motorcade.stack.brokers.base import Broker, Endpoint, QueueBound
from motorcade.stack.brokers.external import External, parse_endpoints
from motorcade.stack.brokers.mosquitto import Mosquitto, find
from motorcade.stack.brokers.rmqtt import Rmqtt
from motorcade.stack.brokers.security import Security
from motorcade.stack.kafka import Kafka
from motorcade.stack.options import StackOptions
from motorcade.stack.ports import free_ports, require_free
from motorcade.stack.registry import Registry
from motorcade.stack.settings import StackSettings
from motorcade.stack.state import StackState, StateFolder

#: Ports that a node takes beside the one for MQTT.
_FURTHER_PORTS = {
    "mosquitto": 0,
    "artemis": len(artemis.NODE_PORTS),
    "rmqtt": len(rmqtt.NODE_PORTS),
}


@dataclass(frozen=True)
class Plan:
    """Everything that is going to run; `kafka_access` is how a Kafka of somebody's lets us in."""

    options: StackOptions
    folder: StateFolder
    broker: Broker
    kafka: Kafka | None
    kafka_access: KafkaAccess
    registry: Registry
    state: StackState


def environment(
    state: StackState, folder: StateFolder, process: str | None = None
) -> dict[str, str]:
    """MOTORCADE_* variables that let a process find the stack.

    Args:
        state, folder: the stack.
        process: which of our processes it is, for its own port and identity; None for cars and
            anything else.
    """
    settings = {
        "KAFKA": state.kafka,
        "KAFKA_CREDENTIALS": str(state.kafka_credentials or ""),
        "KAFKA_CA": str(state.kafka_ca or ""),
        "KAFKA_CERT": str(state.kafka_cert or ""),
        "KAFKA_KEY": str(state.kafka_key or ""),
        "REGISTRY_URL": state.registry_url,
        "BROKERS": ",".join(state.brokers),
        "BROKERS_CLUSTERED": str(state.clustered).lower(),
        "MQTT_CREDENTIALS": str(state.credentials or ""),
        "MQTT_CA": str(state.ca or ""),
        "MQTT_CERT": str(state.cert or ""),
        "MQTT_KEY": str(state.key or ""),
        "SIGNALS": str(state.signals or ""),
        "CLOCK": state.clock,
        "DATA_DIR": str(process_data(folder)),
        "HTTP_PORT": str(state.http[process]) if process else "",
    }
    role = process if process in (security.BRIDGE, security.DISPATCH) else security.CARS
    asked = security_of(state, folder)
    settings |= asked.environment(role) if asked else {}
    return {f"MOTORCADE_{name}": value for name, value in settings.items() if value}


def security_of(state: StackState, folder: StateFolder) -> Security | None:
    """What the stack's own broker asks of clients; None for nothing."""
    return _security(folder, state.tls, state.mutual_tls, state.login)


def _security(folder: StateFolder, tls: bool, mutual_tls: bool, login: bool) -> Security | None:
    if not (tls or mutual_tls or login):
        return None
    return Security(folder.data / "identities", tls or mutual_tls, mutual_tls, login)


def process_data(folder: StateFolder) -> Path:
    """Where our own processes keep what they keep: the twin's database, models."""
    return folder.data / "motorcade"


def needed_archives(options: StackOptions) -> list[archives.Archive]:
    """Archives that the options call for."""
    needed = [archives.REGISTRY]
    if options.kafka is None:
        needed.append(archives.KAFKA)
    if broker_kind(options) == "artemis":
        needed.append(archives.ARTEMIS)
    return needed


def broker_kind(options: StackOptions) -> str:
    """The broker that serves: what was asked for, or what the machine has."""
    if options.broker != "auto":
        return options.broker
    return "mosquitto" if find() else "artemis"


def make(options: StackOptions, folder: StateFolder, homes: Mapping[str, Path]) -> Plan:
    """Chooses ports and lays out every server.

    Args:
        options: what was asked for.
        folder: the stack's state folder.
        homes: where each archive can be run from, by name.

    Raises:
        PortInUseError: a fixed port is taken.
        SettingsError: the external broker's addresses cannot be read, or a file with which it or
            Kafka lets us in.
    """
    access = KafkaAccess.load(
        options.kafka_credentials, options.kafka_ca, options.kafka_cert, options.kafka_key
    )
    ports = _Ports()
    registry = Registry(
        homes[archives.REGISTRY.name],
        folder.data / "registry",
        ports.take(options.registry_port, "--registry-port"),
        ports.take(),
    )
    kafka = None
    if options.kafka is None:
        kafka = Kafka(
            homes[archives.KAFKA.name],
            folder.data / "kafka",
            ports.take(options.kafka_port, "--kafka-port"),
            ports.take(),
        )
    broker = _broker(options, folder, homes, ports)
    servers = [program.name for program in broker.programs()]
    now = time.time_ns() // 1_000_000
    state = StackState(
        started=datetime.now().astimezone().isoformat(timespec="seconds"),
        kafka=options.kafka or (kafka.bootstrap if kafka else ""),
        kafka_external=kafka is None,
        kafka_credentials=options.kafka_credentials and options.kafka_credentials.absolute(),
        kafka_ca=options.kafka_ca and options.kafka_ca.absolute(),
        kafka_cert=options.kafka_cert and options.kafka_cert.absolute(),
        kafka_key=options.kafka_key and options.kafka_key.absolute(),
        registry_url=registry.url,
        broker=broker.name,
        brokers=tuple(str(endpoint) for endpoint in broker.endpoints),
        clustered=broker.clustered,
        durability=broker.durability,
        tls=options.broker_tls or options.broker_mutual_tls,
        mutual_tls=options.broker_mutual_tls,
        login=options.broker_login,
        node_ports=broker.node_ports,
        clock=str(RunClock(now, now, options.speedup)),
        signals=options.signals and options.signals.absolute(),
        credentials=options.broker_credentials and options.broker_credentials.absolute(),
        ca=options.broker_ca and options.broker_ca.absolute(),
        cert=options.broker_cert and options.broker_cert.absolute(),
        key=options.broker_key and options.broker_key.absolute(),
        http={name: ports.take() for name in options.processes},
        servers=(*servers, "registry", *(["kafka"] if kafka else [])),
    )
    return Plan(options, folder, broker, kafka, access, registry, state)


def broker_of(state: StackState, folder: StateFolder) -> Broker:
    """The adapter of a stack that runs, to ask how it is and what it dropped."""
    endpoints = tuple(
        Endpoint(host.strip("[]"), int(port))
        for host, _, port in (one.rpartition(":") for one in state.brokers)
    )
    if state.broker == "external":
        return External(
            endpoints,
            state.clustered,
            Credentials.load(state.credentials),
            Tls.load(state.ca, state.cert, state.key),
        )
    settings = StackSettings()
    home = settings.cache_folder / archives.ARTEMIS.name
    return _local(
        state.broker,
        folder,
        settings,
        archives.unpacked_home(home) if state.broker == "artemis" else home,
        tuple(endpoint.port for endpoint in endpoints),
        state.node_ports,
        QueueBound(0, 0),
        security_of(state, folder),
    )


@dataclass
class _Ports:
    """Ports handed out in this plan: each once."""

    taken: set[int] = field(default_factory=set)

    def take(self, fixed: int | None = None, option: str = "") -> int:
        port = (
            free_ports(1, frozenset(self.taken))[0]
            if fixed is None
            else require_free(fixed, option)
        )
        self.taken.add(port)
        return port


def _broker(
    options: StackOptions, folder: StateFolder, homes: Mapping[str, Path], ports: _Ports
) -> Broker:
    kind = broker_kind(options)
    if kind == "external":
        assert options.broker_url is not None
        return External(
            parse_endpoints(options.broker_url, options.broker_ca),
            options.broker_clustered,
            Credentials.load(options.broker_credentials),
            Tls.load(options.broker_ca, options.broker_cert, options.broker_key),
        )
    first = options.broker_port
    nodes = range(options.broker_nodes)
    return _local(
        kind,
        folder,
        StackSettings(),
        homes.get(archives.ARTEMIS.name, Path()),
        tuple(
            ports.take(None if first is None else first + node, "--broker-port") for node in nodes
        ),
        tuple(tuple(ports.take() for _ in range(_FURTHER_PORTS[kind])) for _ in nodes),
        QueueBound(options.rate_per_s, options.outage_s),
        _security(folder, options.broker_tls, options.broker_mutual_tls, options.broker_login),
    )


def _local(
    kind: str,
    folder: StateFolder,
    settings: StackSettings,
    artemis: Path,
    ports: tuple[int, ...],
    node_ports: tuple[tuple[int, ...], ...],
    bound: QueueBound,
    asked: Security | None,
) -> Broker:
    data = folder.data / kind
    if kind == "artemis":
        return Artemis(artemis, data, ports, node_ports, asked)
    if kind == "rmqtt":
        return Rmqtt(rmqtt.find(settings.rmqtt), data, ports, node_ports, bound)
    return Mosquitto(data, ports, bound, asked)
