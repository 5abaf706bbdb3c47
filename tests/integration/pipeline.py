"""What the pipeline's integration tests share: processes of ours to kill, a publisher, readers."""

import asyncio
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from motorcade.fleet import mqtt_topics, topics
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.source import source_of
from motorcade.fleet.telemetry import TelemetryColumns, TelemetryJson
from motorcade.fleet.vin import generate_vin
from motorcade.runtime.kafka import Record, TopicPartition, consumer, partitions_of, read_all
from motorcade.runtime.kafka import started as kafka_started
from motorcade.runtime.mqtt import MqttOffline, MqttSession, MqttWindowFull
from motorcade.stack import processes
from motorcade.stack.ports import free_ports


async def until(condition: Callable[[], bool], timeout_s: float = 30, what: str = "") -> None:
    """Poll until a condition holds; fails with `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what or condition}"
        await asyncio.sleep(0.02)


@dataclass
class Process:
    """One of our processes, as the stack runs it."""

    name: str
    environment: Mapping[str, str]
    folder: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    popen: subprocess.Popen[bytes] | None = None

    def start(self, failpoint: str = "") -> None:
        environment = {
            **os.environ,
            **self.environment,
            "MOTORCADE_HTTP_PORT": str(self.port),
            "MOTORCADE_FAILPOINT": failpoint,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.popen = subprocess.Popen(
                processes.program(self.name, {}, self.folder).argv,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
            )

    @property
    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self.popen is not None and self.popen.poll() is None

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def ready(self) -> bool:
        assert self.running, f"{self.name} ended:\n{self.log[-3000:]}"
        try:
            return bool(json.loads(self.get("/readyz"))["ready"])
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    async def started(self, failpoint: str = "", timeout_s: float = 60) -> None:
        self.start(failpoint)
        await self.until_ready(timeout_s)

    async def until_ready(self, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not await asyncio.to_thread(self.ready):
            assert time.monotonic() < deadline, f"{self.name} not ready:\n{self.log[-3000:]}"
            await asyncio.sleep(0.05)

    def kill(self) -> None:
        assert self.popen is not None
        self.popen.kill()
        self.popen.wait(30)

    def stop(self) -> int:
        assert self.popen is not None
        self.popen.terminate()
        return self.popen.wait(40)

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels."""
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in self.get("/metrics").splitlines()
            if line.split("{")[0].split(" ")[0] == name
        )


def environment(kafka: str, brokers: tuple[str, ...], registry: str = "") -> dict[str, str]:
    found = {"MOTORCADE_KAFKA": kafka, "MOTORCADE_BROKERS": ",".join(brokers)}
    return found | ({"MOTORCADE_REGISTRY_URL": registry} if registry else {})


class Messages:
    """Makes correct telemetry of a fleet: message n of car i, always the same."""

    def __init__(self, seed: int, cars: int, boot: int | None = None) -> None:
        self.vins = [generate_vin(seed, index) for index in range(cars)]
        self.boot = boot or time.time_ns() // 1_000_000
        self._codec = TelemetryJson(load_catalogue())
        low, high = self._codec.catalogue.low, self._codec.catalogue.high
        self._middle = (low + high) / 2

    def one(self, car: int, seq: int, **changes: Any) -> dict[str, Any]:
        """A message as a document, with fields changed; a change to None removes the field."""
        columns = TelemetryColumns(
            np.array([self.vins[car]], dtype="S17"),
            self._middle[None, :],
            *(np.array([n]) for n in (self.boot, seq, self.boot + seq, self.boot + seq)),
        )
        document: dict[str, Any] = json.loads(self._codec.encode(columns)[0]) | changes
        return {name: value for name, value in document.items() if value is not None}

    def payload(self, car: int, seq: int, **changes: Any) -> bytes:
        return json.dumps(self.one(car, seq, **changes)).encode()

    def topic(self, car: int, kind: str = mqtt_topics.TELEMETRY) -> str:
        return mqtt_topics.topic(self.vins[car], kind)


class Publisher:
    """One MQTT client that publishes for many cars and keeps what the broker acknowledged."""

    def __init__(self, endpoint: str, name: str = "publisher") -> None:
        self.session = MqttSession(name, endpoint, clean_start=True)
        self.session.on_puback = self._puback
        self._waiting: dict[int, Any] = {}
        self.acknowledged: list[Any] = []
        self.refused: list[tuple[Any, int]] = []

    def _puback(self, _: MqttSession, packet_id: int, code: int) -> None:
        label = self._waiting.pop(packet_id)
        if code:
            self.refused.append((label, code))
        else:
            self.acknowledged.append(label)

    async def publish(self, topic: str, payload: bytes, label: Any = None) -> None:
        while True:
            try:
                packet_id = self.session.publish(topic, payload)
            except (MqttWindowFull, MqttOffline):
                await asyncio.sleep(0.005)
                continue
            self._waiting[packet_id] = label
            return

    async def settled(self) -> None:
        await until(lambda: not self._waiting, what="every PUBACK of the publisher")


class Watermark:
    """Where topics end now, to read later what came after."""

    def __init__(self, kafka: str) -> None:
        self._settings = ProcessSettings(kafka=kafka)
        self._ends: dict[TopicPartition, int] = {}

    async def take(self, *names: str) -> None:
        async with kafka_started(consumer(self._settings), self._settings) as client:
            for topic in names:
                parts = [TopicPartition(topic, p) for p in await partitions_of(client, topic)]
                self._ends |= await client.end_offsets(parts)

    async def since(self, topic: str) -> list[Record]:
        """Records of a topic after the mark, in order within each partition.

        What was derived later from raw records before the mark does not count.
        """
        found: list[Record] = []
        async for batch in read_all(self._settings, [topic], starts=self._ends):
            found += [record for record in batch if not self._of_before(record)]
        return sorted(found, key=lambda record: (record.partition, record.offset))

    async def committed(self, group: str) -> dict[int, int]:
        """Next offset of telemetry.raw that a group will read, by partition."""
        async with kafka_started(consumer(self._settings, group=group), self._settings) as client:
            parts = [tp for tp in self._ends if tp.topic == topics.RAW]
            return {tp.partition: await client.committed(tp) or 0 for tp in parts}

    def _of_before(self, record: Record) -> bool:
        source = source_of(record.headers)
        begin = source and self._ends.get(TopicPartition(topics.RAW, source.partition))
        return source is not None and begin is not None and source.offset < begin

    async def until_count(self, topic: str, count: int, timeout_s: float = 150) -> list[Record]:
        """Wait until so many records came."""
        deadline = time.monotonic() + timeout_s
        while True:
            records = await self.since(topic)
            if len(records) >= count:
                return records
            assert time.monotonic() < deadline, f"{len(records)} of {count} records in {topic}"
            await asyncio.sleep(0.1)


def first_arrivals_by_car(records: list[Record]) -> dict[str, list[int]]:
    """Sequence numbers of each car in the order they first arrived."""
    found: dict[str, dict[int, None]] = {}
    for record in records:
        document = json.loads(record.value)
        found.setdefault(document["vin"], {})[document["seq"]] = None
    return {vin: list(seqs) for vin, seqs in found.items()}


def duplicates(records: list[Record]) -> int:
    counts = Counter(record.value for record in records)
    return sum(counts.values()) - len(counts)
