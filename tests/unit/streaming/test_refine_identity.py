"""Message identity: what is new, late, repeated or contradictory, whatever the order of arrival."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from motorcade.streaming.refine.identity import BOOTS, INTERVALS, Identities, Verdict

CAR = b"MC9ABT5E7T0000000"
messages = st.tuples(st.integers(1, 3), st.integers(1, 12), st.integers(1, 2))


@given(st.lists(messages, max_size=80))
def test_every_message_is_judged_as_a_complete_memory_would(
    stream: list[tuple[int, int, int]],
) -> None:
    identities = Identities(window=1000)
    seen: dict[tuple[int, int], int] = {}
    for boot, seq, content in stream:
        verdict = identities.judge(CAR, boot, seq, content)
        if (boot, seq) in seen:
            same = seen[boot, seq] == content
            assert verdict is (Verdict.REPEAT if same else Verdict.CONFLICT)
        else:
            late = bool(seen) and (boot, seq) < max(seen)
            assert verdict is (Verdict.LATE if late else Verdict.FIRST)
            seen[boot, seq] = content


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 500), st.integers(1, 2)), max_size=200),
    st.integers(1, 5),
)
def test_with_a_bounded_memory_a_repeat_never_passes_as_new(
    stream: list[tuple[int, int, int]], window: int
) -> None:
    identities = Identities(window)
    passed: set[tuple[int, int]] = set()
    for boot, seq, content in stream:
        verdict = identities.judge(CAR, boot, seq, content)
        if verdict in (Verdict.FIRST, Verdict.LATE):
            assert (boot, seq) not in passed
            passed.add((boot, seq))


@given(
    st.lists(st.tuples(st.integers(0, 2), messages), max_size=80),
    st.lists(st.integers(1, 7), min_size=1, max_size=9),
)
def test_messages_are_judged_together_as_one_by_one(
    stream: list[tuple[int, tuple[int, int, int]]], cuts: list[int]
) -> None:
    one_by_one, together = Identities(1000), Identities(1000)
    vins = [b"MC9ABT5E7T000000%d" % car for car, _ in stream]
    columns = np.array([message for _, message in stream], dtype=np.int64).reshape(-1, 3)
    expected = [
        one_by_one.judge(vin, *row) for vin, row in zip(vins, columns.tolist(), strict=True)
    ]
    found, at = [], 0
    for cut in itertools.cycle(cuts):
        part = slice(at, at + cut)
        found += together.judge_all(vins[part], *columns[part].T)
        at += cut
        if at >= len(vins):
            break
    assert found == expected


def test_cars_do_not_share_their_numbers() -> None:
    identities = Identities(10)
    assert identities.judge(CAR, 1, 1, 5) is Verdict.FIRST
    assert identities.judge(CAR[::-1], 1, 1, 5) is Verdict.FIRST
    assert len(identities) == 2


def test_a_repeat_from_before_the_window_cannot_be_compared() -> None:
    identities = Identities(window=3)
    for seq in range(1, 6):
        identities.judge(CAR, 1, seq, seq)
    assert identities.judge(CAR, 1, 3, 3) is Verdict.REPEAT
    assert identities.judge(CAR, 1, 3, 4) is Verdict.CONFLICT
    assert identities.judge(CAR, 1, 2, 2) is Verdict.INCOMPARABLE


def test_more_gaps_than_are_remembered_count_the_oldest_as_seen() -> None:
    identities = Identities(window=10_000)
    for seq in range(1, 2 * INTERVALS + 2, 2):
        identities.judge(CAR, 1, seq, seq)
    assert identities.judge(CAR, 1, 2 * INTERVALS, 0) is Verdict.LATE
    assert identities.judge(CAR, 1, 2, 0) is Verdict.INCOMPARABLE


def test_a_boot_older_than_all_that_are_remembered_cannot_be_compared() -> None:
    identities = Identities(window=100)
    for boot in range(10, 10 + BOOTS):
        assert identities.judge(CAR, boot, 1, 0) is Verdict.FIRST
    assert identities.judge(CAR, 10, 2, 0) is Verdict.LATE
    assert identities.judge(CAR, 9, 1, 0) is Verdict.INCOMPARABLE
    assert identities.judge(CAR, 20, 1, 0) is Verdict.FIRST
    assert identities.judge(CAR, 15, 1, 0) is Verdict.LATE


def test_a_wild_jump_of_the_sequence_costs_no_memory() -> None:
    identities = Identities(window=100)
    identities.judge(CAR, 1, 1, 0)
    assert identities.judge(CAR, 1, 2**62, 0) is Verdict.FIRST
    assert identities.judge(CAR, 1, 2, 0) is Verdict.LATE
