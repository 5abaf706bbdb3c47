"""The model of a scenario: target, fleet, ramp, messages, stages, events and what must be reached.

Every key has a default but `name`, `description` and what runs: `stages`, or `limit`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from motorcade.simulator.descriptors import workers_for
from motorcade.simulator.scenarios.base import (
    AtLeastZero,
    Count,
    CountOrZero,
    Flag,
    Part,
    Positive,
    Share,
    ShareOrZero,
    Text,
    Whole,
    matching,
)
from motorcade.simulator.scenarios.events import Event, Wear
from motorcade.simulator.scenarios.rules import objections
from motorcade.simulator.scenarios.times import Span, SpanOrZero

Name = Annotated[
    str, matching(r"[a-z][a-z0-9-]{0,62}", "small letters, digits and hyphens, a letter first")
]
Servers = Annotated[
    str,
    matching(
        r"none|[^\s:/,]+:\d{1,5}(,[^\s:/,]+:\d{1,5})*", "none, or host:port, several with commas"
    ),
]
VinPlace = Annotated[
    str, matching(r"key|topic|\$(\.\w+)+", "key, topic, or a path such as $.vehicle.id")
]
SeqPlace = Annotated[str, matching(r"\$(\.\w+)+", "a path such as $.header.seq")]


class Target(Part):
    """What is put under load."""

    stack: Literal["auto", "own", "running", "external"] = "auto"
    """own: started for the run and stopped after it; running: what `motorcade up` started;
    external: somebody else's broker, at broker_url; auto: running if one is up, else own."""
    broker: Literal["auto", "mosquitto", "artemis", "rmqtt"] = "auto"
    """Broker of an own stack; auto takes mosquitto where it is installed, else artemis."""
    broker_nodes: Count = 1
    """Nodes of an own broker: a farm of mosquittos, a cluster of the others."""
    broker_url: Text | None = None
    """Addresses of an external broker: mqtt://host:port or mqtts://host:port, with commas."""
    clustered: Flag = False
    """Whether the external addresses are one cluster; else they are independent nodes."""
    credentials: Path | None = None
    """YAML file with username and password, or with a key that signs tokens."""
    ca: Path | None = None
    """Certificate authority (PEM) of an external broker; given, TLS is spoken."""
    cert: Path | None = None
    """Certificate of the cars; "{vin}" in its name stands for the car's. Our own pipeline, where it
    is behind the broker, shows the same one."""
    key: Path | None = None
    """Private key to it; "{vin}" as above."""
    kafka: Servers | None = None
    """host:port of an external target's Kafka, where the audit reads; "none": no Kafka at all, the
    audit ends at the broker, and what only Kafka could tell is listed as not judged. Left out, our
    own pipeline is started behind an external broker. An own or running stack has its own."""
    kafka_credentials: Path | None = None
    """YAML file with that Kafka's username, password and mechanism (SCRAM-SHA-512 by default,
    SCRAM-SHA-256 or PLAIN)."""
    kafka_ca: Path | None = None
    """Certificate authority (PEM) of that Kafka; given, TLS is spoken."""
    kafka_cert: Path | None = None
    """Certificate that the audit shows to it."""
    kafka_key: Path | None = None
    """Private key to it."""
    kafka_topic: Text = "telemetry.raw"
    """Topic of an external Kafka in which the broker's messages arrive."""
    topic: Text | None = None
    """Topic of telemetry on an external broker; "{vin}" and "{shard}" stand for the car's."""
    payload_template: Path | None = None
    """File whose text is the payload on an external broker; "{vin}", "{boot}", "{seq}", "{time}",
    "{due}" and every signal's name in braces are filled in."""
    vin_at: VinPlace = "$.vin"
    """Where the audit finds the vehicle id in a Kafka record: key, topic, or a path in its JSON."""
    seq_at: SeqPlace = "$.seq"
    """Where it finds the sequence number."""


class Fleet(Part):
    """The cars."""

    cars: Annotated[int, Field(ge=1, le=10_000_000, strict=True)] = 1000
    """Cars of the fleet, and the most that any stage may ask for."""
    seed: Whole = 1
    """Vehicle ids, drives and everything else that is drawn follow from it."""
    workers: Count | None = None
    """Load processes; by default one for every 12,500 cars, more where descriptors are few."""
    car: Literal["motorcade", "demo"] = "motorcade"
    """motorcade: cars with physics and wear; demo: the public streaming demo's own."""
    drives: Path | None = None
    """Folder of recorded drives (CSV), or a description of them, to replay."""
    signals: Path | None = None
    """Signal catalogue of another fleet (YAML)."""
    speedup: Positive = 1.0
    """Simulated time runs so much faster than the wall's."""


