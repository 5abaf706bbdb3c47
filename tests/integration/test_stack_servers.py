"""The real servers do what the pipeline relies on."""

import asyncio

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType
from confluent_kafka.schema_registry import SchemaRegistryClient

from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.topics import TOPICS, Topic
from motorcade.stack import schemas, topics
from motorcade.stack.brokers.probe import first_message
from motorcade.stack.errors import TopicMismatchError

from .servers import BrokerServer, RegistryServer


async def test_every_topic_gets_its_declared_partitions_and_settings(kafka_topics: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka_topics})
    found = admin.list_topics(timeout=10).topics
    for topic in TOPICS:
        assert len(found[topic.name].partitions) == topic.partitions
        resource = ConfigResource(ResourceType.TOPIC, topic.name)
        settings = admin.describe_configs([resource])[resource].result()
        for name, value in topic.settings().items():
            assert settings[name].value == value


async def test_creating_topics_twice_creates_none(kafka_topics: str) -> None:
    assert await topics.create(kafka_topics) == []


async def test_a_changed_setting_is_applied_to_a_topic_that_exists(kafka: str, unique: str) -> None:
    await topics.create(kafka, [Topic(unique, 1, retention_ms=60_000)])
    await topics.create(kafka, [Topic(unique, 1, retention_ms=90_000)])
    resource = ConfigResource(ResourceType.TOPIC, unique)
    admin = AdminClient({"bootstrap.servers": kafka})
    settings = admin.describe_configs([resource])[resource].result()
    assert settings["retention.ms"].value == "90000"


async def test_another_partition_count_is_refused_by_name(kafka: str, unique: str) -> None:
    await topics.create(kafka, [Topic(unique, 2)])
    with pytest.raises(TopicMismatchError, match=f"{unique} has 2 partitions.*declares 3"):
        await topics.create(kafka, [Topic(unique, 3)])


async def test_schemas_survive_the_death_of_the_registry(registry_node: RegistryServer) -> None:
    first = await schemas.register(registry_node.url, load_catalogue())
    registry_node.running.kill()
    await asyncio.to_thread(registry_node.restart)
    assert await schemas.register(registry_node.url, load_catalogue()) == first
    client = SchemaRegistryClient({"url": registry_node.url})
    assert {subject: client.get_compatibility(subject) for subject in first} == {
        "telemetry-value": "BACKWARD",
        "predictions-value": "BACKWARD",
    }


async def test_mosquitto_reports_its_drops(own_mosquitto: BrokerServer) -> None:
    # One of the test's own: mosquitto forgets a count that has not changed for a minute.
    assert await own_mosquitto.broker.drops() == 0


async def test_a_retained_message_is_not_needed_for_the_probe(mosquitto: BrokerServer) -> None:
    assert await first_message(mosquitto.broker.endpoints[0], "silent", timeout_s=0.2) is None
