"""What a scenario means to others: settings of the simulator's processes, limits of the audit."""

from typing import Any

from motorcade.simulator.audit.limits import Limits
from motorcade.simulator.scenarios.model import Scenario


def settings(scenario: Scenario) -> dict[str, Any]:
    """Values of `SimulatorSettings` that the scenario decides; where things are is not among them.

    TLS and credentials of an external broker are: `mqtt_ca` and its like, where they are given.
    """
    fleet, publish, target = scenario.fleet, scenario.publish, scenario.target
    values = {
        "cars": fleet.cars,
        "seed": fleet.seed,
        "workers": scenario.workers,
        "car": fleet.car,
        "drives": fleet.drives,
        "signals": fleet.signals,
        "ramp_per_s": scenario.ramp.per_s,
        "interval_s": publish.interval_s,
        "qos": publish.qos,
        "payload": publish.payload,
        "batch": publish.batch,
        "topic_alias": publish.topic_alias,
        "in_flight": publish.in_flight,
        "buffer": publish.buffer,
        "messages": publish.messages,
        "keepalive_s": round(scenario.mqtt.keepalive_s),
        "session_expiry_s": round(scenario.mqtt.session_expiry_s),
        "topic_template": target.topic,
        "payload_template": target.payload_template,
        "mqtt_credentials": target.credentials,
        "mqtt_ca": target.ca,
        "mqtt_cert": target.cert,
        "mqtt_key": target.key,
    }
    return {name: value for name, value in values.items() if value is not None}


def limits(scenario: Scenario) -> Limits:
    """Thresholds of the audit, without those of what the run cannot have.

    What only a Kafka or our pipeline could tell stays: the verdict says that it is not judged.
    """
    values = scenario.thresholds.model_dump()
    left_out: set[str] = set()
    if scenario.publish.qos == 0:
        left_out |= {"lost", "due_to_puback_p99_ms"}
    else:
        left_out |= {"qos0_lost_share"}
    if scenario.fleet.car == "demo":  # its failures come without warning, from the first second on
        left_out |= {"announced_share", "median_lead_minutes", "false_alerts_per_day"}
    return Limits(**{name: None if name in left_out else v for name, v in values.items()})
