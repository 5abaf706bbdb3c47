"""Accounts for all partitions, several at a time: a process each, and only figures come back."""

import asyncio
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.queues import Queue
from typing import Any

from motorcade.fleet.avro import telemetry_schema
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.columns import RecordLayout
from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.predictions import PredictionAvro
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryAvro
from motorcade.runtime.registry import schema_by_id
from motorcade.simulator.audit.partition import Part, PartitionAccount
from motorcade.simulator.audit.payloads import ForeignPayloads, OwnPayloads, Payloads, Places
from motorcade.simulator.audit.read import OnRead, PartitionReader, Since

_PROCESSES = 4
#: Fewer records than this are read in this process: starting others takes longer.
_FEW = 200_000


@dataclass(frozen=True)
class Schemas:
    """Ids under which the schemas of the typed topics are registered."""

    telemetry: int
    predictions: int


@dataclass(frozen=True)
class Plan:
    """What to read of each partition.

    raw: the topic that holds what cars sent. schemas: None where nothing derives from it.
    foreign: where somebody else's payloads hold their identity; None for our own.
    first_boot: see `PartitionAccount`.
    """

    settings: ProcessSettings
    raw: str
    since: Since
    schemas: Schemas | None = None
    foreign: Places | None = None
    first_boot: int = 0


async def account(
    plan: Plan, partitions: Sequence[int], records: int, on_read: OnRead
) -> list[Part]:
    """Account for partitions.

    Args:
        plan: what to read.
        partitions: which ones.
        records: about how many records there are, to choose how to read them.
        on_read: told of progress, on this thread or another one.

    Raises:
        MotorcadeError: a topic cannot be read, or the system ended one of the processes.
    """
    if records < _FEW:
        return await asyncio.gather(*(_account(plan, number, on_read) for number in partitions))
    context = multiprocessing.get_context("spawn")
    progress: Queue[tuple[str, int] | None] = context.Queue()
    processes = min(len(partitions), os.cpu_count() or 1, _PROCESSES)
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(processes, context, _begin, (progress,)) as pool:
        following = asyncio.create_task(_follow(progress, on_read))
        try:
            jobs = [loop.run_in_executor(pool, _work, plan, number) for number in partitions]
            return await asyncio.gather(*jobs)
        except BrokenProcessPool as error:
            raise MotorcadeError(
                "A process of the audit was killed before it had read its partition.",
                "The system may have run out of memory: look into its log (dmesg).",
            ) from error
        finally:
            progress.put(None)
            await following


async def _follow(progress: "Queue[tuple[str, int] | None]", on_read: OnRead) -> None:
    while (news := await asyncio.to_thread(progress.get)) is not None:
        on_read(*news)


#: Set once in each process of the pool.
_progress: Any = None


def _begin(progress: "Queue[tuple[str, int] | None]") -> None:
    global _progress  # noqa: PLW0603 - a pool's initializer has no other way
    _progress = progress


def _work(plan: Plan, partition: int) -> Part:
    def on_read(topic: str, count: int) -> None:
        _progress.put((topic, count))

    return asyncio.run(_account(plan, partition, on_read))


async def _account(plan: Plan, partition: int, on_read: OnRead) -> Part:
    reader = PartitionReader(plan.settings, partition, plan.since, on_read)
    account = PartitionAccount(first_boot=plan.first_boot)
    if plan.schemas is not None:
        async for quarantined in reader.quarantined():
            account.quarantined(quarantined)
    async for raw in reader.raw(plan.raw, _payloads(plan)):
        account.raw(raw)
    if plan.schemas is not None:
        catalogue = load_catalogue(plan.settings.signals)
        async for refined in reader.refined(TelemetryAvro(catalogue, plan.schemas.telemetry)):
            account.refined(refined)
        codec = PredictionAvro(catalogue, plan.schemas.predictions)
        async for predictions in reader.predictions(codec):
            account.predictions(predictions)
    return account.finish(derived=plan.schemas is not None)


def _payloads(plan: Plan) -> Payloads:
    if plan.foreign is not None:
        return ForeignPayloads(plan.foreign)
    layout = RecordLayout(telemetry_schema(load_catalogue(plan.settings.signals)))
    own = plan.schemas.telemetry if plan.schemas is not None else None

    def layout_of(schema_id: int) -> RecordLayout | None:
        if own is None or schema_id == own:
            return layout
        try:
            return RecordLayout(_looked_up(plan.settings, schema_id))
        except MotorcadeError:
            return None

    return OwnPayloads(layout_of)


def _looked_up(settings: ProcessSettings, schema_id: int) -> dict[str, Any]:
    """A schema from the registry, asked on a thread of its own: this one's loop is running."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(schema_by_id(settings, schema_id))).result()
