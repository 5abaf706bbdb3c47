"""Schema ids and schemas from the registry, through Confluent's client."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from motorcade.fleet.avro import subjects
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.errors import MotorcadeError, UnreachableError
from motorcade.fleet.settings import ProcessSettings

#: A schema that a sender uses before we have seen it registered is refused for so long at most.
_ASK_AGAIN_S = 5.0


async def schema_id(settings: ProcessSettings, catalogue: Catalogue, subject: str) -> int:
    """The id under which the catalogue's own schema is registered for a subject.

    Raises:
        UnreachableError: the registry does not answer.
        MotorcadeError: this schema is not registered for the subject.
    """
    text = json.dumps(subjects(catalogue)[subject])

    def look_up() -> int:
        found = _client(settings).lookup_schema(subject, Schema(text, "AVRO"))
        assert found.schema_id is not None
        return int(found.schema_id)

    try:
        return await asyncio.to_thread(look_up)
    except SchemaRegistryError as error:
        raise MotorcadeError(
            f"The registry at {settings.registry_url} does not hold the schema of the catalogue "
            f"{catalogue.name!r} for subject {subject}: {error.error_message}.",
            "Register it first: motorcade topics.",
        ) from error
    except Exception as error:
        raise _unreachable(settings, error) from error


async def schema_by_id(settings: ProcessSettings, number: int) -> dict[str, Any]:
    """The schema of an id, as its writer registered it.

    Raises:
        UnreachableError: the registry does not answer.
        MotorcadeError: the registry knows no such id.
    """

    def look_up() -> dict[str, Any]:
        schema = _client(settings).get_schema(number)
        assert schema.schema_str is not None
        document = json.loads(schema.schema_str)
        assert isinstance(document, dict)
        return document

    try:
        return await asyncio.to_thread(look_up)
    except SchemaRegistryError as error:
        raise MotorcadeError(
            f"The registry at {settings.registry_url} has no schema {number}: "
            f"{error.error_message}."
        ) from error
    except Exception as error:
        raise _unreachable(settings, error) from error


def subject_lookup(
    settings: ProcessSettings, subject: str
) -> Callable[[int], dict[str, Any] | None]:
    """Looks up the schemas of one subject by id; None for an id that is none of them.

    The function blocks, and asks the registry again for an id it does not know at most every
    `_ASK_AGAIN_S`, so that garbage costs no request each.

    Raises (the function):
        UnreachableError: the registry does not answer.
    """
    versions: dict[int, tuple[int, dict[str, Any]]] = {}
    asked = -_ASK_AGAIN_S

    def refresh() -> None:
        client = _client(settings)
        for version in client.get_versions(subject):
            if version not in versions:
                found = client.get_version(subject, version)
                assert found.schema_id is not None
                assert found.schema.schema_str is not None
                versions[version] = (found.schema_id, json.loads(found.schema.schema_str))

    def look_up(number: int) -> dict[str, Any] | None:
        nonlocal asked
        known = dict(versions.values())
        if number not in known and time.monotonic() - asked >= _ASK_AGAIN_S:
            asked = time.monotonic()
            try:
                refresh()
            except SchemaRegistryError:
                return None  # no such subject
            except Exception as error:
                raise _unreachable(settings, error) from error
            known = dict(versions.values())
        return known.get(number)

    return look_up


def _client(settings: ProcessSettings) -> SchemaRegistryClient:
    return SchemaRegistryClient({"url": settings.registry_url})


def _unreachable(settings: ProcessSettings, error: Exception) -> UnreachableError:
    return UnreachableError(
        f"The schema registry does not answer at {settings.registry_url}: {error}.",
        "Check that it runs, and MOTORCADE_REGISTRY_URL.",
    )
