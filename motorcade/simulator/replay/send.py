"""Sends recorded lives as vehicles do: birth, every message in order, trouble code, good-bye."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.mqtt_topics import TELEMETRY, topic
from motorcade.runtime.mqtt_options import access
from motorcade.runtime.mqtt_packets import encode_properties
from motorcade.simulator.car_kit import CarKit
from motorcade.simulator.car_session import CarSession
from motorcade.simulator.deliveries import Deliveries
from motorcade.simulator.measures import Measures, Tally
from motorcade.simulator.payload import JsonPayload
from motorcade.simulator.replay.lives import Life
from motorcade.simulator.settings import SimulatorSettings

#: Vehicles on the road at a time: enough to keep the broker busy, and few connections.
_AT_A_TIME = 32
_POLL_S = 0.05
#: A vehicle whose messages are not acknowledged for so long is given up.
_PATIENCE_S = 60.0


class SendingError(MotorcadeError):
    """Not everything could be sent, or the broker did not acknowledge it."""


@dataclass(frozen=True)
class Sent:
    """What was sent: every message of these lives, all acknowledged.

    boot: of all vehicles. begin_ms: event time of their first messages. step_ms: between two
    messages. messages, endings: how many.
    """

    boot: int
    begin_ms: int
    step_ms: int
    messages: int
    endings: int


async def send_lives(
    lives: Sequence[Life],
    catalogue: Catalogue,
    settings: SimulatorSettings,
    step_ms: int,
    show: Callable[[int], None],
) -> Sent:
    """Send every life at full speed; the longest one ends at the run's present event time.

    Args:
        lives: of vehicles with different ids.
        catalogue: of their values.
        settings: where the brokers are, and how cars speak to them.
        step_ms: event time between two messages.
        show: told how many messages the broker has acknowledged, some times a second.

    Raises:
        SendingError: a broker refuses a vehicle or does not acknowledge its messages.
    """
    boot = _wall_ms()
    longest = max(len(life) for life in lives)
    begin_ms = settings.run_clock.event_ms(boot) - longest * step_ms
    kit = _kit(settings, longest)
    sender = _Sender(kit, JsonPayload(catalogue), boot, begin_ms, step_ms)
    free = asyncio.Semaphore(_AT_A_TIME)

    async def one(index: int, life: Life) -> None:
        async with free:
            await sender.send(index, life)

    async def showing() -> None:
        acknowledged = 0
        while True:
            acknowledged += kit.deliveries.settle()[1]
            show(acknowledged)
            await asyncio.sleep(_POLL_S)

    watching = asyncio.create_task(showing())
    try:
        async with asyncio.TaskGroup() as group:
            for index, life in enumerate(lives):
                group.create_task(one(index, life))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    finally:
        watching.cancel()
    vins = np.array([life.vehicle for life in lives], dtype="S17")
    columns = kit.deliveries.columns(vins)
    messages = sum(map(len, lives))
    acknowledged = int((columns.acked.last - columns.acked.first + 1).sum())
    if acknowledged != messages:
        raise SendingError(
            f"The broker acknowledged {acknowledged:,} of {messages:,} messages.",
            "motorcade logs NAME tells what the broker says.",
        )
    show(messages)
    endings = sum(life.ending is not None for life in lives)
    return Sent(boot, begin_ms, step_ms, messages, endings)


def _kit(settings: SimulatorSettings, longest: int) -> CarKit:
    return CarKit(
        endpoints=settings.brokers,
        qos=1,
        in_flight=settings.in_flight,
        buffer=longest,  # a vehicle keeps what it cannot send yet, all of it if need be
        keepalive_s=settings.keepalive_s,
        session_expiry_s=settings.session_expiry_s,
        aliases=1 if settings.topic_alias else 0,
        access=access(settings),
        sources=(None,),
        topic=lambda vehicle: topic(vehicle, TELEMETRY),
        properties=encode_properties({"content_type": JsonPayload.content_type}),
        measures=Measures(),
        tally=Tally(len(settings.brokers)),
        deliveries=Deliveries(),
        now_ms=_wall_ms,
    )


@dataclass
class _Sender:
    """Sends one life after another."""

    kit: CarKit
    payload: JsonPayload
    boot: int
    begin_ms: int
    step_ms: int

    async def send(self, index: int, life: Life) -> None:
        """Send one life.

        Raises:
            SendingError: the broker refuses it or does not acknowledge it in time.
        """
        kit = self.kit
        number = kit.deliveries.open(index, self.boot)
        car = CarSession(life.vehicle, self.boot, index, number, kit)
        try:
            if not await car.start():
                raise SendingError(
                    f"The broker refuses {life.vehicle}: {car.refusal}.",
                    "Check the credentials with which the stack was started.",
                )
            due_ms = _wall_ms()
            columns = life.columns(self.boot, self.begin_ms, self.step_ms, due_ms)
            for at, sample in enumerate(self.payload.encode(columns), 1):
                car.send(at, at, due_ms, sample)
            if life.ending is not None:
                end, last = life.ending, int(columns.time[-1])
                record = car.report_failure(end.code, end.kind, last, end.description)
                await self._until(lambda: record.acked, life)
        finally:
            # It sends and waits for what is under way before it goes.
            await car.stop(_PATIENCE_S)
        if kit.deliveries.unsent.get(number) or kit.deliveries.refused.get(number):
            raise SendingError(
                f"The broker did not take every message of {life.vehicle}.",
                "Is the bridge subscribed? motorcade status and motorcade logs bridge tell.",
            )

    async def _until(self, condition: Callable[[], bool], life: Life) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise SendingError(
                    f"The failure of {life.vehicle} is not acknowledged after {_PATIENCE_S:g} s.",
                    "motorcade logs NAME tells what the broker and the bridge say.",
                )
            await asyncio.sleep(_POLL_S)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
