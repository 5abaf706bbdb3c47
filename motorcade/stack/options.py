"""What a person asks of `motorcade up`, checked before anything starts."""

from dataclasses import dataclass
from pathlib import Path

from motorcade.fleet.errors import SettingsError
from motorcade.stack.processes import MODULES

BROKERS = ("auto", "mosquitto", "artemis", "rmqtt", "external")


@dataclass(frozen=True)
class StackOptions:
    """How the stack is to be.

    Args:
        state: its state folder.
        broker: one of BROKERS; "auto" takes mosquitto where it is installed, else artemis.
        broker_nodes: nodes of the broker: a farm of mosquittos, a cluster of the others.
        broker_url: addresses of an external broker, "mqtt://host:port,…".
        broker_credentials: YAML file with its user name and password.
        broker_ca, broker_cert, broker_key: the CA whose certificate it shows; given, TLS is spoken;
            and a certificate to show it, the same for every process and car.
        broker_tls, broker_mutual_tls, broker_login: what a broker of ours asks of clients: TLS with
            a CA made for it; a certificate of each client, too; or user name and password.
        broker_clustered: whether the external broker's addresses are one cluster.
        kafka: bootstrap servers of a Kafka that runs elsewhere; None starts one.
        kafka_credentials: YAML file with its user name and password.
        kafka_ca, kafka_cert, kafka_key: the CA whose certificate it shows; given, TLS is spoken;
            and a certificate to show it.
        signals: signal catalogue file; None for the default one.
        speedup: how much faster than the wall event time runs.
        rate_per_s, outage_s: what brokers must hold for a bridge that is away.
        kafka_port, registry_port, broker_port: fixed ports; None takes free ones. A farm's
            further nodes follow the first one's port.
        processes: which processes of ours to start.
        cars, load_workers: what is going to connect, for the check of descriptor limits.
        tied: the stack ends with the thread that started it.
    """

    state: Path
    broker: str = "auto"
    broker_nodes: int = 1
    broker_url: str | None = None
    broker_credentials: Path | None = None
    broker_ca: Path | None = None
    broker_cert: Path | None = None
    broker_key: Path | None = None
    broker_clustered: bool = False
    broker_tls: bool = False
    broker_mutual_tls: bool = False
    broker_login: bool = False
    kafka: str | None = None
    kafka_credentials: Path | None = None
    kafka_ca: Path | None = None
    kafka_cert: Path | None = None
    kafka_key: Path | None = None
    signals: Path | None = None
    speedup: float = 1.0
    rate_per_s: float = 1000.0
    outage_s: float = 300.0
    kafka_port: int | None = None
    registry_port: int | None = None
    broker_port: int | None = None
    processes: tuple[str, ...] = tuple(MODULES)
    cars: int = 1000
    load_workers: int = 1
    tied: bool = False

    def __post_init__(self) -> None:
        if self.broker not in BROKERS:
            raise SettingsError(
                f"--broker {self.broker} is not known.", f"Take one of {', '.join(BROKERS)}."
            )
        self._check_broker()
        shown = self.kafka_credentials or self.kafka_ca or self.kafka_cert or self.kafka_key
        if shown and self.kafka is None:
            raise SettingsError(
                "--kafka-credentials, --kafka-ca, --kafka-cert and --kafka-key are of your own "
                "Kafka.",
                "Name it with --kafka HOST:PORT; one of ours asks for nothing.",
            )
        if not self.speedup > 0:
            raise SettingsError(f"--speedup {self.speedup:g} must be above 0.")
        unknown = set(self.processes) - set(MODULES)
        if unknown:
            raise SettingsError(
                f"no process of ours is called {', '.join(sorted(unknown))}.",
                f"They are {', '.join(MODULES)}.",
            )

    def _check_broker(self) -> None:
        if (self.broker == "external") != (self.broker_url is not None):
            raise SettingsError(
                "--broker external and --broker-url belong together.",
                "Give both, such as --broker external --broker-url mqtt://broker.example:1883.",
            )
        if self.broker_nodes < 1:
            raise SettingsError("--broker-nodes must be at least 1.")
        if self.broker_mutual_tls and self.broker_login:
            raise SettingsError(
                "--broker-mutual-tls and --broker-login exclude each other: the certificate is the "
                "login."
            )
        self._check_access()

    def _check_access(self) -> None:
        """What only an external broker has, and what it cannot be asked for."""
        if self.broker == "external" and self.broker_nodes != 1:
            raise SettingsError(
                f"--broker-nodes {self.broker_nodes} asks for brokers to be started, and "
                "--broker external starts none.",
                "Leave it out, and name every node in --broker-url.",
            )
        if self.broker != "external" and (self.broker_ca or self.broker_cert or self.broker_key):
            raise SettingsError(
                "--broker-ca, --broker-cert and --broker-key are of an external broker.",
                "A broker of ours makes its own: --broker-tls or --broker-mutual-tls.",
            )
        if "{vin}" in f"{self.broker_cert} {self.broker_key}":
            raise SettingsError(
                "our processes have no vehicle id that could stand for {vin} in a certificate's "
                "name.",
                "Name one certificate for processes and cars.",
            )
        asks = self.broker_tls or self.broker_mutual_tls or self.broker_login
        if asks and self.broker in {"external", "rmqtt"}:
            raise SettingsError(
                f"--broker {self.broker} cannot be told to ask for TLS or a login.",
                "Take --broker mosquitto or artemis. An external broker asks for what it likes: "
                "--broker-credentials.",
            )
