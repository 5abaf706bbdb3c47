"""Generates a set in several processes, and tells how far they are and what it costs."""

import asyncio
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, cast

from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.settings import ProcessSettings
from motorcade.simulator.generate.plan import GenerateError, SetPlan
from motorcade.simulator.generate.writer import Cost, Payload, write_share
from motorcade.simulator.wear import Failure


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
    children: list[tuple[Any, Any]] = []
    began = time.monotonic()
    try:
        for number in range(processes):
            ours, theirs = context.Pipe(duplex=False)
            arguments = (plan, number, processes, settings, payload, theirs)
            child = context.Process(target=_child, args=arguments, daemon=True)
            child.start()
            theirs.close()  # so that a process that is killed ends its pipe
            children.append((child, ours))
        costs, failures = _follow(plan, children, show)
    finally:
        for child, _ in children:
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
    plan: SetPlan, children: list[tuple[Any, Any]], show: Callable[[int, int], None]
) -> tuple[list[Cost], list[Failure]]:
    costs = [Cost(event_ms=plan.start_ms) for _ in children]
    failures: list[Failure] = []
    unfinished: dict[Any, int] = {pipe: number for number, (_, pipe) in enumerate(children)}
    while unfinished:
        for pipe in wait(list(unfinished)):
            number = unfinished[pipe]
            try:
                what: Any = cast(Any, pipe).recv()
            except EOFError:
                raise GenerateError(
                    f"Process {number} was killed; the set is incomplete.",
                    "Is memory short? Try fewer --processes.",
                ) from None
            if isinstance(what, MotorcadeError):
                raise what
            if isinstance(what, str):
                raise GenerateError(f"Process {number} failed: {what}.", "The set is incomplete.")
            if what is None:
                del unfinished[pipe]
                continue
            costs[number], new = what
            failures += new
            show(sum(cost.messages for cost in costs), min(cost.event_ms for cost in costs))
    return costs, failures


def _child(
    plan: SetPlan,
    worker: int,
    workers: int,
    settings: ProcessSettings,
    payload: Payload,
    pipe: Any,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends us

    def report(cost: Cost, failures: list[Failure]) -> None:
        pipe.send((cost, failures))  # fails, and ends us, once the parent is gone

    try:
        asyncio.run(write_share(plan, worker, workers, settings, payload, report))
        pipe.send(None)
    except BrokenPipeError:
        sys.exit(1)
    except MotorcadeError as error:
        pipe.send(error)
    except Exception as error:  # noqa: BLE001 - told to the parent, whatever it is
        pipe.send(f"{type(error).__name__}: {error}")
