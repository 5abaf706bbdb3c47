"""Creates every Kafka topic that the contract declares, and verifies the ones that exist."""

import asyncio
import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from motorcade.fleet.errors import UnreachableError
from motorcade.fleet.topics import TOPICS, Topic
from motorcade.runtime.kafka_access import OPEN, KafkaAccess, require_admission
from motorcade.stack.errors import TopicMismatchError

_TIMEOUT_S = 20


async def create(
    bootstrap: str,
    topics: Sequence[Topic] = TOPICS,
    replication: int = -1,
    access: KafkaAccess = OPEN,
) -> list[str]:
    """Brings the topics to their declared state; run again it changes nothing.

    Args:
        bootstrap: Kafka's "host:port,host:port".
        topics: what to create.
        replication: copies of each partition; -1 takes the cluster's default.
        access: how Kafka lets us in.

    Returns:
        Names of the topics that did not exist before.

    Raises:
        TopicMismatchError: a topic exists with another number of partitions.
        UnreachableError: Kafka does not answer.
        KafkaRefused: it does not let us in.
    """
    return await asyncio.to_thread(_create, bootstrap, topics, replication, access)


def _create(
    bootstrap: str, topics: Sequence[Topic], replication: int, access: KafkaAccess
) -> list[str]:
    require_admission(bootstrap, access)
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, **access.librdkafka()})
    try:
        existing = admin.list_topics(timeout=_TIMEOUT_S).topics
        for topic in topics:
            found = existing.get(topic.name)
            if found is not None and len(found.partitions) != topic.partitions:
                raise TopicMismatchError(
                    f"the Kafka topic {topic.name} has {len(found.partitions)} partitions, "
                    f"the contract declares {topic.partitions}.",
                    "The count never changes in place: delete the topic, or use another Kafka.",
                )
        created = [topic for topic in topics if topic.name not in existing]
        _make(admin, created, replication)
        _await_leaders(admin, created, bootstrap)
        _configure(admin, [topic for topic in topics if topic.name in existing])
    except KafkaException as error:
        raise UnreachableError(
            f"Kafka at {bootstrap}: {error.args[0].str()}.",
            "Check the address, and that Kafka runs (motorcade status).",
        ) from error
    return [topic.name for topic in created]


def _make(admin: AdminClient, topics: Sequence[Topic], replication: int) -> None:
    if not topics:
        return
    made = admin.create_topics(
        [
            NewTopic(
                topic.name,
                num_partitions=topic.partitions,
                replication_factor=replication,
                config=topic.settings(),
            )
            for topic in topics
        ],
        operation_timeout=_TIMEOUT_S,
    )
    for future in made.values():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def _await_leaders(admin: AdminClient, topics: Sequence[Topic], bootstrap: str) -> None:
    """A topic that was created is not at once known to every broker: wait until clients see it."""
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        seen = admin.list_topics(timeout=_TIMEOUT_S).topics
        waiting = [
            topic.name
            for topic in topics
            if topic.name not in seen
            or len(seen[topic.name].partitions) != topic.partitions
            or any(part.leader < 0 for part in seen[topic.name].partitions.values())
        ]
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise UnreachableError(
                f"Kafka at {bootstrap}: no leader for {', '.join(waiting)} within {_TIMEOUT_S} s.",
                "Look at Kafka's log (motorcade logs kafka).",
            )
        time.sleep(0.05)


def _configure(admin: AdminClient, topics: Sequence[Topic]) -> None:
    if not topics:
        return
    resources = [
        ConfigResource(
            ResourceType.TOPIC,
            topic.name,
            incremental_configs=[
                ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
                for name, value in topic.settings().items()
            ],
        )
        for topic in topics
    ]
    for future in admin.incremental_alter_configs(resources).values():
        future.result()
