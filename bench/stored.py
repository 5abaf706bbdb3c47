"""Bytes that Kafka stores for one message, by topic, in a stack that runs.

motorcade bench stored STATE

Run it on a stack that has carried a load (`motorcade generate`, `motorcade load`): segments of the
log are files, so their size over the number of their records is what retention has to pay for.
"""

from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from bench import arguments
from motorcade.fleet.topics import DTC, PREDICTIONS, RAW, TELEMETRY, TOPICS
from motorcade.stack.state import StateFolder

SHOWN = (RAW, TELEMETRY, PREDICTIONS, DTC)


def records(bootstrap: str, topic: str, partitions: int) -> int:
    """Records that a topic holds."""
    client = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench-stored"})
    try:
        marks = [
            client.get_watermark_offsets(TopicPartition(topic, partition), timeout=20)
            for partition in range(partitions)
        ]
    finally:
        client.close()
    return sum(high - low for low, high in marks)


def stored(data: Path, topic: str) -> int:
    """Bytes of a topic's segments; topic names may be prefixes of one another."""
    folders = [
        one
        for one in data.rglob(f"{topic}-*")
        if one.is_dir() and one.name.removeprefix(f"{topic}-").isdigit()
    ]
    return sum(segment.stat().st_size for one in folders for segment in one.glob("*.log"))


def main(state: Path) -> None:
    folder = StateFolder(state)
    running = folder.require()
    print(f"{'topic':20} {'records':>12} {'MB':>10} {'bytes each':>11}")
    for topic in TOPICS:
        if topic.name in SHOWN:
            count = records(running.kafka, topic.name, topic.partitions)
            size = stored(folder.data / "kafka", topic.name)
            each = f"{size / count:.1f}" if count else "–"
            print(f"{topic.name:20} {count:12,} {size / 1e6:10.1f} {each:>11}")


if __name__ == "__main__":
    parser = arguments.parser("stored", __doc__)
    parser.add_argument("state", metavar="STATE", type=Path, help="state folder of the stack")
    main(parser.parse_args().state)
