"""What the audit of a long run costs: records per second, CPU per message and peak memory.

motorcade bench audit [--messages 2000000] [--cars 100000] [--form json|avro] [--batch 1]

Writes the topics of a run that never was into a Kafka of its own, every message through the whole
pipeline, and audits them. The same figures hold for longer runs: memory grows with the messages of
the partitions that are read at the same time.
"""

import asyncio
import resource
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from confluent_kafka import Producer

from bench import arguments
from motorcade.fleet import topics
from motorcade.fleet.arrays import Ints
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.predictions import Contributions, PredictionAvro, PredictionColumns
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.source import source_header
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns, TelemetryJson
from motorcade.fleet.vin import generate_vin
from motorcade.simulator.audit import partitions
from motorcade.simulator.audit.delivery import Claim, deliver
from motorcade.simulator.audit.partitions import Plan, Schemas
from motorcade.simulator.audit.reconcile import reconcile
from motorcade.simulator.intervals import IntervalSet
from motorcade.stack import archives, kafka, program
from motorcade.stack import topics as topic_admin
from motorcade.stack.ports import free_ports
from motorcade.stack.settings import StackSettings

TELEMETRY_ID, PREDICTIONS_ID = 1, 2
_BATCH = 20_000
_START_MS = 1_700_000_000_000


@contextmanager
def own_kafka() -> Iterator[str]:
    """A Kafka that ends with the benchmark; its address."""
    jars = archives.ensure([archives.KAFKA], StackSettings())[archives.KAFKA.name]
    with tempfile.TemporaryDirectory() as folder:
        server = kafka.Kafka(jars, Path(folder), *free_ports(2))
        asyncio.run(server.prepare())
        spec = program.write_spec(server.program(), Path(folder))
        with (Path(folder) / "log").open("ab") as log:
            process = subprocess.Popen(program.command(spec), stdout=log, stderr=log)
        try:
            while not asyncio.run(kafka.ready(server.bootstrap)):
                time.sleep(0.2)
            asyncio.run(topic_admin.create(server.bootstrap))
            yield server.bootstrap
        finally:
            process.terminate()
            process.wait(30)


class Fleet:
    """Cars by partition, and their messages in the order in which they were due."""

    def __init__(self, cars: int) -> None:
        vins = [generate_vin(1, index).encode() for index in range(cars)]
        self.of_partition: list[list[bytes]] = [[] for _ in range(topics.PARTITIONS)]
        for vin in vins:
            self.of_partition[topics.partition_of(vin)].append(vin)

    def batches(self, partition: int, messages: int) -> Iterator[TelemetryColumns]:
        """The partition's share of so many messages."""
        vins = np.array(self.of_partition[partition], dtype="S17")
        total = messages // topics.PARTITIONS
        names = load_catalogue().names
        rng = np.random.default_rng(partition)
        for start in range(0, total, _BATCH):
            row = np.arange(start, min(start + _BATCH, total))
            due = _START_MS + row * 10_000 // len(vins)
            yield TelemetryColumns(
                vins[row % len(vins)],
                rng.normal(50, 10, size=(len(row), len(names))).round(2),
                np.full(len(row), _START_MS),
                row // len(vins) + 1,
                due,
                due,
            )


