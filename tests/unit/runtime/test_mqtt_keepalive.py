"""When a client pings, when it gives up, and that a fleet does not do it in step."""

import asyncio
import random
from collections.abc import Callable

import pytest

from motorcade.runtime.mqtt_keepalive import KeepaliveWheel, step

KEEPALIVE_S = 60.0


class Car:
    """A connection whose broker answers every ping, or falls silent at some time."""

    def __init__(self, *, publishes_every_s: float = 0, acked: bool = True) -> None:
        self.publishes_every_s = publishes_every_s
        self.acked = acked
        self.silent_from = float("inf")
        self.last_in = self.last_out = self.pinged = 0.0
        self.pings: list[float] = []
        self.lost_at: float | None = None

    def live(self, until_s: float, chance: random.Random) -> None:
        """Step through time as the wheel and the publishing would."""
        look = now = 0.0
        while now < until_s and self.lost_at is None:
            every = self.publishes_every_s
            if every and self.last_out + every < look:
                now = self.last_out = self.last_out + every
                if self.acked and now < self.silent_from:
                    self.last_in = now
                continue
            now = look
            action, at = step(
                now, self.last_in, self.last_out, self.pinged, KEEPALIVE_S, chance.random()
            )
            look = max(at, now + 0.25)  # as exact as the wheel
            if action == "ping":
                self.pinged = self.last_out = now
                self.pings.append(now)
                if now < self.silent_from:
                    self.last_in = now + 0.001
            elif action == "lost":
                self.lost_at = now


def test_an_idle_car_pings_within_its_keepalive() -> None:
    car = Car()
    car.live(3600, random.Random(1))
    gaps = [b - a for a, b in zip([0.0, *car.pings], car.pings, strict=False)]
    assert all(0.6 * KEEPALIVE_S <= gap <= 0.9 * KEEPALIVE_S for gap in gaps)
    assert len(gaps) > 60


def test_a_car_that_publishes_and_is_answered_never_pings() -> None:
    car = Car(publishes_every_s=10)
    car.live(3600, random.Random(1))
    assert car.pings == []


def test_a_car_that_hears_nothing_asks_now_and_then() -> None:
    car = Car(publishes_every_s=10, acked=False)
    car.live(3600, random.Random(1))
    assert 3600 / (2 * KEEPALIVE_S) - 2 <= len(car.pings) <= 3600 / (2 * KEEPALIVE_S)


@pytest.mark.parametrize("every_s", [0, 10])
def test_a_silent_broker_is_given_up_within_three_keepalives(every_s: float) -> None:
    car = Car(publishes_every_s=every_s)
    car.silent_from = 600
    car.live(3600, random.Random(1))
    assert car.lost_at is not None
    assert KEEPALIVE_S <= car.lost_at - 600 <= 3 * KEEPALIVE_S + 1


def test_cars_that_connected_together_do_not_ping_together() -> None:
    chance = random.Random(1)
    fleet = [Car() for _ in range(500)]
    for car in fleet:
        car.live(600, chance)
    seconds = [int(ping) for car in fleet for ping in car.pings if ping > 300]
    busiest = max(seconds.count(second) for second in set(seconds))
    assert busiest < 4 * len(seconds) / 300


class Looked:
    def __init__(self, again_s: float | None = None) -> None:
        self.times: list[float] = []
        self.again_s = again_s

    def look(self, now: float) -> float | None:
        self.times.append(now)
        return now + self.again_s if self.again_s else None


class Timers:
    """A loop whose timers are fired by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due: list[asyncio.TimerHandle] = []

    def call_later(self, delay_s: float, call: Callable[[], object]) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self.now + delay_s, call, (), asyncio.new_event_loop())
        self.due.append(handle)
        return handle

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (alive := [h for h in self.due if not h.cancelled()]) and alive[0].when() <= end:
            self.due = alive[1:]
            self.now = max(self.now, alive[0].when())
            alive[0]._run()
        self.now = end


def test_the_wheel_looks_at_each_when_it_asked_and_rests_when_nobody_is_left() -> None:
    timers = Timers()
    wheel = KeepaliveWheel(timers, clock=lambda: timers.now)  # type: ignore[arg-type]
    often, once = Looked(again_s=5), Looked()
    wheel.add(often, 105)
    wheel.add(once, 103)
    timers.run(31)
    assert len(once.times) == 1
    assert 103 <= once.times[0] <= 103.5
    assert len(often.times) == 5
    often.again_s = None
    timers.run(10)
    assert [h for h in timers.due if not h.cancelled()] == []


def test_after_a_standstill_nobody_is_judged_before_what_arrived_could_be_read() -> None:
    timers = Timers()
    wheel = KeepaliveWheel(timers, clock=lambda: timers.now)  # type: ignore[arg-type]
    car = Looked()
    wheel.add(car, 103)
    timers.now += 60
    timers.due[0]._run()
    assert car.times == []
    timers.run(1)
    assert len(car.times) == 1
