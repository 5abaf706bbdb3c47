"""Generates docs/contract.md from the catalogue and the topic declarations."""

from motorcade.fleet import mqtt_topics
from motorcade.fleet.avro import telemetry_schema
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.topics import TOPICS, Topic


def contract_page(catalogue: Catalogue) -> str:
    """The contract as a Markdown page: signals, Avro layout, Kafka topics, MQTT topics."""
    sections = [
        "# Contract\n\nGenerated from `motorcade/fleet/signals.yaml` and "
        "`motorcade/fleet/topics.py` by `motorcade contract`; a test fails when this page differs.",
        _signals(catalogue),
        _avro(catalogue),
        _kafka(),
        _mqtt(),
    ]
    return "\n\n".join(sections) + "\n"


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _signals(catalogue: Catalogue) -> str:
    lines = [
        f"## Signals of catalogue `{catalogue.name}`",
        "",
        _row("#", "signal", "unit", "range", "required", "feature", "VSS 6 path", "description"),
        _row(*["---"] * 8),
    ]
    for number, signal in enumerate(catalogue.signals, 1):
        low, high = signal.range
        lines.append(
            _row(
                number,
                f"`{signal.name}`",
                signal.unit,
                f"{low:g} to {high:g}",
                "yes" if signal.required else "",
                "yes" if signal.feature else "",
                f"`{signal.vss}`",
                signal.description,
            )
        )
    return "\n".join(lines)


def _avro(catalogue: Catalogue) -> str:
    fields = telemetry_schema(catalogue)["fields"]
    lines = [
        "## Avro layout of `telemetry`",
        "",
        "Constant width first, so that a batch decodes as one block; absent signals are NaN.",
        "",
        _row("field", "type"),
        _row("---", "---"),
        *(_row(f"`{field['name']}`", field["type"]) for field in fields),
    ]
    return "\n".join(lines)


def _kafka() -> str:
    lines = [
        "## Kafka topics",
        "",
        "The key is the vehicle id, except in `models` (champion or challenger).",
        "",
        _row("topic", "partitions", "cleanup", "retention"),
        _row(*["---"] * 4),
        *(_row(f"`{t.name}`", t.partitions, t.cleanup, _retention(t)) for t in TOPICS),
    ]
    return "\n".join(lines)


def _retention(topic: Topic) -> str:
    if topic.retention_ms < 0:
        return "latest of each key"
    return f"{topic.retention_ms // (24 * 3600 * 1000)} days"


def _mqtt() -> str:
    kinds = {
        mqtt_topics.TELEMETRY: "a message of signals",
        mqtt_topics.DTC: "a diagnostic trouble code: a failure",
        mqtt_topics.STATUS: "retained birth and will, both with boot",
        mqtt_topics.COMMAND_REQUEST: "to the car",
        mqtt_topics.COMMAND_RESPONSE: "from the car",
    }
    lines = [
        "## MQTT topics",
        "",
        "`{shard}` is the last two characters of the vehicle id as a number 00–99, letters by a "
        "fixed table (A=0 … J=9, K=0 … T=9, U=0 … Z=5).",
        "",
        _row("topic", "what"),
        _row("---", "---"),
        *(_row(f"`{mqtt_topics.ROOT}/{{shard}}/{{vin}}/{k}`", what) for k, what in kinds.items()),
    ]
    return "\n".join(lines)
