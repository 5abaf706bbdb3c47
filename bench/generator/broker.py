"""The one mosquitto that every client program talks to, and a subscriber to all telemetry."""

import asyncio
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from motorcade.runtime.mqtt import MqttSession
from motorcade.stack import program
from motorcade.stack.brokers.base import QueueBound
from motorcade.stack.brokers.mosquitto import Mosquitto
from motorcade.stack.errors import StackError
from motorcade.stack.ports import free_ports

_READY_TRIES = 100


@contextmanager
def mosquitto(folder: Path) -> Iterator[str]:
    """Address of a mosquitto that runs while the context lasts.

    Somebody listens to everything: a message that nobody subscribes to is acknowledged with a
    reason code of its own, and a broker without subscribers costs less than any real one.
    """
    broker = Mosquitto(folder, tuple(free_ports(1)), QueueBound(rate_per_s=1000, outage_s=60))
    (one,) = broker.programs()
    with (folder / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen(
            program.command(program.write_spec(one, folder)), stdout=log, stderr=subprocess.STDOUT
        )
    over = threading.Event()
    endpoint = str(broker.endpoints[0])
    listening = threading.Thread(target=lambda: uvloop.run(_listen(endpoint, over)))
    try:
        asyncio.run(_until_ready(broker, process))
        listening.start()
        yield endpoint
    finally:
        over.set()
        if listening.ident is not None:
            listening.join()
        process.terminate()
        process.wait(20)


async def _until_ready(broker: Mosquitto, process: subprocess.Popen[bytes]) -> None:
    for _ in range(_READY_TRIES):
        if await broker.ready():
            return
        if process.poll() is not None:
            break
        await asyncio.sleep(0.1)
    raise StackError("mosquitto does not start.", f"See {broker.folder}/mosquitto.log.")


async def _listen(endpoint: str, over: threading.Event) -> None:
    session = MqttSession("bench-listener", endpoint, clean_start=True)
    await session.connect(20)
    await session.subscribe(["fleet/#"], qos=0)
    while not over.is_set():
        await asyncio.sleep(0.1)
    await session.disconnect()
