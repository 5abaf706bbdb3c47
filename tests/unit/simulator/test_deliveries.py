"""Books of what was sent and acknowledged: any order of events comes out as the same sets."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from motorcade.simulator.deliveries import Deliveries, SpanBook

BOOTS = 3
notes = st.lists(
    st.tuples(st.integers(0, BOOTS - 1), st.integers(1, 30), st.integers(0, 3), st.booleans())
)


@given(notes)
def test_a_book_holds_the_set_of_what_was_noted(entries: list[tuple[int, int, int, bool]]) -> None:
    book = SpanBook()
    truth: dict[int, set[int]] = {boot: set() for boot in range(BOOTS)}
    settled = 0
    for boot, first, more, settle in entries:
        book.noted += (boot, first, first + more)
        truth[boot].update(range(first, first + more + 1))
        if settle:
            settled += book.settle(BOOTS)
    settled += book.settle(BOOTS)
    assert settled == sum(more + 1 for _, _, more, _ in entries)
    spans = book.columns(BOOTS).by_owner(BOOTS)
    for boot, expected in truth.items():
        seqs = [seq for first, last in spans[boot] for seq in range(first, last + 1)]
        assert seqs == sorted(expected)


def test_many_cars_in_order_stay_one_span_each_and_grow_the_columns() -> None:
    deliveries = Deliveries()
    cars = 3000
    numbers = [deliveries.open(row, 100 + row) for row in range(cars)]
    for seq in range(1, 4):
        for number in numbers:
            deliveries.sent.noted += (number, seq, seq)
        assert deliveries.settle() == (cars, 0, 0)
    columns = deliveries.columns(np.array([f"V{row:016d}" for row in range(cars)], dtype="S17"))
    assert columns.sent.owner.tolist() == numbers
    assert set(columns.sent.first.tolist()) == {1}
    assert set(columns.sent.last.tolist()) == {3}
    assert columns.boot.tolist() == [100 + row for row in range(cars)]
