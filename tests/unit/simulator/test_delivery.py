"""Claims of cars against the raw topic: what is lost, what is excused, and what was garbage."""

from collections.abc import Collection
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from motorcade.simulator.audit.delivery import Claim, Delivery, Excuse, deliver
from motorcade.simulator.audit.partition import Seen
from motorcade.simulator.intervals import IntervalSet

VIN = "MC9AAT5E0T0000001"
BOOT = 1_700_000_000_000
SECOND = 1000

unhurried = settings(deadline=None, max_examples=50)

numbers = st.sets(st.integers(1, 30))


def claim(
    sent: Collection[int],
    acked: Collection[int] | None = None,
    garbage: Collection[int] = (),
    boot: int = BOOT,
) -> Claim:
    acked = sent if acked is None else acked
    return Claim(VIN, boot, *(IntervalSet.of(sorted(one)) for one in (sent, acked, garbage)))


def seen(present: Collection[int], boot: int = BOOT) -> Seen:
    """Message n was due at second n."""
    spans = IntervalSet.of(sorted(present)).spans
    n = len(spans)
    firsts, lasts = [s for s, _ in spans], [s for _, s in spans]
    return Seen(
        [VIN.encode()] * n,
        [boot] * n,
        firsts,
        lasts,
        [s * SECOND for s in firsts],
        [s * SECOND for s in lasts],
    )


def delivered(
    one: Claim, present: Collection[int], unidentified: int = 0, **options: Any
) -> Delivery:
    return deliver([one], [seen(present)], {VIN.encode(): unidentified}, **options)


@unhurried
@given(numbers, numbers, numbers)
def test_every_message_is_there_lost_unacknowledged_or_somebody_elses(
    sent: set[int], acked: set[int], present: set[int]
) -> None:
    acked = acked & sent
    found = delivered(claim(sent, acked), present)
    assert found.sent == len(sent)
    assert found.acknowledged == len(acked)
    assert found.lost == found.acknowledged_missing == len(acked - present)
    assert found.sent_missing == len(sent - present)
    assert found.others == len(present - sent)
    assert found.excused == 0


@unhurried
@given(numbers, numbers, numbers, st.integers(0, 40))
def test_garbage_is_neither_lost_nor_anothers_as_far_as_it_came(
    sent: set[int], garbage: set[int], gone: set[int], there: int
) -> None:
    garbage = garbage & sent
    present = sent - (gone & garbage)  # only garbage loses its identity
    found = delivered(claim(sent, garbage=garbage), present, there)
    unreadable = len(sent - present)
    assert found.garbage == len(garbage)
    assert found.others == 0
    assert found.lost == found.sent_missing == max(0, unreadable - there)


def test_what_is_not_garbage_is_lost_however_much_garbage_came() -> None:
    found = delivered(claim(range(1, 11), garbage={3}), set(range(1, 10)) - {3}, unidentified=5)
    assert (found.lost, found.sent_missing) == (1, 1)
    assert found.examples == (f"{VIN} boot {BOOT} seq 10",)


def test_with_qos_0_nothing_is_acknowledged_and_losses_are_counted() -> None:
    found = delivered(claim(range(1, 11), acked=()), {1, 2, 5})
    assert (found.acknowledged, found.lost, found.sent_missing) == (0, 0, 7)


def test_a_loss_is_excused_only_when_it_was_due_at_the_time_and_on_the_node() -> None:
    kill = Excuse(4 * SECOND, 6 * SECOND, "node killed", "here:1")
    one, present = claim(range(1, 11)), {1, 2, 3, 7, 8, 10}  # 4, 5, 6 and 9 are missing
    there = delivered(one, present, excuses=[kill], endpoints={VIN: "here:1"})
    assert (there.acknowledged_missing, there.excused, there.lost) == (4, 3, 1)
    assert there.reasons == {"node killed": 3}
    assert there.examples == (f"{VIN} boot {BOOT} seq 9",)
    for elsewhere in ({VIN: "other:1"}, {}):
        found = delivered(one, present, excuses=[kill], endpoints=elsewhere)
        assert (found.excused, found.lost) == (0, 4)
    cluster = Excuse(4 * SECOND, 6 * SECOND, "node killed")
    assert delivered(one, present, excuses=[cluster]).excused == 3


def test_the_last_messages_of_a_car_are_due_after_its_last_one_seen() -> None:
    one = claim(range(1, 11))
    early = Excuse(1 * SECOND, 5 * SECOND, "killed")
    late = Excuse(9 * SECOND, 20 * SECOND, "killed")
    assert delivered(one, set(range(1, 9)), excuses=[early]).lost == 2
    assert delivered(one, set(range(1, 9)), excuses=[late]).excused == 2


def test_an_excuse_ends_however_much_is_missing_after_it() -> None:
    kill = Excuse(45 * SECOND, 55 * SECOND, "killed")
    found = delivered(claim(range(1, 1001)), set(range(1, 51)), excuses=[kill])
    assert (found.excused, found.lost) == (5, 945)
    found = delivered(claim(range(1, 101)), set(range(60, 101)), excuses=[kill])
    assert (found.excused, found.lost) == (11, 48)


def test_nothing_is_excused_of_a_car_whose_pace_nothing_tells() -> None:
    kill = Excuse(0, 1000 * SECOND, "killed")
    for present in (set(), {5}):
        found = delivered(claim(range(1, 11)), present, excuses=[kill])
        assert (found.excused, found.lost) == (0, 10 - len(present))


def test_a_payload_without_boot_belongs_to_the_cars_only_boot() -> None:
    found = deliver([claim(range(1, 6))], [seen({1, 2, 3, 5}, boot=0)], {})
    assert (found.lost, found.others) == (1, 0)


def test_messages_of_a_car_that_never_ran_are_others() -> None:
    found = deliver([], [seen({1, 2, 3})], {})
    assert (found.others, found.sent, found.lost) == (3, 0, 0)
