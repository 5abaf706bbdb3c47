"""Cars on a cluster of three Artemis nodes reach Kafka and are reached, while a node is killed."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from motorcade.fleet import topics
from motorcade.fleet.messages import (
    Alert,
    AlertAction,
    CommandResponse,
    CommandState,
    decode,
    encode,
)
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.topics import partition_of
from motorcade.fleet.vin import generate_vin
from motorcade.runtime.kafka import producer, read_all, started
from motorcade.simulator.settings import SimulatorSettings
from motorcade.stack import bringup, plan
from motorcade.stack.options import StackOptions
from motorcade.stack.ports import free_ports
from motorcade.stack.settings import StackSettings
from motorcade.stack.simulation import Simulation
from motorcade.stack.state import StackState, StateFolder

CARS, NODES, SEED = 30, 3, 11
#: Many times what a quiet machine takes.
PATIENCE_S = 120.0


async def until(reached: Callable[[], Awaitable[Any]], what: str) -> Any:
    """Poll until something holds; returns it."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := await reached()):
        assert time.monotonic() < deadline, f"not in {PATIENCE_S:g} s: {what}"
        await asyncio.sleep(0.2)
    return found


async def raise_alert(settings: ProcessSettings, vin: str, number: int) -> str:
    """What the alerts process writes when a car's model says that it fails."""
    alert = Alert(
        id=f"cluster-{number}", vin=vin, kind="cooling", action=AlertAction.RAISED,
        severity="critical", advice="Stop.", evidence_partition=0, evidence_offset=number, boot=1,
        seq=1, time=1, due=1, score=2.0, threshold=1.0, model="autoencoder", version=1,
        signals=["coolant_temp"],
    )  # fmt: skip
    async with started(producer(settings), settings) as kafka:
        key = vin.encode()
        await kafka.send_and_wait(
            topics.ALERTS, encode(alert), key=key, partition=partition_of(key)
        )
    return alert.id


async def records(settings: ProcessSettings, topic: str) -> list[Any]:
    return [record async for batch in read_all(settings, [topic]) for record in batch]


async def carried_out(settings: ProcessSettings, vins: set[str]) -> bool:
    """Whether every one of these cars has carried a command out."""
    answers = [
        decode(CommandResponse, record.value)
        for record in await records(settings, topics.COMMANDS_STATUS)
    ]
    return vins <= {one.vin for one in answers if one.status is CommandState.SUCCEEDED}


@pytest.mark.timeout(420)
async def test_nothing_is_lost_and_cars_of_every_node_obey_while_a_node_is_killed(
    tmp_path: Path,
) -> None:
    folder = StateFolder(tmp_path / "state")
    options = StackOptions(
        state=folder.path,
        broker="artemis",
        broker_nodes=NODES,
        cars=CARS,
        rate_per_s=CARS,
        processes=("bridge", "refine", "dispatch"),
    )
    state = await bringup.start(options, StackSettings())
    try:
        await drive(folder, state, tmp_path)
    finally:
        await asyncio.to_thread(bringup.stop, folder)


async def drive(folder: StateFolder, state: StackState, tmp_path: Path) -> None:
    values = {
        name.removeprefix("MOTORCADE_").lower(): value
        for name, value in plan.environment(state, folder).items()
    }
    settings = ProcessSettings.model_validate(values)
    master_port, web_port = free_ports(2)
    own = {
        "cars": CARS,
        "seed": SEED,
        "interval_s": 0.5,
        "workers": 1,
        "run_dir": tmp_path / "run",
        "wait_for": (f"http://127.0.0.1:{state.http['bridge']}/readyz",),
        "master_port": master_port,
        "web_port": web_port,
    }
    simulation = Simulation(
        SimulatorSettings.model_validate({**settings.model_dump(), **own}), folder.keeper
    )
    await simulation.start()
    await simulation.ramp(CARS, 30)

    async def all_connected() -> bool:
        return bool((await simulation.fleet())["connected"] == CARS)

    await until(all_connected, "every car connected")
    fleet = await simulation.fleet()
    each = {endpoint: sum(cars.values()) for endpoint, cars in fleet["endpoints"].items()}
    assert each == dict.fromkeys(state.brokers, CARS // NODES)

    # A car of each node; the dispatcher and the bridge's slots are spread over all of them.
    vins = [generate_vin(SEED, index) for index in range(NODES)]
    for number, vin in enumerate(vins):
        await raise_alert(settings, vin, number)
    await until(lambda: carried_out(settings, set(vins)), "a command carried out on each node")

    victim = "artemis-2"
    before = (await simulation.fleet())["disconnects"]
    await asyncio.to_thread(folder.keeper.kill, victim)

    async def cut_off() -> bool:
        return bool((await simulation.fleet())["disconnects"] > before)

    await until(cut_off, "cars of the killed node noticed")
    await until(all_connected, "its cars came back to it")
    again = generate_vin(SEED, NODES + 1)
    await raise_alert(settings, again, NODES)
    await until(lambda: carried_out(settings, {again}), "a command carried out after the kill")

    await simulation.stop_fleet()
    acknowledged: int = (await simulation.fleet())["acked"]
    assert acknowledged > 0

    async def refined() -> bool:
        return len(await records(settings, topics.TELEMETRY)) >= acknowledged

    await until(refined, "all of it refined")
    sent = [identity(record) for record in await records(settings, topics.RAW)]
    assert len(set(sent)) == acknowledged
    assert len(await records(settings, topics.TELEMETRY)) == acknowledged  # no duplicate passes
    assert not await records(settings, topics.DLQ)


def identity(record: Any) -> tuple[str, int, int]:
    document = msgspec.json.decode(record.value)
    return document["vin"], document["boot"], document["seq"]
