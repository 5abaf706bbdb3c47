"""Settings of the simulator's processes: the fleet's size and pace, and where master and UI are."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from motorcade.fleet.settings import ProcessSettings

Port = Annotated[int, Field(ge=1, le=65535)]


class SimulatorSettings(ProcessSettings):
    """What the Locust master and its workers need to know; the same for all but `worker`."""

    #: Cars of the declared fleet: what the form in the web UI starts with.
    cars: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    #: Wall-clock seconds between two messages of a car.
    interval_s: Annotated[float, Field(gt=0)] = 2.0
    #: QoS of telemetry; births, DTCs and answers are always QoS 1.
    qos: Annotated[int, Field(ge=0, le=1)] = 1
    #: Seed of the fleet: vehicle ids and everything that is drawn.
    seed: int = 1
    #: Worker processes; worker i of W owns the cars i, i+W, i+2W, …
    workers: Annotated[int, Field(ge=1)] = 1
    #: This worker's number, 0 to workers-1; by default the one that the master deals out.
    worker: Annotated[int, Field(ge=0)] | None = None
    #: Folder of the run: ledgers, truth, and what made the run invalid.
    run_dir: Path = Path("motorcade-run")
    #: Recorded drives to replay, a folder or a description; cars without one drive synthetically.
    drives: Path | None = None
    #: Cars a second that a ramp starts; what the form in the web UI starts with.
    ramp_per_s: Annotated[float, Field(gt=0)] = 100.0
    keepalive_s: Annotated[int, Field(ge=1, le=65535)] = 60
    #: Unacknowledged messages of one car on the wire; what is due beyond waits in the car.
    in_flight: Annotated[int, Field(ge=1)] = 16
    #: Messages that a car keeps while it cannot send; the oldest is dropped, and counted.
    buffer: Annotated[int, Field(ge=0)] = 64
    #: Whether cars send telemetry; otherwise they only stay connected.
    publish: bool = True
    #: Telemetry messages of a car, after which it stays connected and says no more; None: no end.
    messages: Annotated[int, Field(ge=1)] | None = None
    #: Form of telemetry, and how many samples go into one publish (each with its own seq).
    payload: Literal["json", "avro"] = "json"
    batch: Annotated[int, Field(ge=1, le=4096)] = 1
    #: Send each topic's name once a connection and its number from then on (MQTT 5, 3.3.2.3.4).
    topic_alias: bool = False
    #: Which car drives: the project's own, or that of the public streaming demo.
    car: Literal["motorcade", "demo"] = "motorcade"
    #: For somebody else's broker: the topic, with {vin} and {shard}, and a file with the payload,
    #: with {vin}, {boot}, {seq}, {time}, {due} and the names of signals in braces.
    topic_template: str | None = None
    payload_template: Path | None = None
    #: How long the broker keeps a car's session after its connection.
    session_expiry_s: Annotated[int, Field(ge=0, le=0xFFFF_FFFF)] = 0
    #: Local addresses that connections come from; by default the system's choice, and 127.0.0.x
    #: where one address has too few ports for an endpoint on loopback.
    source_addresses: Annotated[tuple[str, ...], NoDecode] = ()
    #: Whether somebody subscribes to what cars send; a message that a broker had nobody to give to
    #: is sent again, or else counts as delivered to the broker.
    consumed: bool = True
    #: Scenario that the master plays.
    scenario: Path | None = None
    #: URLs that must answer 200 before the first car connects, such as the bridge's /readyz.
    wait_for: Annotated[tuple[str, ...], NoDecode] = ()
    master_host: str = "127.0.0.1"
    master_port: Port = 5557
    web_host: str = "127.0.0.1"
    web_port: Port = 8089

    @field_validator("wait_for", "source_addresses", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        return tuple(value.split(",")) if isinstance(value, str) else value

    def environment(self) -> dict[str, str]:
        """The variables from which a process reads these settings again."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {
            f"MOTORCADE_{name.upper()}": (
                ",".join(value) if isinstance(value, list) else str(value)
            )
            for name, value in values.items()
        }
