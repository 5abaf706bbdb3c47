"""Telemetry of a fleet, made quickly, and published at a steady rate."""

import asyncio
import time

import numpy as np

from motorcade.fleet import mqtt_topics, topics
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.telemetry import TelemetryColumns, TelemetryJson
from motorcade.fleet.vin import generate_vin
from motorcade.runtime.mqtt import MqttOffline, MqttSession, MqttWindowFull

_TICK_S = 0.02


class Fleet:
    """Telemetry of a fleet whose cars take turns, in an order that changes every round."""

    def __init__(self, cars: int, seed: int = 1) -> None:
        self._rng = np.random.default_rng(seed)
        self._vins = np.array([generate_vin(seed, car) for car in range(cars)], dtype="S17")
        self._topics = [
            mqtt_topics.topic(vin.decode(), mqtt_topics.TELEMETRY) for vin in self._vins.tolist()
        ]
        self._partitions = [topics.partition_of(vin) for vin in self._vins.tolist()]
        self._codec = TelemetryJson(load_catalogue())
        low, high = self._codec.catalogue.low, self._codec.catalogue.high
        self._middle, self._spread = (low + high) / 2, (high - low) / 50
        self._boot = time.time_ns() // 1_000_000
        self._seq = np.zeros(cars, dtype=np.int64)
        self._queue: np.ndarray[tuple[int], np.dtype[np.int64]] = np.empty(0, dtype=np.int64)

    def sent(self) -> dict[str, int]:
        """Number of each car's last message."""
        return {
            vin.decode(): seq
            for vin, seq in zip(self._vins.tolist(), self._seq.tolist(), strict=True)
        }

    def messages(self, count: int) -> list[tuple[str, bytes, int, bytes]]:
        """(MQTT topic, vehicle id, partition, payload) of the next messages."""
        found = []
        while count:
            if not len(self._queue):
                self._queue = self._rng.permutation(len(self._vins))
            cars = self._queue[: min(count, 20_000)]  # each car once: its numbers rise by one
            self._queue = self._queue[len(cars) :]
            count -= len(cars)
            np.add.at(self._seq, cars, 1)
            now = np.full(len(cars), time.time_ns() // 1_000_000)
            values = self._middle + self._spread * self._rng.normal(
                size=(len(cars), len(self._middle))
            )
            payloads = self._codec.encode(
                TelemetryColumns(
                    self._vins[cars],
                    values,
                    np.full(len(cars), self._boot),
                    self._seq[cars],
                    now,
                    now,
                )
            )
            for car, payload in zip(cars.tolist(), payloads, strict=True):
                vin = self._vins[car]
                found.append((self._topics[car], bytes(vin), self._partitions[car], payload))
        return found


async def publish(sessions: list[MqttSession], fleet: Fleet, rate: float, seconds: float) -> int:
    """Publish at a steady rate, a car always by the same session, as it would by itself."""
    messages = fleet.messages(round(rate * seconds))
    began, sent = time.monotonic(), 0
    while sent < len(messages):
        due = min(len(messages), round((time.monotonic() - began) * rate))
        for topic, vin, _, payload in messages[sent:due]:
            session = sessions[vin[-1] % len(sessions)]
            while True:
                try:
                    session.publish(topic, payload)
                    break
                except (MqttWindowFull, MqttOffline):
                    await asyncio.sleep(0.002)
        sent = max(sent, due)
        await asyncio.sleep(_TICK_S)
    while any(session.in_flight for session in sessions):
        await asyncio.sleep(_TICK_S)
    return len(messages)
