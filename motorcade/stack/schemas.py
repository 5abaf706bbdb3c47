"""Registers the contract's Avro schemas, each subject BACKWARD compatible."""

import asyncio
import json

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from motorcade.fleet.avro import subjects
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.errors import UnreachableError
from motorcade.stack.errors import StackError
from motorcade.stack.registry import ready


async def register(url: str, catalogue: Catalogue) -> dict[str, int]:
    """Registers every subject of a catalogue; run again it changes nothing.

    Args:
        url: schema registry with Confluent's API.
        catalogue: the signals that the schemas are generated from.

    Returns:
        Schema id by subject.

    Raises:
        StackError: the registry refuses a schema, such as an incompatible one.
        UnreachableError: the registry does not answer.
    """
    if not await ready(url):
        raise UnreachableError(
            f"the schema registry at {url} does not answer.",
            "Check the address, and that the registry runs (motorcade status).",
        )
    return await asyncio.to_thread(_register, url, catalogue)


def _register(url: str, catalogue: Catalogue) -> dict[str, int]:
    client = SchemaRegistryClient({"url": url})
    ids: dict[str, int] = {}
    for subject, schema in subjects(catalogue).items():
        try:
            client.set_compatibility(subject, "BACKWARD")
            ids[subject] = client.register_schema(subject, Schema(json.dumps(schema), "AVRO"))
        except SchemaRegistryError as error:
            raise StackError(
                f"the schema registry at {url} refuses the schema of {subject}: "
                f"{error.error_message}.",
                "A changed catalogue must stay readable with the old schema: give new signals a "
                "default, remove none, or use another registry.",
            ) from error
    return ids
