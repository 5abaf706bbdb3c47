"""One look a second at everything that moves in a run: fleet, topics, lag, latencies, processes."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
import psutil
from aiokafka.errors import KafkaError

from motorcade.fleet import topics
from motorcade.fleet.arrays import Floats
from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.settings import ProcessSettings
from motorcade.runtime.kafka import consumer, started
from motorcade.simulator.audit.payloads import Payloads
from motorcade.stack import processes
from motorcade.stack.load.newest import Newest
from motorcade.stack.pipeline import Pipeline, look
from motorcade.stack.simulation import Simulation
from motorcade.stack.usage import UsageMeter

#: A Kafka that does not answer so long is away: the look goes on without it.
_KAFKA_S = 3.0
#: A process that does not say so long whether it is ready is not.
_READY_S = 1.0


@dataclass(frozen=True)
class KafkaView:
    """What Kafka showed: records by topic, lag by consumer group, due→Kafka of new raw records."""

    counts: Mapping[str, int]
    lag: Mapping[str, int]
    latencies_ms: Floats


@dataclass(frozen=True)
class Sample:
    """A look at a run.

    Args:
        time_ms: wall clock.
        fleet: the simulator's own state, empty when it did not answer.
        kafka: None when Kafka did not answer, or there is none.
        cpu_s: CPU seconds that each program has used since the run began.
        rss_mib: resident memory of each program.
        machine: share of all cores that was busy since the last look, 0 to 1.
        drops: messages that the broker dropped so far; None if it won't say.
        without_kafka: whether there is no Kafka to look at.
        unready: processes that something was done to and that are not ready again.
    """

    time_ms: int
    fleet: Mapping[str, Any]
    kafka: KafkaView | None
    cpu_s: Mapping[str, float]
    rss_mib: Mapping[str, float]
    machine: float
    drops: int | None
    without_kafka: bool = False
    unready: frozenset[str] = frozenset()

    @property
    def connected(self) -> int:
        """Cars that are connected."""
        return int(self.fleet.get("connected", 0))

    @property
    def wanted(self) -> int:
        """Cars that shall be connected, without those that a tunnel keeps offline."""
        return int(self.fleet.get("wanted", 0)) - int(self.fleet.get("offline", 0))


class KafkaWatch:
    """Looks at Kafka again and again, also after it was away.

    Args:
        settings: where it is.
        raw: the topic in which the broker's messages arrive.
        payloads: reads due times out of its records.
        pipeline: whether ours is behind it, with its topics and consumer groups.
    """

    def __init__(
        self, settings: ProcessSettings, raw: str, payloads: Payloads, *, pipeline: bool
    ) -> None:
        self._settings = settings
        self._raw = raw
        self._payloads = payloads
        self._has_pipeline = pipeline
        self._open: AsyncExitStack | None = None
        self._pipeline: Pipeline | None = None
        self._newest: Newest

    async def look(self) -> KafkaView | None:
        """What Kafka shows; None when it does not answer in time."""
        try:
            async with asyncio.timeout(_KAFKA_S):
                if self._open is None:
                    await self._begin()
                latencies = await self._newest.latencies()
                if self._pipeline is None:
                    return KafkaView({topics.RAW: self._newest.records}, {}, latencies)
                return KafkaView(
                    await self._pipeline.counts(), await self._pipeline.lag(), latencies
                )
        except (TimeoutError, KafkaError, OSError, MotorcadeError):
            await self.close()
            return None

    async def _begin(self) -> None:
        async with AsyncExitStack() as opening:
            if self._has_pipeline:
                self._pipeline = await opening.enter_async_context(look(self._settings))
            client = await opening.enter_async_context(
                started(consumer(self._settings), self._settings)
            )
            self._newest = Newest(client, self._raw, self._payloads)
            await self._newest.start()
            self._open = opening.pop_all()

    async def close(self) -> None:
        """Let go of the connections."""
        if self._open is not None:
            closing, self._open = self._open, None
            try:
                async with asyncio.timeout(_KAFKA_S):
                    await closing.aclose()
            except (TimeoutError, KafkaError, OSError):
                pass  # it is away, so there is nothing to say goodbye to


@dataclass
class Watch:
    """Looks at a run.

    Args:
        simulation: the fleet.
        meter: of the processes.
        kafka: where to look for records; None without a Kafka.
        ports: at which each process of ours says whether it is ready.
    """

    simulation: Simulation
    meter: UsageMeter
    kafka: KafkaWatch | None
    samples: list[Sample] = field(default_factory=list)
    ports: Mapping[str, int] = field(default_factory=dict)
    _unready: set[str] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        psutil.cpu_percent(None)  # the first call has nothing to compare with
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.kafka is not None:
            await self.kafka.close()

    def disturbed(self, programs: Iterable[str]) -> None:
        """Something was done to these: looks tell which of them are not ready again."""
        self._unready |= self.ports.keys() & set(programs)

    async def sample(self, drops: int | None) -> Sample:
        """Look now."""
        fleet, kafka, _ = await asyncio.gather(
            self._fleet(), self._look_at_kafka(), self._ask_the_unready()
        )
        await asyncio.to_thread(self.meter.sample)
        one = Sample(
            time.time_ns() // 1_000_000,
            fleet,
            kafka,
            self.meter.cpu_seconds(),
            dict(self.meter.rss),
            psutil.cpu_percent(None) / 100,
            drops,
            self.kafka is None,
            frozenset(self._unready),
        )
        self.samples.append(one)
        return one

    async def _fleet(self) -> dict[str, Any]:
        try:
            fleet = await self.simulation.fleet()
            fleet.pop("workers", None)  # a sample is kept for the whole run
            return fleet
        except MotorcadeError:
            return {}  # a busy master answers the next look

    async def _ask_the_unready(self) -> None:
        asked = list(self._unready)
        waiting = await asyncio.gather(
            *(processes.waiting_for(self.ports[name], _READY_S) for name in asked)
        )
        self._unready -= {name for name, lacks in zip(asked, waiting, strict=True) if not lacks}

    async def _look_at_kafka(self) -> KafkaView | None:
        return None if self.kafka is None else await self.kafka.look()


def percentile(values: Floats, share: float) -> float:
    """A percentile in milliseconds; NaN of nothing."""
    return float(np.percentile(values, share)) if len(values) else float("nan")