def fill(bootstrap: str, fleet: Fleet, messages: int, form: str, batch: int) -> None:
    """Write raw, refined and scored messages as the pipeline does."""
    catalogue = load_catalogue()
    own, avro = TelemetryJson(catalogue), TelemetryAvro(catalogue, TELEMETRY_ID)
    scores = PredictionAvro(catalogue, PREDICTIONS_ID)
    encode = own.encode if form == "json" else avro.encode
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "compression.type": "zstd",
            "linger.ms": 20,
            "queue.buffering.max.messages": 500_000,
        }
    )
    for partition in range(topics.PARTITIONS):
        offset = raw = 0
        for columns in fleet.batches(partition, messages):
            n = len(columns)
            vins = columns.vin.tolist()
            payloads = encode(columns)
            refined = avro.encode(columns)
            scored = scores.encode(
                _scored(columns, partition, np.arange(offset, offset + n)),
                "autoencoder",
                [""] * n,
                Contributions.none(n),
            )
            for at in range(0, n, batch):
                value = _together(payloads[at : at + batch], form)
                producer.produce(topics.RAW, value, vins[at], partition)
            for at in range(n):
                header = source_header(partition, raw + at // batch, at % batch)
                producer.produce(
                    topics.TELEMETRY, refined[at], vins[at], partition, headers=[header]
                )
                header = source_header(partition, offset + at)
                producer.produce(
                    topics.PREDICTIONS, scored[at], vins[at], partition, headers=[header]
                )
            offset, raw = offset + n, raw + -(-n // batch)
            producer.flush()


def _scored(columns: TelemetryColumns, partition: int, offset: Ints) -> PredictionColumns:
    n = len(columns)
    return PredictionColumns(
        columns.vin,
        np.ones(n),
        np.ones(n),
        np.ones(n),
        columns.boot,
        columns.seq,
        columns.time,
        columns.due,
        np.full(n, partition),
        offset,
        np.ones(n, dtype=np.int64),
    )


def _together(payloads: Sequence[bytes], form: str) -> bytes:
    if len(payloads) == 1:
        return payloads[0]
    return b"".join(payloads) if form == "avro" else b"[" + b",".join(payloads) + b"]"


def claims(fleet: Fleet, messages: int) -> Iterator[Claim]:
    """What these cars would have in their ledgers."""
    for vins in fleet.of_partition:
        total = messages // topics.PARTITIONS
        for position, vin in enumerate(vins):
            last = (total - position - 1) // len(vins) + 1
            sent = IntervalSet([(1, last)] if last > 0 else [])
            yield Claim(vin.decode(), _START_MS, sent, sent, IntervalSet())


class Peak:
    """Highest memory of this process and its children together, MiB."""

    def __init__(self) -> None:
        self.mib = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        me = psutil.Process()
        while not self._ended.wait(0.1):
            total = 0
            for one in (me, *me.children(recursive=True)):
                try:
                    if "kafka" not in one.cmdline()[-1:]:
                        total += one.memory_info().rss if "java" not in one.name() else 0
                except psutil.Error:
                    continue
            self.mib = max(self.mib, total / 2**20)


async def measure(plan: Plan, fleet: Fleet, messages: int) -> int:
    """Audit everything; returns how many records were read."""
    read: Counter[str] = Counter()

    def on_read(topic: str, count: int) -> None:
        read[topic] += count

    parts = await partitions.account(plan, range(topics.PARTITIONS), 3 * messages, on_read)
    delivery = deliver(claims(fleet, messages), [part.seen for part in parts], {})
    accounts = reconcile(delivery, parts)
    expected = messages // topics.PARTITIONS * topics.PARTITIONS
    assert accounts.acknowledged == accounts.raw == accounts.refined == accounts.scored == expected
    wrong = ("lost", "unaccounted", "invented", "unpredicted", "reordered", "others")
    assert not any(getattr(accounts, name) for name in wrong), accounts
    return read.total()


def main() -> None:
    parser = arguments.parser("audit", __doc__)
    parser.add_argument("--messages", type=int, default=2_000_000, help="records to audit")
    parser.add_argument("--cars", type=int, default=100_000, help="that sent them")
    parser.add_argument("--form", choices=("json", "avro"), default="json", help="of the payload")
    parser.add_argument("--batch", type=int, default=1, help="samples in one publish")
    options = parser.parse_args()
    with own_kafka() as bootstrap:
        fleet = Fleet(options.cars)
        fill(bootstrap, fleet, options.messages, options.form, options.batch)
        plan = Plan(
            ProcessSettings(kafka=bootstrap),
            topics.RAW,
            {},
            Schemas(TELEMETRY_ID, PREDICTIONS_ID),
        )
        began = time.perf_counter()
        before = _cpu_s()
        with Peak() as peak:
            records = asyncio.run(measure(plan, fleet, options.messages))
        took, cpu = time.perf_counter() - began, _cpu_s() - before
    print(
        f"{options.messages:,} messages of {options.cars:,} cars, {options.form}, "
        f"{options.batch} a publish: {records:,} records"
    )
    speed = f"{records / took:,.0f} records/s, {options.messages / took:,.0f} messages/s"
    print(f"  {took:.1f} s, {speed}")
    print(f"  {cpu / options.messages * 1e6:.1f} µs of CPU a message, {peak.mib:,.0f} MiB at most")


def _cpu_s() -> float:
    """CPU of this process and of children that ended."""
    found = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in found)


if __name__ == "__main__":
    main()
