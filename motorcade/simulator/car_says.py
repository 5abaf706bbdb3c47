"""What a car says besides telemetry: its will, trouble codes, answers to commands."""

from motorcade.fleet import messages, mqtt_topics
from motorcade.runtime.mqtt import Will
from motorcade.runtime.mqtt_packets import Properties, encode_properties
from motorcade.simulator.car_kit import Other
from motorcade.simulator.ledger import DtcRecord
from motorcade.simulator.orders import Orders

JSON = "application/json"
_JSON_PROPERTIES = {"content_type": JSON}
_ENCODED = encode_properties(_JSON_PROPERTIES)


def will(vin: str, offline: bytes) -> Will:
    """The will that tells a car's status `offline`."""
    topic = mqtt_topics.topic(vin, mqtt_topics.STATUS)
    return Will(topic, offline, retain=True, properties=_JSON_PROPERTIES)


def trouble(record: DtcRecord, description: str) -> Other:
    """The trouble code of a record, which learns of the PUBACK."""
    one = record
    dtc = messages.DiagnosticTroubleCode(
        one.vin, one.boot, one.code, one.kind, one.time, one.due, description
    )
    topic = mqtt_topics.topic(one.vin, mqtt_topics.DTC)
    return Other(topic.encode(), messages.encode(dtc), False, _ENCODED, one.due, one)


def answer(orders: Orders, command: bytes, asked: Properties, now_ms: int) -> Other:
    """The answer to a command that came with the properties `asked`.

    Raises:
        DecodeError: it is not a command.
    """
    response = orders.answer(messages.decode(messages.CommandRequest, command), now_ms)
    properties = _ENCODED
    if (correlation := asked.get("correlation_data")) is not None:
        properties = encode_properties({**_JSON_PROPERTIES, "correlation_data": correlation})
    topic = mqtt_topics.topic(response.vin, mqtt_topics.COMMAND_RESPONSE)
    return Other(topic.encode(), messages.encode(response), False, properties, now_ms)
