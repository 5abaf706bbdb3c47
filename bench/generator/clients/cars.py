"""Motorcade's simulator: cars of the worker's own path (physics, encoding, books), without Locust.

A car that connects also subscribes to its commands and announces its birth; the ledger is written
as in a run. Payloads are the cars' own, about 600 bytes.
"""

import asyncio
import tempfile
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import uvloop

from bench.generator.clients.lines import Order, say, wait
from motorcade.simulator.fleet_events import Pace
from motorcade.simulator.fleet_plan import plan_of
from motorcade.simulator.settings import SimulatorSettings
from motorcade.simulator.worker_fleet import WorkerFleet

#: Longer than any tick of a fleet, so that it has taken its new pace.
_SETTLE_S = 0.5


async def main(folder: Path, watch: AbstractContextManager[None]) -> None:
    """Play what the bench orders; the messages' part of it within `watch`."""
    order = Order.read()
    loop = asyncio.get_running_loop()
    settings = SimulatorSettings(
        brokers=(order.endpoint,),
        cars=order.clients,
        interval_s=100_000,  # until they are told to publish
        qos=order.qos,
        run_dir=folder,
        worker=0,
    )
    fleet = WorkerFleet(plan_of(settings), settings, 0)
    say("started")
    wait()
    running = loop.create_task(fleet.run())

    def state() -> dict[str, Any]:
        return fleet.reports[-1].state if fleet.reports else {}

    def driving() -> int:
        return sum(one.get("driving", 0) for one in state().get("cars", {}).values())

    while not fleet.released:
        await asyncio.sleep(0.01)
    began = loop.time()
    fleet.wanted = order.clients
    while driving() < order.clients:
        await asyncio.sleep(0.02)
        if running.done():
            running.result()
    say("connected", loop.time() - began)
    await asyncio.to_thread(wait)
    before = state()["sent"]
    with watch:
        fleet.begin_event(Pace(interval_s=order.interval_s), 0)
        await asyncio.sleep(order.seconds)
        fleet.begin_event(Pace(interval_s=100_000), 0)
        for _ in range(20):
            await asyncio.sleep(_SETTLE_S)
            fleet.write_ledger()  # and with it a report of this moment
            if state()["in_flight"] == 0:
                break
    sent = state()["sent"] - before
    acknowledged = state()["acked"] if order.qos else state()["sent"]
    say("published", sent, acknowledged - before)
    await asyncio.to_thread(wait)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(main(Path(folder), nullcontext()))
