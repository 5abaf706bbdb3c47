"""Stages that every run has: a stack starts, cars are stopped, what they sent drains."""

from motorcade.stack.bringup import OnUpdate, PartUpdate
from motorcade.stack.errors import StackError
from motorcade.stack.pipeline import Pipeline
from motorcade.stack.ports import free_ports, is_free, require_free
from motorcade.stack.screen import Stage
from motorcade.stack.simulation import Simulation
from motorcade.stack.state import StackState

_WEB_PORT = 8089


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


async def drain(pipeline: Pipeline, stage: Stage, patience_s: float) -> None:
    """Wait until everything is processed; the audit finds what is missing if it never is."""
    try:
        await pipeline.drained(patience_s)
    except StackError as error:
        stage.detail = error.what