class Ramp(Part):
    """How the fleet connects before the first stage."""

    per_s: Positive = 200.0
    """Connects offered in a second."""
    cars: CountOrZero | None = None
    """Cars that the ramp ends with, or a share of the fleet such as "25%"; by default all."""
    patience_s: Span | None = None
    """How long the ramp may take before the stages begin all the same; by default a minute, or
    ten times what the offered rate needs."""


class Publish(Part):
    """What a car sends, how often and how."""

    interval_s: Span = 10.0
    """Seconds between two samples of a car."""
    qos: Literal[0, 1] = 1
    """QoS of telemetry."""
    payload: Literal["json", "avro"] = "json"
    """Form of telemetry."""
    batch: Annotated[int, Field(ge=1, le=4096, strict=True)] = 1
    """Samples in one message."""
    topic_alias: Flag = False
    """Whether a car sends its topic once and a number from then on (MQTT 5)."""
    in_flight: Count = 16
    """Unacknowledged messages of a car on the wire; more wait in the car."""
    buffer: CountOrZero = 64
    """Messages that a car keeps while it cannot send; the oldest is dropped, and counted."""
    messages: Count | None = None
    """Messages of each car, after which it stays connected and silent; by default without end."""


class Mqtt(Part):
    """The connection."""

    keepalive_s: Annotated[float, Field(ge=1, le=65535)] = 60
    """Seconds of silence after which a car pings."""
    session_expiry_s: SpanOrZero = 0.0
    """Seconds that the broker keeps a car's session after its connection; 0 ends it at once."""
    tls: Flag = False
    """Whether an own stack's broker speaks TLS; an external one's is said by target.ca."""


class Stage(Part):
    """A part of the run; it begins when the one before it is over."""

    name: Name
    """What events and the report call it."""
    seconds: Span
    """How long it is."""
    cars: CountOrZero | None = None
    """Cars, or a share of the fleet such as "25%", to ramp to at ramp.per_s."""
    interval_s: Span | None = None
    """Seconds between two samples of a car from here on; unchanged by default."""


class Thresholds(Part):
    """What the run must reach to pass; null is not judged. See `motorcade.simulator.audit.limits`.

    Thresholds of what a run cannot have (acknowledgements at QoS 0, failures without wear) are left
    out by themselves. Without a Kafka, or with somebody else's pipeline, what only it could tell is
    listed as not judged.
    """

    connected_share: Share | None = 1.0
    """Share of the cars that are connected when the ramp is over."""
    delivered_share: Share | None = 0.999
    """Share of all that cars had to send which the broker acknowledged; at QoS 0, which went out.
    The rest stayed in a car, was pushed out of its buffer, or was refused."""
    least_rate_share: Share | None = None
    """Messages/s over the stages that the broker acknowledged (QoS 0: that went out), as a share
    of what the stages' cars and intervals ask for."""
    lost: CountOrZero | None = 0
    """QoS 1 messages that the broker acknowledged and that never came to Kafka, beyond what its
    declared durability excuses."""
    qos0_lost_share: ShareOrZero | None = None
    """Share of the QoS 0 messages that never came to Kafka."""
    disconnects: CountOrZero | None = None
    """Connections lost that nobody asked to end."""
    connect_failures: CountOrZero | None = None
    """Attempts to connect that failed."""
    buffer_dropped: CountOrZero | None = None
    """Messages that cars gave up because their buffer was full."""
    connect_p99_ms: Positive | None = None
    """From when a car was wanted to its first CONNACK."""
    due_to_puback_p99_ms: Positive | None = None
    """From when a message was due to the broker's acknowledgement; QoS 1."""
    due_to_kafka_p99_ms: Positive | None = 1000.0
    """From when a message was due to its record in telemetry.raw."""
    due_to_prediction_p99_ms: Positive | None = None
    """From when a message was due to its record in predictions."""
    due_to_alert_p99_ms: Positive | None = None
    """From when the deciding message was due to the alert."""
    alert_to_car_p99_ms: Positive | None = None
    """From the alert to the car's answer."""
    recovered_within_s: Span | None = None
    """After each event of the run, until all is as before it."""
    announced_share: Share | None = 0.9
    """Share of failures that an alert announced before their trouble code."""
    median_lead_minutes: Positive | None = 30.0
    """Simulated minutes from the alert to the failure, median."""
    false_alerts_per_day: AtLeastZero | None = None
    """False alerts per healthy vehicle-day; a model that saw little training raises many."""
    generator_lag_p99_ms: Positive | None = 1000.0
    """How late the simulator itself was; above it the run is INVALID."""


