"""Stages that every run has: a stack starts, cars are stopped, what they sent drains."""

import asyncio
import time

from aiokafka.errors import KafkaError

from motorcade.fleet.errors import UnreachableError
from motorcade.fleet.settings import ProcessSettings
from motorcade.simulator.audit.read import ends
from motorcade.stack.bringup import OnUpdate, PartUpdate
from motorcade.stack.errors import StackError
from motorcade.stack.pipeline import look
from motorcade.stack.ports import free_ports, is_free, require_free
from motorcade.stack.screen import Stage
from motorcade.stack.simulation import Simulation
from motorcade.stack.state import StackState

_WEB_PORT = 8089
_POLL_S = 0.5
#: Somebody else's pipeline is done when its topic has not grown for so long.
_QUIET_S = 5.0


def bars(stage: Stage) -> OnUpdate:
    """Shows the parts of a starting stack as the progress of a stage."""
    ready: set[str] = set()
    known: set[str] = set()

    def update(part: PartUpdate) -> None:
        known.add(part.name)
        if part.phase == "ready":
            ready.add(part.name)
        stage.total, stage.done = len(known), len(ready)
        stage.detail = "waits for " + ", ".join(sorted(known - ready))

    return update


def addresses(state: StackState) -> str:
    """Where a stack is, for the end of its stage."""
    return f"Kafka {state.kafka}, {state.broker} {', '.join(state.brokers)}"


def web_port(wanted: int | None) -> int:
    """The port of the Locust UI: the wanted one, or Locust's own if it is free, or any.

    Raises:
        PortInUseError: the wanted one is taken.
    """
    if wanted is not None:
        return require_free(wanted, "--web-port")
    return _WEB_PORT if is_free(_WEB_PORT) else free_ports(1)[0]


async def stop_cars(simulation: Simulation) -> None:
    """Stop all cars and have their ledgers written."""
    await simulation.stop_fleet()
    await simulation.write_ledgers()


async def drain(settings: ProcessSettings, stage: Stage, patience_s: float) -> None:
    """Wait until everything is processed; the audit finds what is missing if it never is.

    Args:
        settings: where Kafka is; one that is just coming back is waited for.
        stage: told what lags when patience ends.
        patience_s: how long it may take.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            async with look(settings) as pipeline:
                await pipeline.drained(deadline - time.monotonic())
                return
        except (StackError, UnreachableError, KafkaError) as error:
            if time.monotonic() >= deadline:
                stage.detail = str(error)
                return
        await asyncio.sleep(_POLL_S)


async def quiet(settings: ProcessSettings, topic: str, patience_s: float) -> None:
    """Wait until nothing more arrives in a topic, or patience ends."""
    deadline = since = time.monotonic()
    deadline += patience_s
    before: dict[tuple[str, int], int] = {}
    while time.monotonic() - since < _QUIET_S and time.monotonic() < deadline:
        now = await ends(settings, [topic])
        if now != before:
            before, since = now, time.monotonic()
        await asyncio.sleep(_POLL_S)
