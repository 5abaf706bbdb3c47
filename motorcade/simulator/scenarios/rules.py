"""What cannot be in a scenario as a whole, though each of its keys is well."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from motorcade.simulator.scenarios.events import Faults, Garbage, StackEvent

if TYPE_CHECKING:
    from motorcade.simulator.scenarios.model import Scenario

#: The path of the key that is to change, and why, to be read after its name.
Objection = tuple[tuple[str | int, ...], str]

_OF_EXTERNAL = (
    *("broker_url", "credentials", "ca", "cert", "key"),
    *("kafka", "kafka_credentials", "kafka_ca", "kafka_cert", "kafka_key"),
    *("topic", "payload_template"),
)


def objections(one: "Scenario") -> Iterator[Objection]:
    """Everything that cannot be, most important first."""
    yield from _course(one)
    yield from _moments(one)
    yield from _target(one)
    yield from _stack_events(one)
    yield from _messages(one)
    yield from _cars(one)


def _course(one: "Scenario") -> Iterator[Objection]:
    if not one.stages and one.limit is None:
        yield (), "has neither stages nor limit; give it at least one stage, {name, seconds}"
    if one.stages and one.limit is not None:
        yield ("limit",), "searches for a limit by itself and takes no stages; leave one out"
    counts: list[tuple[tuple[str | int, ...], int | None]] = [
        (("ramp", "cars"), one.ramp.cars),
        (("wear", "cars"), one.wear.cars),
    ]
    counts += [(("stages", n, "cars"), stage.cars) for n, stage in enumerate(one.stages)]
    for path, cars in counts:
        if cars is not None and cars > one.fleet.cars:
            yield path, f"must be at most fleet.cars, which is {one.fleet.cars}"
    names = [stage.name for stage in one.stages]
    for position, name in enumerate(names):
        if name in names[:position]:
            yield ("stages", position, "name"), "stands twice; names of stages are unique"


def _moments(one: "Scenario") -> Iterator[Objection]:
    lengths = {stage.name: stage.seconds for stage in one.stages}
    for position, event in enumerate(one.events):
        path = ("events", position, "at")
        stage, offset = event.at.stage, event.at.offset_s
        if stage is not None and stage not in lengths:
            yield path, f"names no stage; there are: {', '.join(lengths) or 'none'}"
        elif stage is not None and offset > lengths[stage]:
            yield path, f"is after the end of the stage, which is {lengths[stage]:g} s long"
        elif stage is None and one.stages and offset > one.total_s:
            yield path, f"is after the end of the run, {one.total_s:g} s after the ramp"


def _target(one: "Scenario") -> Iterator[Objection]:
    target = one.target
    if target.stack == "external":
        if target.broker_url is None:
            yield ("target", "broker_url"), "is missing; stack: external needs mqtt://host:port"
        if one.mqtt.tls:
            yield ("mqtt", "tls"), "is only for an own stack; for an external one give target.ca"
        if target.kafka is None:
            yield from _before_our_pipeline(one)
    else:
        for key in _OF_EXTERNAL:
            if getattr(target, key) is not None:
                yield ("target", key), "is only for stack: external"
        if target.clustered:
            yield ("target", "clustered"), "is only for stack: external; an own one knows"
    if (target.cert is None) != (target.key is None):
        missing = "cert" if target.cert is None else "key"
        yield ("target", missing), "is missing; cert and key belong together"
    yield from _into_kafka(one)


def _into_kafka(one: "Scenario") -> Iterator[Objection]:
    """How an external Kafka lets the audit in."""
    target = one.target
    if target.kafka in (None, "none"):
        for key in ("kafka_credentials", "kafka_ca", "kafka_cert", "kafka_key"):
            if getattr(target, key) is not None:
                yield ("target", key), "is of an external Kafka; name it with target.kafka"
    if (target.kafka_cert is None) != (target.kafka_key is None):
        missing = "kafka_cert" if target.kafka_cert is None else "kafka_key"
        yield ("target", missing), "is missing; kafka_cert and kafka_key belong together"
    if target.kafka_cert is not None and target.kafka_ca is None:
        yield ("target", "kafka_ca"), "is missing; a certificate is shown over TLS only"


def _before_our_pipeline(one: "Scenario") -> Iterator[Objection]:
    """What an external broker cannot have when our own pipeline reads from it."""
    target = one.target
    for key in ("topic", "payload_template"):
        if getattr(target, key) is not None:
            text = "is nothing that a pipeline of ours reads; give target.kafka, or leave it out"
            yield ("target", key), text
    for key in ("cert", "key"):
        if "{vin}" in str(getattr(target, key)):
            text = "is to be one for all, without {vin}: our own bridge shows it as well"
            yield ("target", key), text


def _stack_events(one: "Scenario") -> Iterator[Objection]:
    target = one.target
    for position, event in enumerate(one.events):
        if not isinstance(event, StackEvent):
            continue
        if target.stack == "external":
            text = "happens to a part of a stack of ours; an external one is not ours to touch"
            yield ("events", position, "kind"), text
        elif target.stack != "running" and event.node > target.broker_nodes:
            yield ("events", position, "node"), f"must be at most {target.broker_nodes}"


def _messages(one: "Scenario") -> Iterator[Objection]:
    publish, kafka = one.publish, one.target.kafka  # a Kafka, or "none", is external
    if kafka is not None and publish.payload == "avro":
        text = "must be json without a pipeline of ours: Avro needs its schema registry"
        yield ("publish", "payload"), text
    if kafka not in (None, "none") and publish.batch != 1:
        text = "must be 1 where target.kafka is given: the audit finds one message in a record"
        yield ("publish", "batch"), text
    if one.target.payload_template is not None:
        if publish.payload != "json":
            yield ("publish", "payload"), "must be json where a payload_template is given"
        if publish.batch != 1:
            yield ("publish", "batch"), "must be 1 where a payload_template is given"
    for position, event in enumerate(one.events):
        if isinstance(event, Garbage) and publish.batch != 1:
            text = "needs publish.batch: 1; garbage is made of single samples"
            yield ("events", position, "kind"), text


def _cars(one: "Scenario") -> Iterator[Objection]:
    if one.fleet.car != "demo":
        return
    if one.fleet.drives is not None:
        yield ("fleet", "drives"), "is only for car: motorcade"
    worn: list[tuple[str | int, ...]] = [("wear", "cars")] if one.wear.cars else []
    worn += [("events", n, "kind") for n, e in enumerate(one.events) if isinstance(e, Faults)]
    for path in worn:
        yield path, "is only for car: motorcade; the demo's car fails by its own rates"
