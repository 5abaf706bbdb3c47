"""Reading a training set from Kafka: the columnar reader against fastavro record by record.

python bench/read.py BOOTSTRAP [RECORDS]

Both read the same synthetic records of a topic that the benchmark makes and deletes.
"""

import io
import sys
import time
import uuid
from collections.abc import Callable

import fastavro
import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from motorcade.fleet.avro import telemetry_schema
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.source import source_header
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns
from motorcade.ml.reading.columnar import ColumnarReader
from motorcade.ml.reading.ranges import read_values, record_ranges

PARTITIONS = 4
SCHEMA_ID = 1


def fill(bootstrap: str, topic: str, count: int) -> None:
    """Write records as refine does."""
    catalogue = load_catalogue()
    rng = np.random.default_rng(0)
    number = np.arange(count)
    columns = TelemetryColumns(
        np.array([b"VIN%014d" % (n % 1000) for n in number], dtype="S17"),
        rng.normal(50, 10, size=(count, len(catalogue.names))).round(2),
        *(number + start for start in (10**12, 1, 10**12, 10**12)),
    )
    producer = Producer(
        {"bootstrap.servers": bootstrap, "compression.type": "zstd", "linger.ms": 50}
    )
    for n, value in enumerate(TelemetryAvro(catalogue, SCHEMA_ID).encode(columns)):
        header = source_header(n % PARTITIONS, n // PARTITIONS)
        producer.produce(topic, value, bytes(columns.vin[n]), n % PARTITIONS, headers=[header])
        if n % 10_000 == 0:
            producer.poll(0.05)
    producer.flush(60)


def timed(work: Callable[[], int]) -> tuple[int, float]:
    began = time.process_time()
    rows = work()
    return rows, rows / (time.process_time() - began)


def main(bootstrap: str, count: int) -> None:
    catalogue = load_catalogue()
    schema = telemetry_schema(catalogue)
    parsed = fastavro.parse_schema(schema)
    settings = ProcessSettings(kafka=bootstrap)
    topic = f"bench-read-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(20)
    try:
        fill(bootstrap, topic, count)
        ranges = record_ranges(settings, topic)

        def columnar() -> int:
            return sum(
                len(b) for b in ColumnarReader(settings, ranges, catalogue, lambda _: schema)
            )

        def one_by_one() -> int:
            names = catalogue.names
            rows = 0
            for values in read_values(settings, ranges):
                for value in values:
                    one = fastavro.schemaless_reader(io.BytesIO(value[5:]), parsed, None)
                    rows += len([one[name] for name in names]) == len(names)
            return rows

        timed(columnar)
        rows, fast = timed(columnar)
        same, slow = timed(one_by_one)
        assert rows == same == count
        print(f"columnar reader:           {fast:>10,.0f} records per CPU-second")
        print(f"fastavro record by record: {slow:>10,.0f} records per CPU-second")
        print(f"ratio: {fast / slow:.1f}")
    finally:
        admin.delete_topics([topic])[topic].result(20)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 400_000)
