"""Generates a set in several processes, and tells how far they are and what it costs."""

import asyncio
import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.settings import ProcessSettings
from motorcade.simulator.generate.plan import GenerateError, SetPlan
from motorcade.simulator.generate.writer import Cost, Payload, write_share
from motorcade.simulator.wear import Failure

_POLL_S = 0.25


@dataclass(frozen=True)
class Generated:
    """A set that Kafka has: its messages, failures, wall-clock seconds and CPU seconds by part."""

    messages: int
    failures: list[Failure]
    wall_s: float
    processes: int
    cost: Cost

    @property
    def per_s(self) -> float:
        """Messages a second, of all processes."""
        return self.messages / self.wall_s

    def cpu_us(self) -> dict[str, float]:
        """CPU microseconds per message of our processes, by part."""
        each = 1e6 / max(1, self.messages)
        cost = self.cost
        return {
            "physics": cost.physics_s * each,
            "encoding": cost.encoding_s * each,
            "kafka client": (cost.cpu_s - cost.physics_s - cost.encoding_s) * each,
            "all": cost.cpu_s * each,
        }


def generate(
    plan: SetPlan,
    settings: ProcessSettings,
    payload: Payload,
    processes: int,
    show: Callable[[int, int], None],
) -> Generated:
    """Write a set; `show(messages, event_ms)` follows it: the time that the slowest process is at.

    Raises:
        GenerateError: a process failed or was killed; the set is incomplete.
        MotorcadeError: as `write_share`.
    """
    processes = max(1, min(processes, plan.cars))
    context = multiprocessing.get_context("spawn")
    reports: Any = context.Queue()
    children = [
        context.Process(
            target=_child, args=(plan, n, processes, settings, payload, reports), daemon=True
        )
        for n in range(processes)
    ]
    began = time.monotonic()
    for child in children:
        child.start()
    try:
        costs, failures = _follow(plan, children, reports, show)
    finally:
        for child in children:
            child.terminate()
            child.join()
    total = Cost(event_ms=plan.end_ms)
    for cost in costs:
        total.messages += cost.messages
        total.dtcs += cost.dtcs
        total.physics_s += cost.physics_s
        total.encoding_s += cost.encoding_s
        total.cpu_s += cost.cpu_s
    wall_s = time.monotonic() - began
    return Generated(total.messages, failures, wall_s, processes, total)


def _follow(
    plan: SetPlan, children: list[Any], reports: Any, show: Callable[[int, int], None]
) -> tuple[list[Cost], list[Failure]]:
    costs = [Cost(event_ms=plan.start_ms) for _ in children]
    failures: list[Failure] = []
    unfinished = set(range(len(children)))
    while unfinished:
        try:
            worker, what = reports.get(timeout=_POLL_S)
        except queue.Empty:
            for worker in unfinished:
                if children[worker].exitcode is not None and reports.empty():
                    raise GenerateError(
                        f"Process {worker} ended with code {children[worker].exitcode}; the set "
                        "is incomplete.",
                        "Is memory short? Try fewer --processes.",
                    ) from None
            continue
        if isinstance(what, MotorcadeError):
            raise what
        if isinstance(what, str):
            raise GenerateError(f"Process {worker} failed: {what}.", "The set is incomplete.")
        if what is None:
            unfinished.discard(worker)
            continue
        costs[worker], new = what
        failures += new
        show(sum(cost.messages for cost in costs), min(cost.event_ms for cost in costs))
    return costs, failures


def _child(
    plan: SetPlan,
    worker: int,
    workers: int,
    settings: ProcessSettings,
    payload: Payload,
    reports: Any,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends us
    parent = os.getppid()

    def report(cost: Cost, failures: list[Failure]) -> None:
        if os.getppid() != parent:
            os._exit(1)
        reports.put((worker, (Cost(**vars(cost)), failures)))

    try:
        asyncio.run(write_share(plan, worker, workers, settings, payload, report))
    except MotorcadeError as error:
        reports.put((worker, error))
    except Exception as error:  # noqa: BLE001 - told to the parent, whatever it is
        reports.put((worker, f"{type(error).__name__}: {error}"))
    else:
        reports.put((worker, None))
