"""What a run must reach to pass: the thresholds of a scenario, each of which may be left out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Thresholds of a run; None is not judged.

    What was lost, doubled or invented between Kafka and the predictions has no threshold: it is
    always none. A threshold whose figure could not be observed is broken.
    """

    #: Share of the cars that were connected when the ramp was over, 0 to 1.
    connected_share: float | None = None
    #: Share of all that cars wanted to send which the broker acknowledged (QoS 0: which went out);
    #: what stayed in a car, was pushed out of its buffer or was refused is the rest. 0 to 1.
    delivered_share: float | None = 0.999
    #: Messages/s over the stages that the broker acknowledged (QoS 0: that went out), as a share
    #: of what the stages' cars and intervals ask for, 0 to 1.
    least_rate_share: float | None = None
    #: Messages that the broker acknowledged and that never came to Kafka, beyond what the
    #: broker's declared durability excuses.
    lost: int | None = 0
    #: Share of the QoS 0 messages sent that never came to Kafka, 0 to 1.
    qos0_lost_share: float | None = None
    #: Connections that cars lost and nobody had asked to end.
    disconnects: int | None = None
    #: Attempts to connect that failed.
    connect_failures: int | None = None
    #: Messages that cars gave up because their buffer was full.
    buffer_dropped: int | None = None
    #: From when a car was wanted to its first CONNACK, 99th percentile, milliseconds.
    connect_p99_ms: float | None = None
    #: Latencies from when a message was due, 99th percentile, milliseconds.
    due_to_puback_p99_ms: float | None = None
    due_to_kafka_p99_ms: float | None = 1000.0
    due_to_prediction_p99_ms: float | None = None
    due_to_alert_p99_ms: float | None = None
    #: From the alert's record to the car's answer, 99th percentile, milliseconds.
    alert_to_car_p99_ms: float | None = None
    #: Seconds from an event of the run (a kill, a drop) until all was as before it.
    recovered_within_s: float | None = None
    #: Share of failures that an alert announced before their DTC, 0 to 1.
    announced_share: float | None = 0.9
    #: Median of the announced failures' lead, simulated minutes.
    median_lead_minutes: float | None = 30.0
    #: False alerts per healthy vehicle-day.
    false_alerts_per_day: float | None = 0.05
    #: How late the generator was to send what was due, 99th percentile, milliseconds; above it
    #: the run is INVALID.
    generator_lag_p99_ms: float | None = 1000.0
