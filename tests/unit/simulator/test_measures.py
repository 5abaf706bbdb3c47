"""Latencies of a batch are counted as the histogram counts them one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from motorcade.simulator.measures import encode, new_histogram, record

HOUR_MS = 3_600_000.0


@given(st.lists(st.lists(st.floats(min_value=0, max_value=HOUR_MS), max_size=50), max_size=3))
def test_a_batch_counts_as_its_values_one_by_one(batches: list[list[float]]) -> None:
    one_by_one, at_once = new_histogram(), new_histogram()
    for batch in batches:
        record(at_once, batch)
        for value in batch:
            one_by_one.record_value(max(1, round(value * 1000)))
    assert encode(at_once) == encode(one_by_one)
    assert at_once.get_total_count() == one_by_one.get_total_count()
    assert at_once.get_max_value() == one_by_one.get_max_value()
    assert at_once.get_min_value() == one_by_one.get_min_value()


def test_what_is_beyond_an_hour_counts_as_an_hour() -> None:
    histogram, hour = new_histogram(), new_histogram()
    record(histogram, np.array([2 * HOUR_MS]))
    record(hour, [HOUR_MS])
    assert encode(histogram) == encode(hour)
    assert histogram.get_total_count() == 1
