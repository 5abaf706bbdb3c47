"""`motorcade topics` and `motorcade contract`: apply the contract, and show it."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.docs import contract_page
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.topics import TOPICS
from motorcade.runtime.kafka_access import KafkaAccess
from motorcade.stack import schemas
from motorcade.stack import topics as kafka_topics

_console = Console(stderr=True, soft_wrap=True)


def topics(
    kafka: Annotated[
        str | None, typer.Option(help="Bootstrap servers; else MOTORCADE_KAFKA.")
    ] = None,
    registry_url: Annotated[
        str | None, typer.Option(help="Schema registry; else MOTORCADE_REGISTRY_URL.")
    ] = None,
    signals: Annotated[Path | None, typer.Option(help="Signal catalogue (YAML).")] = None,
    replication: Annotated[
        int, typer.Option(help="Copies of each partition; -1 takes the cluster's default.")
    ] = -1,
) -> None:
    """Create every Kafka topic with its declared settings and register the schemas.

    Run again it changes nothing. `motorcade up` does it for its own Kafka; this is for yours, which
    may ask for a login and TLS: MOTORCADE_KAFKA_CREDENTIALS and MOTORCADE_KAFKA_CA name the files.

    **Example:** `motorcade topics --kafka kafka.example:9092 --registry-url http://registry:8081`

    **Next:** start the processes with the same MOTORCADE_* variables.
    """
    settings = ProcessSettings()
    catalogue = load_catalogue(signals or settings.signals)
    bootstrap = kafka or settings.kafka
    access = KafkaAccess.of(settings)
    created = asyncio.run(kafka_topics.create(bootstrap, replication=replication, access=access))
    ids = asyncio.run(schemas.register(registry_url or settings.registry_url, catalogue))
    _console.print(
        f"{len(created)} of {len(TOPICS)} topics were missing at {bootstrap} and are there now; "
        f"{len(ids)} schemas are registered."
    )


def contract(
    output: Annotated[
        Path | None, typer.Option(help="Write the page here instead of printing it.")
    ] = None,
    signals: Annotated[Path | None, typer.Option(help="Signal catalogue (YAML).")] = None,
) -> None:
    """The contract as a Markdown page: signals, Avro layout, Kafka and MQTT topics.

    **Example:** `motorcade contract --output docs/contract.md`
    """
    page = contract_page(load_catalogue(signals))
    if output is None:
        sys.stdout.write(page)
    else:
        output.write_text(page, encoding="utf-8")
        _console.print(f"Wrote {output}.")
