"""Telemetry of simulated cars in Kafka, as refine writes it, without broker, bridge and refine."""

from collections.abc import Sequence

import numpy as np

from motorcade.fleet.avro import TELEMETRY_SUBJECT
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.clock import RunClock
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.source import source_header
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns
from motorcade.fleet.topics import PARTITIONS, TELEMETRY, partition_of
from motorcade.runtime.kafka import producer, started
from motorcade.runtime.registry import schema_id
from motorcade.simulator.block import FleetBlock
from motorcade.simulator.population import FleetPlan, plan_faults
from motorcade.simulator.wear import WearKind

#: Monday morning; any time would do.
EVENT_START_MS = 1_770_019_200_000
SAMPLE_MS = 120_000


class DrivenFleet:
    """Cars that drive on from batch to batch: every car sends a message every two minutes."""

    def __init__(self, seed: int, cars: int) -> None:
        self.catalogue = load_catalogue()
        clock = RunClock(EVENT_START_MS, EVENT_START_MS, 60.0)
        self._plan = FleetPlan(seed, self.catalogue, clock, (), 5000)
        self._block = FleetBlock(self._plan, np.arange(cars))
        self._seq = 0
        self.failures: dict[bytes, int] = {}

    def begin_wear(self, count: int, kinds: Sequence[WearKind]) -> None:
        """Let wear begin now in some cars; `failures` then holds when each of them fails."""
        faults = plan_faults(self._plan, len(self._block), count, kinds, self._block.event_ms)
        self._block.begin_wear(faults)
        self.failures |= {self._plan.vin(f.index).encode(): f.failure_ms for f in faults}

    def drive(self, messages: int) -> TelemetryColumns:
        """The next messages of every car, in order of time."""
        parts = []
        rows = np.arange(len(self._block))
        for _ in range(messages):
            self._seq += 1
            self._block.step(self._block.event_ms + SAMPLE_MS)
            n = len(rows)
            parts.append(
                TelemetryColumns(
                    self._block.vins,
                    self._block.sample(rows),
                    np.full(n, EVENT_START_MS),
                    np.full(n, self._seq),
                    np.full(n, self._block.event_ms),
                    np.full(n, EVENT_START_MS + self._seq),
                )
            )
        fields = ("vin", "values", "boot", "seq", "time", "due")
        return TelemetryColumns(*(np.concatenate([getattr(p, f) for p in parts]) for f in fields))


def command_environment(settings: ProcessSettings) -> dict[str, str]:
    """Where a command finds Kafka, the registry and the data folder, and no stack."""
    return {
        "MOTORCADE_KAFKA": settings.kafka,
        "MOTORCADE_REGISTRY_URL": settings.registry_url,
        "MOTORCADE_DATA_DIR": str(settings.data_dir),
        "MOTORCADE_STATE": str(settings.data_dir / "no-stack"),
    }


class TelemetryWriter:
    """Appends to `telemetry`, keyed and with source headers as refine does."""

    def __init__(self, settings: ProcessSettings, codec: TelemetryAvro) -> None:
        self._settings = settings
        self._codec = codec
        self._next = [0] * PARTITIONS

    @classmethod
    async def registered(cls, settings: ProcessSettings) -> "TelemetryWriter":
        """One that writes the cars' own signals under their schema in the registry."""
        catalogue = load_catalogue()
        return cls(
            settings,
            TelemetryAvro(catalogue, await schema_id(settings, catalogue, TELEMETRY_SUBJECT)),
        )

    async def write(self, columns: TelemetryColumns) -> None:
        """Append all rows; returns when they are acknowledged."""
        await self.write_values(columns.vin.tolist(), self._codec.encode(columns))

    async def write_values(self, vins: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Append records as they are."""
        async with started(producer(self._settings), self._settings) as client:
            for vin, value in zip(vins, values, strict=True):
                partition = partition_of(vin)
                await client.send(
                    TELEMETRY,
                    value,
                    key=vin,
                    partition=partition,
                    headers=[source_header(partition, self._next[partition])],
                )
                self._next[partition] += 1
            await client.flush()
