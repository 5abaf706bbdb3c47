"""The state folder: what runs where, written by `up`, read by every other command."""

import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from motorcade.stack.errors import StackError
from motorcade.stack.keeper import Keeper

_FILE = "stack.json"


class StackState(BaseModel):
    """A running stack, as `stack.json` holds it.

    Attributes:
        started: local date and time of `up`.
        kafka: bootstrap servers.
        kafka_credentials, kafka_ca, kafka_cert, kafka_key: files with which a Kafka that is not
            ours lets us in.
        registry_url: schema registry with Confluent's API.
        broker: kind of broker, as `--broker` names it.
        brokers: its MQTT endpoints, "host:port".
        durability: what the broker loses when a node dies.
        node_ports: of each broker node its ports beside MQTT, as its adapter takes them.
        tls, mutual_tls, login: what the broker asks of clients, if it is ours.
        clock: the run's clock, as MOTORCADE_CLOCK takes it.
        signals: signal catalogue file; None for the default one.
        credentials: YAML file with the broker's user name and password.
        ca, cert, key: of an external broker's TLS; None without it.
        http: port of /metrics, /healthz and /readyz of each process of ours.
        servers: names of the programs that are not ours.
    """

    model_config = ConfigDict(frozen=True)

    started: str
    kafka: str
    kafka_external: bool = False
    kafka_credentials: Path | None = None
    kafka_ca: Path | None = None
    kafka_cert: Path | None = None
    kafka_key: Path | None = None
    registry_url: str
    broker: str
    brokers: tuple[str, ...]
    clustered: bool = False
    durability: str
    node_ports: tuple[tuple[int, ...], ...] = ()
    tls: bool = False
    mutual_tls: bool = False
    login: bool = False
    clock: str
    signals: Path | None = None
    credentials: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    http: dict[str, int] = {}
    servers: tuple[str, ...] = ()


class StateFolder:
    """One stack's folder.

    Args:
        path: the folder; made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keeper = Keeper(path)

    @property
    def data(self) -> Path:
        """What servers and processes keep on disk: Kafka's log, schemas, the twin, models."""
        return self.path / "data"

    def save(self, state: StackState) -> None:
        """Writes the state; whoever reads sees the old one or the new one."""
        partial = self.path / f"{_FILE}.partial"
        partial.write_text(state.model_dump_json(indent=1))
        partial.replace(self.path / _FILE)

    def load(self) -> StackState | None:
        """The state of the stack that runs; None if none does."""
        try:
            text = (self.path / _FILE).read_text()
        except OSError:
            return None
        if not self.keeper.answers():
            return None
        try:
            return StackState.model_validate_json(text)
        except ValidationError as error:
            raise StackError(
                f"{self.path / _FILE} was written by another version of Motorcade.",
                "Stop that stack with `motorcade down`.",
            ) from error

    def require(self) -> StackState:
        """The state of the stack that runs.

        Raises:
            StackError: none runs here.
        """
        state = self.load()
        if state is None:
            raise StackError(
                f"no stack runs in {self.path}.",
                "Start one with `motorcade up`, or name its folder with --state.",
            )
        return state

    @property
    def stale(self) -> bool:
        """Whether the folder says that a stack runs although its supervisord is gone."""
        return (self.path / _FILE).exists() and not self.keeper.answers()

    def remove(self, *, keep_data: bool = False, keep_logs: bool = False) -> None:
        """Removes the folder, or all but the data or the logs in it."""
        kept = {self.data} if keep_data else set()
        if keep_logs:
            kept.add(self.path / "logs")
        if not self.path.exists():
            return
        for entry in self.path.iterdir():
            if entry in kept:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        if not any(self.path.iterdir()):
            self.path.rmdir()
