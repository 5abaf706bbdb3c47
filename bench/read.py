"""Reading a training set from Kafka: our readers against what tensorflow-io and fastavro offer.

motorcade bench read [--kafka BOOTSTRAP] [--records N]

All read the same synthetic records of a topic that the benchmark makes and deletes, in one process,
one after the other; the slow ones read fewer of them. Rates are records per second of CPU, all
threads counted. Kafka is one that tensorflow-io can read, 3.9 or older; without --kafka one is
started for it.
"""

import io
import json
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import fastavro
import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from bench import arguments
from motorcade.fleet.avro import telemetry_schema
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.source import source_header
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns
from motorcade.ml.engine import tensorflow
from motorcade.ml.reading.columnar import ColumnarReader
from motorcade.ml.reading.ranges import OffsetRange, read_values, record_ranges
from motorcade.ml.reading.tensorflow_io import TensorflowReader

PARTITIONS = 4
SCHEMA_ID = 1
CATALOGUE = load_catalogue()
SCHEMA = telemetry_schema(CATALOGUE)
#: Records that tensorflow-io decodes: enough for seconds of work.
IN_GRAPH = 10_000


def fill(bootstrap: str, topic: str, count: int) -> None:
    """Write records as refine does."""
    rng = np.random.default_rng(0)
    number = np.arange(count)
    columns = TelemetryColumns(
        np.array([b"VIN%014d" % (n % 1000) for n in number], dtype="S17"),
        rng.normal(50, 10, size=(count, len(CATALOGUE.names))).round(2),
        *(number + start for start in (10**12, 1, 10**12, 10**12)),
    )
    producer = Producer(
        {"bootstrap.servers": bootstrap, "compression.type": "zstd", "linger.ms": 50}
    )
    for n, value in enumerate(TelemetryAvro(CATALOGUE, SCHEMA_ID).encode(columns)):
        header = source_header(n % PARTITIONS, n // PARTITIONS)
        producer.produce(topic, value, bytes(columns.vin[n]), n % PARTITIONS, headers=[header])
        if n % 10_000 == 0:
            producer.poll(0.05)
    producer.flush(60)


def ours(
    kind: type[ColumnarReader] | type[TensorflowReader],
    settings: ProcessSettings,
    ranges: list[OffsetRange],
) -> int:
    """All records as columns."""
    return sum(len(batch) for batch in kind(settings, ranges, CATALOGUE, lambda _: SCHEMA))


def one_by_one(settings: ProcessSettings, ranges: list[OffsetRange]) -> int:
    """All records as dictionaries of fastavro, and their values in catalogue order."""
    parsed = fastavro.parse_schema(SCHEMA)
    names = CATALOGUE.names
    rows = 0
    for values in read_values(settings, ranges):
        for value in values:
            one = fastavro.schemaless_reader(io.BytesIO(value[5:]), parsed, None)
            rows += len([one[name] for name in names]) == len(names)
    return rows


def in_graph(bootstrap: str, topic: str, count: int) -> int:
    """Records of the first partition as tensorflow-io reads and decodes them by itself."""
    tf = tensorflow()
    import tensorflow_io as tfio

    text = json.dumps(SCHEMA)

    def decode(message):  # type: ignore[no-untyped-def]
        return tfio.experimental.serialization.decode_avro(
            tf.strings.substr(message.message, 5, -1), schema=text
        )

    messages = tfio.IODataset.from_kafka(topic, partition=0, servers=bootstrap)
    rows = 0
    for batch in messages.take(count).map(decode).batch(1000):
        rows += len(batch["vin"])
    return rows


def timed(work: Callable[[], int]) -> tuple[int, float]:
    """Records, and records per CPU-second."""
    began = time.process_time()
    rows = work()
    return rows, rows / (time.process_time() - began)


def compare(bootstrap: str, count: int) -> None:
    """Fill a topic, and read it in every way."""
    settings = ProcessSettings(kafka=bootstrap)
    topic = f"bench-read-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(20)
    try:
        fill(bootstrap, topic, count)
        ranges = record_ranges(settings, topic)
        few = min(IN_GRAPH, count // PARTITIONS)
        works: dict[str, tuple[Callable[[], int], int]] = {
            "columnar reader": (partial(ours, ColumnarReader, settings, ranges), count),
            "tensorflow-io's client, our decoding": (
                partial(ours, TensorflowReader, settings, ranges),
                count,
            ),
            "fastavro, record by record": (partial(one_by_one, settings, ranges), count),
            "tensorflow-io, decode_avro in the graph": (
                partial(in_graph, bootstrap, topic, few),
                few,
            ),
        }
        # Imports, connections and traces of graphs are no part of a rate.
        ours(ColumnarReader, settings, ranges[:1])
        ours(TensorflowReader, settings, ranges[:1])
        in_graph(bootstrap, topic, 1000)
        fastest = 0.0
        for name, (work, expected) in works.items():
            rows, rate = timed(work)
            assert rows == expected, (name, rows, expected)
            fastest = max(fastest, rate)
            print(f"{name:40} {rate:>12,.0f} records per CPU-second, 1/{fastest / rate:,.1f}")
    finally:
        admin.delete_topics([topic])[topic].result(20)


def main() -> None:
    parser = arguments.parser("read", __doc__)
    parser.add_argument("--kafka", metavar="BOOTSTRAP", help="where it is; else one is started")
    parser.add_argument("--records", type=int, default=400_000, help="")
    options = parser.parse_args()
    if options.kafka:
        compare(options.kafka, options.records)
        return
    from bench.pipeline.running import stack

    with tempfile.TemporaryDirectory() as folder, stack(Path(folder) / "state", {}) as running:
        compare(running.settings.kafka, options.records)


if __name__ == "__main__":
    main()
