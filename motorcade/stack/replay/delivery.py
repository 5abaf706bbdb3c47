"""Lives through MQTT, bridge, Kafka and refine, and the proof that every message arrived."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from motorcade.fleet import topics
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.settings import ProcessSettings
from motorcade.ml.reading.columnar import ColumnarReader, registry_lookup
from motorcade.ml.reading.ranges import OffsetRange
from motorcade.simulator.audit.read import Since, ends, read_dtcs
from motorcade.simulator.replay.lives import Life
from motorcade.simulator.replay.send import Sent, send_lives
from motorcade.simulator.settings import SimulatorSettings
from motorcade.stack.screen import Stage

_READ = (topics.TELEMETRY, topics.DLQ, topics.DTC)
_POLL_S = 0.5
#: A pipeline that brings nothing more for so long has lost what is missing.
_PATIENCE_S = 60.0


class LostError(MotorcadeError):
    """Not every message that was sent arrived as it was sent."""


@dataclass(frozen=True)
class Delivered:
    """What the topics hold of a replay: everything, or `audit` would have raised.

    sent: what the broker acknowledged. refined: messages in `telemetry`, each once and with the
    values of the file. endings: trouble codes in `vehicle.dtc`. seconds: from the first message to
    the last in `telemetry`.
    """

    sent: Sent
    refined: int
    endings: int
    seconds: float


@dataclass(frozen=True)
class Dispatched:
    """Lives that the broker has acknowledged, where the topics ended before, and when it began."""

    sent: Sent
    since: Since
    began: float


async def dispatch(
    lives: Sequence[Life],
    catalogue: Catalogue,
    settings: SimulatorSettings,
    step_ms: int,
    stage: Stage,
) -> Dispatched:
    """Send lives over MQTT.

    Args:
        lives: of different vehicles.
        catalogue: of their values, and of the stack.
        settings: where brokers and Kafka are.
        step_ms: event time between two messages.
        stage: told of the progress.

    Raises:
        SendingError: the broker did not take everything.
        UnreachableError: Kafka does not answer.
    """
    total = stage.total = sum(map(len, lives))
    since = await ends(settings, _READ)
    began = time.monotonic()

    def show(count: int) -> None:
        stage.done = count
        stage.detail = f"{count / max(1e-3, time.monotonic() - began):,.0f} messages/s"

    sent = await send_lives(lives, catalogue, settings, step_ms, show)
    stage.detail = f"{total:,} messages, {sent.endings} engines ended in a trouble code"
    return Dispatched(sent, since, began)


async def audit(
    lives: Sequence[Life],
    catalogue: Catalogue,
    settings: ProcessSettings,
    dispatched: Dispatched,
    stage: Stage,
) -> Delivered:
    """Wait for what was sent, and read it back.

    Args:
        lives, dispatched: what was sent.
        catalogue: of their values.
        settings: where Kafka and the registry are.
        stage: told of the progress.

    Raises:
        LostError: something did not arrive, arrived twice or otherwise; names the first.
        UnreachableError: Kafka or the registry does not answer.
    """
    sent, since = dispatched.sent, dispatched.since
    stage.total = sent.messages
    await _arrived(settings, since, sent.messages, sent.endings, stage)
    seconds = time.monotonic() - dispatched.began
    endings = await _endings(settings, since, lives, sent)
    upto = await ends(settings, [topics.TELEMETRY])
    ranges = [
        OffsetRange(topic, partition, since[topic, partition], end)
        for (topic, partition), end in sorted(upto.items())
        if end > since[topic, partition]
    ]
    refined = await asyncio.to_thread(_refined, settings, catalogue, ranges, lives, sent)
    stage.done = refined
    stage.detail = f"{refined:,} refined, each once and as in the file; {endings} trouble codes"
    return Delivered(sent, refined, endings, seconds)


async def _arrived(
    settings: ProcessSettings, since: Since, messages: int, endings: int, stage: Stage
) -> None:
    """Wait until as many records have come as were sent, or no more come."""
    quiet = time.monotonic()
    before = -1
    while True:
        now = await ends(settings, _READ)
        come = {
            name: sum(e - since[at] for at, e in now.items() if at[0] == name) for name in _READ
        }
        judged = come[topics.TELEMETRY] + come[topics.DLQ]
        stage.done = min(judged, messages)
        if judged >= messages and come[topics.DTC] >= endings:
            return
        if judged + come[topics.DTC] != before:
            before, quiet = judged + come[topics.DTC], time.monotonic()
        elif time.monotonic() - quiet > _PATIENCE_S:
            return  # the audit says what is missing
        await asyncio.sleep(_POLL_S)


async def _endings(
    settings: ProcessSettings, since: Since, lives: Sequence[Life], sent: Sent
) -> int:
    wanted = {life.vehicle for life in lives if life.ending is not None}
    come = [r.dtc.vin for r in await read_dtcs(settings, since) if r.dtc.boot == sent.boot]
    found = wanted.intersection(come)
    if missing := sorted(wanted - found):
        raise LostError(
            f"The trouble codes of {len(missing)} vehicles are not in {topics.DTC}: "
            f"{missing[0]} is the first.",
            "motorcade logs bridge tells what became of them.",
        )
    return len(found)


def _refined(
    settings: ProcessSettings,
    catalogue: Catalogue,
    ranges: Sequence[OffsetRange],
    lives: Sequence[Life],
    sent: Sent,
) -> int:
    """How many messages of the lives are in `telemetry`: all, each once, with its values."""
    of = {life.vehicle.encode(): life for life in lives}
    seen = {vin: np.zeros(len(life), dtype=np.int64) for vin, life in of.items()}
    single = np.array([signal.type == "float" for signal in catalogue.signals])
    for batch in ColumnarReader(settings, ranges, catalogue, registry_lookup(settings)):
        mine = batch.take(batch.boot == sent.boot)
        for vin in set(mine.vin.tolist()) & of.keys():
            rows = mine.take(mine.vin == vin)
            at = rows.seq - 1
            np.add.at(seen[vin], at, 1)
            expected = of[vin].values[at]
            expected = np.where(single, expected.astype(np.float32), expected)
            if not np.array_equal(rows.values, expected, equal_nan=True):
                raise LostError(f"{vin.decode()} has values in telemetry that it did not send.")
            if (rows.time != sent.begin_ms + at * sent.step_ms).any():
                raise LostError(f"{vin.decode()} has times in telemetry that it did not send.")
    for vin, times in seen.items():
        if (times != 1).any():
            first = int(np.flatnonzero(times != 1)[0])
            lost = sum(int((one == 0).sum()) for one in seen.values())
            twice = sum(int((one > 1).sum()) for one in seen.values())
            raise LostError(
                f"{lost} messages are not in {topics.TELEMETRY} and {twice} are there more than "
                f"once: message {first + 1} of {vin.decode()} is the first.",
                "motorcade dlq list tells what was refused; motorcade status what does not run.",
            )
    return int(sum(map(len, seen.values())))
