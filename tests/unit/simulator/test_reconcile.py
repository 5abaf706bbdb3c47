"""Reconciliation finds every message that is lost, repeated, invented or out of order."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from motorcade.fleet.arrays import Ints
from motorcade.fleet.source import MAX_SAMPLES
from motorcade.simulator.audit.delivery import Claim, Delivery, deliver
from motorcade.simulator.audit.partition import Part, PartitionAccount
from motorcade.simulator.audit.reconcile import Accounts, reconcile
from motorcade.simulator.audit.records import (
    PredictionBatch,
    QuarantinedBatch,
    RawBatch,
    RefinedBatch,
)
from motorcade.simulator.intervals import IntervalSet

CARS = 3
BOOT = 1000

Batch = TypeVar("Batch", RawBatch, QuarantinedBatch, RefinedBatch, PredictionBatch)

unhurried = settings(deadline=None, max_examples=50)


def vins(cars: Ints | list[int]) -> list[bytes]:
    return [b"MC9AAT5E0T%07d" % c for c in np.asarray(cars).tolist()]


def claims_of(raw: RawBatch) -> list[Claim]:
    """The claims of cars of which every message came."""
    found: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    for vin, boot, seq in zip(raw.vin, raw.boot.tolist(), raw.seq.tolist(), strict=True):
        if seq >= 0:
            found[vin.decode(), boot].append(seq)
    return [
        Claim(vin, boot, IntervalSet.of(seqs), IntervalSet.of(seqs), IntervalSet())
        for (vin, boot), seqs in found.items()
    ]


class Run:
    """The topics of one partition, every message through the whole pipeline until changed."""

    def __init__(self, messages: int, boot: int = BOOT) -> None:
        n = messages * CARS
        car = np.tile(np.arange(CARS), messages)
        seq = np.repeat(np.arange(1, messages + 1), CARS)
        place = np.arange(n) * MAX_SAMPLES
        boots = np.full(n, boot)
        due = seq * 10
        self.raw = RawBatch(place, vins(car), boots.copy(), seq, due, seq * 7 + car, due + 1)
        self.claims = claims_of(self.raw)
        self.quarantined = QuarantinedBatch(place[:0], [])
        self.refined = RefinedBatch(
            np.arange(n),
            place.copy(),
            vins(car),
            boots,
            seq.copy(),
            seq * 10,
            np.zeros(n, dtype=bool),
        )
        self.predictions = PredictionBatch(np.arange(n), np.ones(n), due.copy(), due + 5)

    def account(self, cuts: list[int] | None = None, first_boot: int = 0) -> Accounts:
        part = self.part(cuts, first_boot)
        return reconcile(deliver(self.claims, [part.seen], part.unidentified), [part])

    def part(self, cuts: list[int] | None = None, first_boot: int = 0) -> Part:
        account = PartitionAccount(first_boot=first_boot)
        batches: list[tuple[Callable[[Any], None], Any]] = [
            (account.quarantined, self.quarantined),
            (account.raw, self.raw),
            (account.refined, self.refined),
            (account.predictions, self.predictions),
        ]
        for take, batch in batches:
            n = len(next(iter(vars(batch).values())))
            edges = sorted({0, n, *(min(cut, n) for cut in cuts or [])})
            for start, end in itertools.pairwise(edges):
                take(rows(batch, range(start, end)))
        return account.finish()


def rows(batch: Batch, chosen: Iterable[int]) -> Batch:
    """Some rows of a batch."""
    chosen = list(chosen)
    values: dict[str, Any] = {
        name: [value[row] for row in chosen] if isinstance(value, list) else value[chosen]
        for name, value in vars(batch).items()
    }
    return replace(batch, **values)


def without(batch: Batch, row: int) -> Batch:
    """The batch less one row."""
    n = len(next(iter(vars(batch).values())))
    return rows(batch, (at for at in range(n) if at != row))


def clean(accounts: Accounts) -> bool:
    return not (
        accounts.acknowledged_missing
        or accounts.unaccounted
        or accounts.unpredicted
        or accounts.refined_and_quarantined
        or accounts.invented
        or accounts.reordered
    )


@unhurried
@given(st.integers(1, 20), st.lists(st.integers(1, 60), max_size=5))
def test_a_perfect_run_reconciles_to_the_message(messages: int, cuts: list[int]) -> None:
    accounts = Run(messages).account(cuts)
    assert clean(accounts)
    assert accounts.acknowledged == accounts.raw == accounts.refined == accounts.scored
    assert accounts.raw == accounts.raw_records == messages * CARS
    assert accounts.others == accounts.sent_missing == accounts.raw_reordered == 0


@unhurried
@given(st.integers(1, 20), st.data())
def test_a_message_missing_anywhere_is_found_where_it_is_missing(
    messages: int, data: st.DataObject
) -> None:
    run = Run(messages)
    row = data.draw(st.integers(0, messages * CARS - 1))
    topic = data.draw(st.sampled_from(["raw", "refined", "predictions"]))
    cuts = data.draw(st.lists(st.integers(1, 60), max_size=4))
    setattr(run, topic, without(getattr(run, topic), row))
    accounts = run.account(cuts)
    if topic == "raw":
        assert accounts.acknowledged_missing == accounts.lost == accounts.sent_missing == 1
        assert accounts.invented == 1
    elif topic == "refined":
        assert accounts.unaccounted == 1
    else:
        assert accounts.unpredicted == 1
    assert not clean(accounts)


def appended(raw: RawBatch, row: int, *, digest: int | None = None) -> RawBatch:
    """The raw topic with a record repeated at the end."""
    again = rows(raw, [*range(len(raw.vin)), row])
    again.place[-1] = raw.place[-1] + 5 * MAX_SAMPLES
    if digest is not None:
        again.digest[-1] = digest
    return again


@unhurried
@given(st.lists(st.integers(1, 20), max_size=3))
def test_an_exact_repeat_is_counted_and_needs_no_place_downstream(cuts: list[int]) -> None:
    run = Run(5)
    run.raw = appended(run.raw, 4)
    accounts = run.account(cuts)
    assert accounts.raw_repeats == 1
    assert clean(accounts)


@unhurried
@given(st.lists(st.integers(1, 20), max_size=3))
def test_the_same_identity_with_other_content_must_be_quarantined(cuts: list[int]) -> None:
    run = Run(5)
    run.raw = appended(run.raw, 4, digest=-1)
    assert run.account(cuts).unaccounted == 1
    run.raw = appended(run.raw, 15)  # an exact repeat of the conflict is one too
    accounts = run.account(cuts)
    assert (accounts.unaccounted, accounts.raw_repeats) == (1, 1)
    run.quarantined = QuarantinedBatch(run.raw.place[15:16], ["identity"])
    accounts = run.account(cuts)
    assert clean(accounts)
    assert accounts.quarantined_by_rule == {"identity": 1}
    assert accounts.quarantined_records == 1
    assert accounts.quarantined == 0  # the identity itself was refined


@unhurried
@given(st.lists(st.integers(1, 20), max_size=3))
def test_a_message_behind_a_newer_one_is_a_reorder_unless_flagged_late(cuts: list[int]) -> None:
    run = Run(5)
    swapped = [3, 1, 2, 0, *range(4, 15)]  # car 0: seq 1 and 2 change places
    run.refined = rows(run.refined, swapped)
    run.refined = replace(run.refined, offset=np.arange(15))
    assert run.account(cuts).reordered == 1
    run.refined.late[3] = True
    accounts = run.account(cuts)
    assert (accounts.reordered, accounts.late) == (0, 1)


def test_an_older_boot_counts_as_older_whatever_its_seq() -> None:
    run = Run(3)
    for batch in (run.raw, run.refined):
        batch.boot[6:] = 500
    run.claims = claims_of(run.raw)
    accounts = run.account()
    assert (accounts.reordered, accounts.raw_reordered) == (CARS, CARS)
    assert accounts.acknowledged_missing == 0


@unhurried
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 6)), min_size=1, max_size=40
    ),
    st.lists(st.integers(1, 40), max_size=5),
)
def test_any_stream_in_any_batches_is_counted_as_a_plain_loop_counts(
    stream: list[tuple[int, int, int]], cuts: list[int]
) -> None:
    car, boot, seq = (np.array(column) for column in zip(*stream, strict=True))
    n = len(stream)
    raw = RawBatch(np.arange(n) * MAX_SAMPLES, vins(car), boot, seq, seq, seq % 2, seq)
    account = PartitionAccount()
    edges = sorted({0, n, *(min(cut, n) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        account.raw(rows(raw, range(start, end)))
    part = account.finish(derived=False)

    newest: dict[int, tuple[int, int]] = {}
    seen: set[tuple[int, int, int]] = set()
    repeats = behind = 0
    for one in stream:
        if one in seen:
            repeats += 1  # the digest follows from seq, so it is the same
            continue
        seen.add(one)
        behind += one[1:] < newest.get(one[0], (0, 0))
        newest[one[0]] = max(newest.get(one[0], (0, 0)), one[1:])
    counts = part.counts
    assert (counts.raw, counts.raw_repeats, counts.raw_reordered) == (len(seen), repeats, behind)
    runs = zip(part.seen.vin, part.seen.boot, part.seen.first, part.seen.last, strict=True)
    found = [(v, b, s) for v, b, first, last in runs for s in range(first, last + 1)]
    assert sorted(found) == sorted((vins([c])[0], b, s) for c, b, s in seen)
    assert part.seen.due_first == part.seen.first
    assert part.seen.due_last == part.seen.last


def test_a_payload_without_identity_is_accounted_for_by_its_place() -> None:
    run = Run(2)
    run.raw = appended(run.raw, 0)
    run.raw.seq[-1] = run.raw.boot[-1] = run.raw.due[-1] = -1
    accounts = run.account()
    assert (accounts.raw_unidentified, accounts.unaccounted) == (1, 1)
    run.quarantined = QuarantinedBatch(run.raw.place[-1:], ["not-json"])
    assert clean(run.account())


def test_samples_of_one_record_are_accounted_for_one_by_one() -> None:
    run = Run(4)
    for batch in (run.raw.place, run.refined.source):
        batch[:] = np.arange(12) // 4 * MAX_SAMPLES + np.arange(12) % 4  # four samples a record
    assert clean(run.account([5]))
    run.refined = without(run.refined, 6)
    accounts = run.account([5])
    assert accounts.unaccounted == 1
    run.quarantined = QuarantinedBatch(run.raw.place[6:7], ["range"])
    assert run.account([5]).quarantined == 1
    assert run.account([5]).unaccounted == 0


def test_what_derives_from_nothing_or_under_another_name_is_invented() -> None:
    run = Run(3)
    run.refined.source[4] += 7
    accounts = run.account()
    assert (accounts.invented, accounts.unaccounted) == (1, 1)

    run = Run(3)
    run.refined.seq[4] += 50
    assert run.account().invented == 1

    run = Run(3)
    run.predictions.source[4] = 500
    accounts = run.account()
    assert (accounts.invented, accounts.unpredicted) == (1, 1)

    run = Run(3)
    run.quarantined = QuarantinedBatch(np.array([77]), ["not-json"])
    assert run.account().invented == 1


@unhurried
@given(st.lists(st.integers(1, 15), max_size=3))
def test_physical_repeats_downstream_are_counted_once(cuts: list[int]) -> None:
    run = Run(4)
    n = 4 * CARS
    run.refined = rows(run.refined, [*range(n), 3, 5])
    run.refined = replace(run.refined, offset=np.arange(n + 2))
    run.predictions = rows(run.predictions, [*range(n), 2])
    accounts = run.account(cuts)
    assert clean(accounts)
    assert (accounts.refined_repeats, accounts.predicted_repeats) == (2, 1)
    assert accounts.refined == accounts.scored == n


def test_a_message_refined_from_both_its_raw_copies_is_a_repeat() -> None:
    run = Run(4)
    n = 4 * CARS
    run.raw = appended(run.raw, 3)
    run.refined = rows(run.refined, [*range(n), 3])
    run.refined = replace(run.refined, offset=np.arange(n + 1))
    run.refined.source[-1] = run.raw.place[-1]
    for cuts in ([], [n], [4]):
        assert run.account(cuts).refined_repeats == 1


def test_latencies_leave_out_what_was_quarantined_and_count_each_message_once() -> None:
    run = Run(4)
    run.raw.due[0] = 1_000_000_000  # absurd, and quarantined for it
    run.quarantined = QuarantinedBatch(run.raw.place[:1], ["clock"])
    run.refined = without(run.refined, 0)
    run.predictions = rows(without(run.predictions, 0), [*range(11), 4])
    part = run.part()
    kafka, prediction = HdrHistogram.decode(part.kafka), HdrHistogram.decode(part.prediction)
    assert kafka.get_total_count() == prediction.get_total_count() == 11
    assert kafka.get_max_value() < 1100  # microseconds: each was a millisecond late
    assert prediction.get_mean_value() > 4900


def test_a_hundred_thousand_boots_keep_their_identities_apart() -> None:
    n = 100_000
    cars = np.arange(n)
    raw = RawBatch(
        cars * MAX_SAMPLES, vins(cars), cars + 10**12, np.ones(n, dtype=int), cars, cars, cars
    )
    account = PartitionAccount()
    account.raw(raw)
    part = account.finish()
    one = IntervalSet([(1, 1)])
    claims = [
        Claim(vin.decode(), boot, one, one, IntervalSet())
        for vin, boot in zip(raw.vin, raw.boot.tolist(), strict=True)
    ]
    accounts = reconcile(deliver(claims, [part.seen], Counter()), [part])
    assert (accounts.raw, accounts.acknowledged_missing, accounts.unaccounted) == (n, 0, n)


def test_what_a_broker_delivers_once_more_of_an_earlier_run_is_judged_by_that_run() -> None:
    run = Run(3)
    n, last = len(run.raw.place), run.raw.place[-1]
    old = replace(rows(run.raw, [0, 1]), place=last + np.array([1, 2]) * MAX_SAMPLES)
    old.boot[:] = BOOT - 500
    both: dict[str, Any] = {
        name: [*value, *more] if isinstance(value, list) else np.concatenate([value, more])
        for (name, value), more in zip(vars(run.raw).items(), vars(old).values(), strict=True)
    }
    run.raw = RawBatch(**both)
    unknown = run.account()
    assert (unknown.raw_reordered, unknown.unaccounted, unknown.others) == (2, 2, 2)
    accounts = run.account(first_boot=BOOT)
    assert clean(accounts)
    assert (accounts.raw_reordered, accounts.others, accounts.raw) == (0, 2, n + 2)
    assert (accounts.refined, accounts.acknowledged) == (n, n)


def test_partitions_add_up() -> None:
    one, other = Run(3).part(), Run(5, boot=2000).part()
    accounts = reconcile(Delivery(), [one, other])
    assert accounts.raw == accounts.scored == 8 * CARS