class ServiceLevels(Part):
    """What must hold at a step of the search; null is not judged."""

    due_to_puback_p99_ms: Positive | None = 1000.0
    """From when a message was due to the broker's acknowledgement, within the step."""
    due_to_kafka_p99_ms: Positive | None = 1000.0
    """From when a message was due to its record in telemetry.raw, within the step."""
    lag_s: Span | None = 5.0
    """How far any step of the pipeline may be behind, in seconds of the load."""
    refused_connects: CountOrZero | None = 0
    """Connects that failed or were refused within the step."""
    disconnects: CountOrZero | None = 0
    """Connections lost within the step."""
    dropped: CountOrZero | None = 0
    """Messages that cars or the broker gave up within the step."""


class Limit(Part):
    """A search for the most that the target holds: up by a factor until a service level breaks."""

    knob: Literal["interval", "cars"] = "interval"
    """interval: the same cars publish more often; cars: more cars publish as before."""
    start_per_s: Positive | None = None
    """Messages/s of the first step; by default what the fleet publishes after the ramp."""
    factor: Annotated[float, Field(gt=1, le=4)] = 1.3
    """A step is so much more than the one before."""
    settle_s: SpanOrZero = 5.0
    """Seconds after a change that are not judged."""
    hold_s: Span = 20.0
    """Seconds of a step that are judged."""
    confirm_s: Span = 30.0
    """Seconds that the last good step is held again, to confirm it."""
    most_per_s: Positive = 100_000.0
    """Messages/s above which the search does not climb."""
    service_levels: ServiceLevels = ServiceLevels()
    """What must hold."""


class Scenario(Part):
    """A load run from its first connect to its verdict."""

    name: Name
    """What it is called; a file's own name, without .yaml."""
    description: Text
    """What it shows, in a sentence or two."""
    target: Target = Target()
    fleet: Fleet = Fleet()
    ramp: Ramp = Ramp()
    publish: Publish = Publish()
    mqtt: Mqtt = Mqtt()
    wear: Wear = Wear()
    """Damage that begins when the ramp is over."""
    stages: tuple[Stage, ...] = ()
    events: tuple[Event, ...] = ()
    thresholds: Thresholds = Thresholds()
    limit: Limit | None = None
    """Given, the run searches for a limit instead of playing stages."""

    @property
    def workers(self) -> int:
        """Load processes."""
        return self.fleet.workers or workers_for(self.fleet.cars)

    @property
    def ramp_cars(self) -> int:
        """Cars that the ramp ends with."""
        return self.fleet.cars if self.ramp.cars is None else self.ramp.cars

    @property
    def patience_s(self) -> float:
        """Seconds after which a ramp that does not end is given up."""
        needed = self.ramp_cars / self.ramp.per_s
        return self.ramp.patience_s or max(60.0, 10 * needed)

    @property
    def total_s(self) -> float:
        """Seconds of all stages."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def most_per_s(self) -> float:
        """The highest rate that the stages ask for, messages/s: what queues are sized for."""
        cars, interval = self.ramp_cars, self.publish.interval_s
        most = cars / interval
        for stage in self.stages:
            cars = cars if stage.cars is None else stage.cars
            interval = stage.interval_s or interval
            most = max(most, cars / interval)
        return most / self.publish.batch

    def begins_s(self, name: str) -> float:
        """Seconds after the ramp at which a stage begins.

        Raises:
            KeyError: there is no such stage.
        """
        begins = 0.0
        for stage in self.stages:
            if stage.name == name:
                return begins
            begins += stage.seconds
        raise KeyError(name)

    def event_s(self, event: Any) -> float:
        """Seconds after the ramp at which an event of this scenario is due."""
        at = event.at
        return float(at.offset_s + (0.0 if at.stage is None else self.begins_s(at.stage)))

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for path, text in objections(self):
            raise PydanticCustomError("impossible", "{text}", {"text": text, "path": list(path)})
        return self
