"""Settings that every process shares, read from MOTORCADE_* variables at its entry point."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from motorcade.fleet.clock import RunClock

Address = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^\s:/]+):\d{1,5}$")]


class ProcessSettings(BaseSettings):
    """What any process of ours needs to find its neighbours and to be watched."""

    model_config = SettingsConfigDict(
        env_prefix="MOTORCADE_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    #: Kafka bootstrap servers, "host:port,host:port".
    kafka: str = "127.0.0.1:9092"
    #: YAML file with `username`, `password` and `mechanism` for Kafka; no login when unset.
    kafka_credentials: Path | None = None
    #: Trusted certificates; Kafka is reached over TLS when this is set.
    kafka_ca: Path | None = None
    #: The client's certificate and key, where Kafka asks for them.
    kafka_cert: Path | None = None
    kafka_key: Path | None = None
    #: Schema registry with Confluent's API, such as http://127.0.0.1:8081/apis/ccompat/v7.
    registry_url: str = "http://127.0.0.1:8081"
    #: MQTT endpoints, "host:port,host:port" in the environment.
    brokers: Annotated[tuple[Address, ...], NoDecode] = ("127.0.0.1:1883",)
    #: Whether the endpoints form one cluster; otherwise they are a farm of independent nodes.
    brokers_clustered: bool = False
    #: YAML file with `username` and `password`, or `jwt`, for MQTT; anonymous when unset.
    mqtt_credentials: Path | None = None
    #: Trusted certificates; MQTT goes over TLS when this is set.
    mqtt_ca: Path | None = None
    #: The client's certificate and key; "{vin}" in them stands for the client id.
    mqtt_cert: Path | None = None
    mqtt_key: Path | None = None
    #: Ordinal of this process among those of its kind; of two alive with one, Kafka fences one.
    instance: Annotated[int, Field(ge=0)] = 0
    #: Signal catalogue; the default one when unset.
    signals: Path | None = None
    #: The run's clock, "wall_start_ms/event_start_ms/speedup".
    clock: str = "0/0/1"
    #: Where /metrics, /healthz and /readyz listen; port 0 takes a free one.
    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 0
    #: Folder for what a process keeps on disk: the twin's database, models.
    data_dir: Path = Path("motorcade-data")
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"

    @field_validator("brokers", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(value.split(",")) if isinstance(value, str) else value

    @field_validator("clock")
    @classmethod
    def _clock(cls, value: str) -> str:
        RunClock.parse(value)
        return value

    @property
    def run_clock(self) -> RunClock:
        return RunClock.parse(self.clock)
