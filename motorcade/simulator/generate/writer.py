"""Writes one share to Kafka: batches by partition, in order, each acknowledged by all replicas."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from motorcade.fleet import messages
from motorcade.fleet.avro import TELEMETRY_SUBJECT
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns, TelemetryJson
from motorcade.fleet.topics import DTC, GENERATED_HEADER, RAW, STATUS, partition_of
from motorcade.runtime.kafka import producer, started
from motorcade.runtime.registry import schema_id
from motorcade.simulator.generate.plan import SetPlan
from motorcade.simulator.generate.share import Share
from motorcade.simulator.wear import Failure

Payload: TypeAlias = Literal["json", "avro"]
Encode: TypeAlias = Callable[[TelemetryColumns], list[bytes]]

_HEADERS = [(GENERATED_HEADER, b"1")]
_REPORT_S = 0.25


@dataclass
class Cost:
    """What a share took so far: messages, trouble codes, and CPU seconds by part."""

    messages: int = 0
    dtcs: int = 0
    #: Event time that the cars stand at.
    event_ms: int = 0
    physics_s: float = 0.0
    encoding_s: float = 0.0
    #: Of the whole process since it began to write: what remains is the Kafka client's.
    cpu_s: float = 0.0


async def write_share(
    plan: SetPlan,
    worker: int,
    workers: int,
    settings: ProcessSettings,
    payload: Payload,
    report: Callable[[Cost, list[Failure]], None],
) -> None:
    """Drive a share and write it; `report` is called some times a second and at the end.

    Raises:
        UnreachableError: Kafka or the registry does not answer.
        SimulationError: the catalogue requires a signal that these cars lack.
        KafkaError: Kafka did not take a batch.
    """
    encode = await _encoder(plan, settings, payload)
    share = Share(plan, worker, workers)
    async with started(producer(settings), settings) as client:
        writer = _Writer(client)
        cost = Cost(event_ms=plan.start_ms)
        began = time.process_time()
        await _introduce(writer, plan, share)
        partitions = {vin: partition_of(vin) for vin in share.vins.tolist()}
        failures: list[Failure] = []
        reported = time.monotonic()
        mark = time.process_time()
        for moment in share.moments():
            encoding = time.process_time()
            cost.physics_s += encoding - mark
            now_ms = time.time_ns() // 1_000_000
            for columns in moment.telemetry:
                due = np.full(len(columns), now_ms, dtype=np.int64)
                values = encode(replace(columns, due=due))
                cost.encoding_s += time.process_time() - encoding
                for vin, value in zip(columns.vin.tolist(), values, strict=True):
                    writer.add(RAW, partitions[vin], vin, value, now_ms)
                cost.messages += len(values)
                encoding = time.process_time()
            for failure in moment.failures:
                _report_failure(writer, plan, failure, now_ms)
            failures += moment.failures
            cost.dtcs += len(moment.failures)
            cost.event_ms = moment.event_ms + plan.fleet.grid_ms
            await writer.send_full()
            if time.monotonic() - reported >= _REPORT_S:
                cost.cpu_s = time.process_time() - began
                report(cost, failures)
                failures = []
                reported = time.monotonic()
            mark = time.process_time()
        await writer.finish()
        cost.cpu_s = time.process_time() - began
        report(cost, failures)


async def _encoder(plan: SetPlan, settings: ProcessSettings, payload: Payload) -> Encode:
    catalogue = plan.fleet.catalogue
    if payload == "json":
        return TelemetryJson(catalogue).encode
    return TelemetryAvro(catalogue, await schema_id(settings, catalogue, TELEMETRY_SUBJECT)).encode


async def _introduce(writer: "_Writer", plan: SetPlan, share: Share) -> None:
    """The cars' statuses. They are on no broker, so they are offline: nobody commands them."""
    for vin in share.vins.tolist():
        status = messages.VehicleStatus(vin.decode(), plan.boot, 1, online=False, endpoint="")
        writer.add(STATUS, partition_of(vin), vin, messages.encode(status), plan.boot)
    await writer.send_full()


def _report_failure(writer: "_Writer", plan: SetPlan, failure: Failure, now_ms: int) -> None:
    code = messages.DiagnosticTroubleCode(
        failure.vin,
        plan.boot,
        failure.code,
        str(failure.kind),
        failure.time_ms,
        now_ms,
        failure.description,
    )
    vin = failure.vin.encode()
    writer.add(DTC, partition_of(vin), vin, messages.encode(code), now_ms)


class _Writer:
    """Batches by topic and partition; the order of `add` is kept within each."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._open: dict[tuple[str, int], Any] = {}
        self._full: list[tuple[str, int, Any]] = []
        self._sent: list[Any] = []

    def add(self, topic: str, partition: int, key: bytes, value: bytes, now_ms: int) -> None:
        """Put a record into its batch."""
        place = topic, partition
        batch = self._open.get(place)
        if batch is None:
            batch = self._open[place] = self._client.create_batch()
        added = batch.append(timestamp=now_ms, key=key, value=value, headers=_HEADERS)
        if added is None:
            self._full.append((topic, partition, batch))
            batch = self._open[place] = self._client.create_batch()
            batch.append(timestamp=now_ms, key=key, value=value, headers=_HEADERS)

    async def send_full(self) -> None:
        """Hand full batches to the client, which holds one a partition back: so memory is bounded.

        Raises:
            KafkaError: Kafka did not take an earlier batch.
        """
        full, self._full = self._full, []
        for topic, partition, batch in full:
            self._sent.append(await self._client.send_batch(batch, topic, partition=partition))
        pending = []
        for future in self._sent:
            if future.done():
                future.result()
            else:
                pending.append(future)
        self._sent = pending

    async def finish(self) -> None:
        """Send what is left; returns when Kafka has acknowledged everything."""
        self._full += [(topic, part, batch) for (topic, part), batch in self._open.items()]
        self._open = {}
        await self.send_full()
        for future in self._sent:
            await future
