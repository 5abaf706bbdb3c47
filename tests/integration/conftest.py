"""Real servers for integration tests: started once a session, on free ports, when first asked for.

A test that names `kafka`, `registry`, `mosquitto` or `artemis` gets a running server. Several tests
share it, so each takes names of its own (`unique` makes one) and leaves the server as it was; a
test that kills or stops a server takes `own_kafka` or `own_mosquitto`.
"""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from motorcade.stack.settings import StackSettings

from .servers import (
    BrokerServer,
    KafkaServer,
    RegistryServer,
    run_async,
    start_artemis,
    start_kafka,
    start_mosquitto,
    start_registry,
)


@pytest.fixture(scope="session")
def stack_settings() -> StackSettings:
    """Where archives are cached: the user's own cache, so a test run downloads nothing twice."""
    return StackSettings()


@pytest.fixture(scope="session")
def kafka_node(
    stack_settings: StackSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KafkaServer]:
    """The session's Kafka with its process; no topics."""
    node = start_kafka(stack_settings, tmp_path_factory.mktemp("kafka"))
    yield node
    node.running.stop()


@pytest.fixture(scope="session")
def kafka(kafka_node: KafkaServer) -> str:
    """Bootstrap address of the session's Kafka."""
    return kafka_node.bootstrap


@pytest.fixture(scope="session")
def kafka_topics(kafka: str) -> str:
    """Bootstrap address of the session's Kafka, with every declared topic created."""
    from motorcade.stack import topics

    run_async(topics.create(kafka))
    return kafka


@pytest.fixture(scope="module")
def kafka_alone(
    stack_settings: StackSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A Kafka that one module has for itself, where what other tests send would be taken in."""
    from motorcade.stack import topics

    node = start_kafka(stack_settings, tmp_path_factory.mktemp("kafka-alone"))
    run_async(topics.create(node.bootstrap))
    yield node.bootstrap
    node.running.stop()


@pytest.fixture(scope="session")
def registry_node(
    stack_settings: StackSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RegistryServer]:
    """The session's schema registry with its process."""
    node = start_registry(stack_settings, tmp_path_factory.mktemp("registry"))
    yield node
    node.running.stop()


@pytest.fixture(scope="session")
def registry(registry_node: RegistryServer) -> str:
    """URL of the session's schema registry (Confluent's API), perhaps without schemas."""
    return registry_node.url


@pytest.fixture(scope="session")
def registry_schemas(registry: str) -> str:
    """URL of the session's schema registry, with the default catalogue's schemas registered."""
    from motorcade.fleet.catalogue import load_catalogue
    from motorcade.stack import schemas

    run_async(schemas.register(registry, load_catalogue()))
    return registry


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerServer]:
    """The session's mosquitto, one node."""
    server = start_mosquitto(tmp_path_factory.mktemp("mosquitto"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def artemis(
    stack_settings: StackSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrokerServer]:
    """The session's Artemis, one node."""
    server = start_artemis(stack_settings, tmp_path_factory.mktemp("artemis"))
    yield server
    server.stop()


@pytest.fixture
def own_mosquitto(tmp_path: Path) -> Iterator[BrokerServer]:
    """A mosquitto of the test's own, to kill or to fill."""
    server = start_mosquitto(tmp_path / "mosquitto")
    yield server
    server.stop()


@pytest.fixture
def own_kafka(stack_settings: StackSettings, tmp_path: Path) -> Iterator[KafkaServer]:
    """A Kafka of the test's own, to kill or to stop."""
    node = start_kafka(stack_settings, tmp_path / "kafka")
    yield node
    node.running.stop()


@pytest.fixture
def unique() -> str:
    """A word that no other test uses, of hexadecimal digits, a letter first: for ids and topics."""
    return f"f{uuid.uuid4().hex[:8]}"
