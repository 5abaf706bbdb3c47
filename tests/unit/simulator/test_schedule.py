"""A message is due when its car's phase says, however late the tick that sends it."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motorcade.simulator.schedule import Schedule

INTERVAL_MS = 2000
START_MS = 1_700_000_000_000


def schedule(cars: int, running: bool = True, now_ms: int = START_MS) -> Schedule:
    result = Schedule(INTERVAL_MS, START_MS, cars)
    result.grow(np.arange(cars, dtype=np.int64))
    if running:
        for row in range(cars):
            result.start(row, now_ms)
    return result


def taken(one: Schedule, now_ms: int) -> list[tuple[int, int]]:
    return [
        (int(row), int(due))
        for rows, dues in one.take(now_ms)
        for row, due in zip(rows, dues, strict=True)
    ]


@given(st.lists(st.integers(min_value=1, max_value=9000), min_size=1, max_size=30))
def test_no_message_is_left_out_and_none_moves_whenever_ticks_come(gaps: list[int]) -> None:
    ticks = np.cumsum(gaps) + START_MS
    late, even = schedule(20), schedule(20)
    irregular = [message for tick in ticks for message in taken(late, int(tick))]
    at_once = taken(even, int(ticks[-1]))
    assert sorted(irregular) == sorted(at_once)


def test_each_car_keeps_its_pace() -> None:
    dues = [due for row, due in taken(schedule(5), START_MS + 60_000) if row == 3]
    assert len(dues) == 30
    assert set(np.diff(dues).tolist()) == {INTERVAL_MS}


@pytest.mark.parametrize("running", [30, 100, 1000, 3000, 10_000])
def test_first_messages_of_any_part_of_a_fleet_spread_over_the_interval(running: int) -> None:
    one = schedule(10_000, running=False)
    for row in range(running):
        one.start(row, START_MS)
    first = np.array([due for _, due in taken(one, START_MS + INTERVAL_MS - 1)])
    assert len(first) == running
    per_tenth = np.histogram(first - START_MS, bins=10, range=(0, INTERVAL_MS))[0]
    group = 10_000 / 128
    assert per_tenth.max() <= running / 10 + 2 * group
    assert per_tenth.max() <= 1020, "never faster than the whole fleet"


def test_a_whole_fleet_sends_evenly() -> None:
    for cars in (10, 128, 1000, 12_345):
        first = [due for _, due in taken(schedule(cars), START_MS + INTERVAL_MS - 1)]
        per_tenth = np.histogram(np.array(first) - START_MS, bins=10, range=(0, INTERVAL_MS))[0]
        assert per_tenth.max() - per_tenth.min() <= max(2, cars // 100)


def test_neighbours_are_due_one_after_another() -> None:
    dues = np.array([due for _, due in sorted(taken(schedule(12_800), START_MS + INTERVAL_MS - 1))])
    close = np.abs(np.diff(dues)) <= 1
    assert close.mean() > 0.98


def test_cars_beyond_the_fleet_that_was_planned_spread_too() -> None:
    one = Schedule(INTERVAL_MS, START_MS, 500)
    one.grow(np.arange(2000, dtype=np.int64))
    for row in range(2000):
        one.start(row, START_MS)
    first = np.array([due for _, due in taken(one, START_MS + INTERVAL_MS - 1)])
    per_tenth = np.histogram(first - START_MS, bins=10, range=(0, INTERVAL_MS))[0]
    assert per_tenth.min() >= 180
    assert per_tenth.max() <= 220


def test_a_car_of_another_worker_count_has_the_same_phase() -> None:
    alone = Schedule(INTERVAL_MS, START_MS, 10)
    alone.grow(np.array([7]))
    alone.start(0, START_MS)
    together = [due for row, due in taken(schedule(10), START_MS + INTERVAL_MS - 1) if row == 7]
    assert [due for _, due in taken(alone, START_MS + INTERVAL_MS - 1)] == together


@given(st.integers(min_value=0, max_value=100_000))
def test_a_car_that_starts_later_is_first_due_within_one_interval(delay_ms: int) -> None:
    now = START_MS + delay_ms
    one = schedule(1, running=False)
    one.start(0, now)
    [(_, due)] = taken(one, now + INTERVAL_MS - 1)
    assert now <= due < now + INTERVAL_MS


def test_a_stopped_car_is_due_no_more() -> None:
    one = schedule(3)
    one.stop(1)
    assert {row for row, _ in taken(one, START_MS + 10_000)} == {0, 2}


def test_rounds_come_oldest_first() -> None:
    dues = [rows_dues[1] for rows_dues in schedule(4).take(START_MS + 9_999)]
    assert len(dues) == 5
    assert all(a.max() < b.max() for a, b in itertools.pairwise(dues))
