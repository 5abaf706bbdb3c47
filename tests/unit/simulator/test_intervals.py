"""Interval sets hold exactly the numbers that were put in, in whatever order."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from motorcade.simulator.intervals import IntervalSet

numbers = st.lists(st.integers(min_value=1, max_value=60), max_size=80)


def is_canonical(one: IntervalSet) -> bool:
    spans = one.spans
    return all(first <= last for first, last in spans) and all(
        left[1] + 1 < right[0] for left, right in itertools.pairwise(spans)
    )


def filled(values: list[int]) -> IntervalSet:
    result = IntervalSet()
    for value in values:
        result.add(value)
    return result


@given(numbers)
def test_a_set_filled_one_by_one_holds_what_a_set_holds(values: list[int]) -> None:
    result = filled(values)
    assert list(result) == sorted(set(values))
    assert len(result) == len(set(values))
    assert is_canonical(result)
    assert all((n in result) == (n in set(values)) for n in range(62))


@given(numbers)
def test_a_set_made_at_once_is_the_one_filled_one_by_one(values: list[int]) -> None:
    assert IntervalSet.of(np.array(values, dtype=np.int64)) == filled(values)
    assert IntervalSet.of(values) == filled(values)


@given(numbers, numbers)
def test_union_and_difference_are_those_of_sets(left: list[int], right: list[int]) -> None:
    one, other = filled(left), filled(right)
    assert set(one.union(other)) == set(left) | set(right)
    assert set(one.difference(other)) == set(left) - set(right)
    assert is_canonical(one.union(other))
    assert is_canonical(one.difference(other))


@given(numbers)
def test_spans_make_the_set_again(values: list[int]) -> None:
    assert IntervalSet(filled(values).spans) == filled(values)


def test_messages_in_order_are_one_span() -> None:
    assert filled(list(range(1, 1001))).spans == [(1, 1000)]
