"""A message is due when its car's phase says, however late the tick that sends it."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from motorcade.simulator.schedule import Schedule

INTERVAL_MS = 2000
START_MS = 1_700_000_000_000


def schedule(cars: int, running: bool = True, now_ms: int = START_MS) -> Schedule:
    result = Schedule(INTERVAL_MS, START_MS)
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


def test_first_messages_spread_evenly_over_the_interval() -> None:
    first = np.array([due for _, due in taken(schedule(1000), START_MS + INTERVAL_MS - 1)])
    assert len(first) == 1000
    per_tenth = np.histogram(first - START_MS, bins=10, range=(0, INTERVAL_MS))[0]
    assert per_tenth.min() >= 95
    assert per_tenth.max() <= 105


def test_a_car_of_another_worker_count_has_the_same_phase() -> None:
    alone = Schedule(INTERVAL_MS, START_MS)
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
