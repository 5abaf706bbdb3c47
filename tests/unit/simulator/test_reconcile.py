"""Reconciliation finds every message that is lost, repeated, invented or out of order."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from motorcade.simulator.audit.reconcile import Accounts, reconcile
from motorcade.simulator.audit.records import (
    Claims,
    PredictionRecords,
    QuarantinedRecords,
    RawRecords,
    RefinedRecords,
)

CARS = 3


def vins(cars: np.ndarray) -> np.ndarray:
    return np.array([f"MC9AAT5E0T{c:07d}" for c in cars], dtype="S17")


def perfect_run(messages: int) -> tuple[Claims, RawRecords, RefinedRecords, PredictionRecords]:
    """`messages` per car, car c on partition c, every message through the whole pipeline."""
    car = np.tile(np.arange(CARS), messages)
    seq = np.repeat(np.arange(1, messages + 1), CARS)
    place = (car.astype(np.int64) << 48) | (seq - 1)
    boot = np.full(len(seq), 1000)
    claims = Claims(
        vins(np.arange(CARS)), np.full(CARS, 1000), np.full(CARS, 1), np.full(CARS, messages)
    )
    raw = RawRecords(place, vins(car), boot, seq, seq * 10, seq * 7 + car, seq * 10 + 1)
    refined = RefinedRecords(
        place, place, vins(car), boot, seq, seq * 10, np.zeros(len(seq), dtype=bool)
    )
    predictions = PredictionRecords(place, np.ones(len(seq)), np.ones(len(seq), dtype=np.int64))
    return claims, raw, refined, predictions


NO_QUARANTINE = QuarantinedRecords(np.zeros(0, dtype=np.int64), ())


def without(columns, row: int):
    """The columns less one row."""
    values = {
        name: np.delete(value, row) for name, value in vars(columns).items() if name != "rule"
    }
    return replace(columns, **values)


def clean(accounts: Accounts) -> bool:
    return not (
        accounts.acknowledged_missing
        or accounts.unaccounted
        or accounts.unpredicted
        or accounts.refined_and_quarantined
        or accounts.invented
        or accounts.reordered
    )


@given(st.integers(1, 20))
def test_a_perfect_run_reconciles_to_the_message(messages: int) -> None:
    claims, raw, refined, predictions = perfect_run(messages)
    accounts = reconcile(claims, claims, raw, refined, NO_QUARANTINE, predictions)
    assert clean(accounts)
    assert accounts.acknowledged == accounts.raw == accounts.refined == accounts.scored
    assert accounts.raw == messages * CARS


@given(st.integers(1, 20), st.data())
def test_a_message_missing_anywhere_is_found_where_it_is_missing(messages: int, data) -> None:
    claims, raw, refined, predictions = perfect_run(messages)
    row = data.draw(st.integers(0, messages * CARS - 1))
    topic = data.draw(st.sampled_from(["raw", "refined", "predictions"]))
    if topic == "raw":
        accounts = reconcile(claims, claims, without(raw, row), refined, NO_QUARANTINE, predictions)
        assert accounts.acknowledged_missing == 1
        assert accounts.invented == 1
    elif topic == "refined":
        accounts = reconcile(claims, claims, raw, without(refined, row), NO_QUARANTINE, predictions)
        assert accounts.unaccounted == 1
    else:
        accounts = reconcile(claims, claims, raw, refined, NO_QUARANTINE, without(predictions, row))
        assert accounts.unpredicted == 1
    assert not clean(accounts)


def appended(raw: RawRecords, row: int, *, digest: int | None = None) -> RawRecords:
    """The raw topic with a record repeated at the end of its partition."""
    values = {name: np.append(value, value[row]) for name, value in vars(raw).items()}
    again = replace(raw, **values)
    again.place[-1] += 1 << 20
    if digest is not None:
        again.digest[-1] = digest
    return again


def test_an_exact_repeat_is_counted_and_needs_no_place_downstream() -> None:
    claims, raw, refined, predictions = perfect_run(5)
    accounts = reconcile(claims, claims, appended(raw, 4), refined, NO_QUARANTINE, predictions)
    assert accounts.raw_repeats == 1
    assert clean(accounts)


def test_the_same_identity_with_other_content_must_be_quarantined() -> None:
    claims, raw, refined, predictions = perfect_run(5)
    conflicting = appended(raw, 4, digest=-1)
    assert (
        reconcile(claims, claims, conflicting, refined, NO_QUARANTINE, predictions).unaccounted == 1
    )
    quarantined = QuarantinedRecords(conflicting.place[-1:], ("identity",))
    accounts = reconcile(claims, claims, conflicting, refined, quarantined, predictions)
    assert clean(accounts)
    assert accounts.quarantined_by_rule == {"identity": 1}
    assert accounts.quarantined == 0  # the identity itself was refined


def test_a_message_behind_a_newer_one_is_a_reorder_unless_flagged_late() -> None:
    claims, raw, refined, predictions = perfect_run(5)
    places = refined.place.copy()
    places[0], places[3] = places[3], places[0]  # car 0: seq 1 and 2 change places
    swapped = replace(refined, place=places)
    assert reconcile(claims, claims, raw, swapped, NO_QUARANTINE, predictions).reordered == 1
    flagged = replace(swapped, late=np.arange(len(places)) == 0)
    accounts = reconcile(claims, claims, raw, flagged, NO_QUARANTINE, predictions)
    assert (accounts.reordered, accounts.late) == (0, 1)


def test_an_older_boot_counts_as_older_whatever_its_seq() -> None:
    claims, raw, refined, predictions = perfect_run(3)
    boots = refined.boot.copy()
    boots[refined.seq == 3] = 500
    accounts = reconcile(
        claims, claims, raw, replace(refined, boot=boots), NO_QUARANTINE, predictions
    )
    assert accounts.reordered == CARS


def test_a_payload_without_identity_is_accounted_for_by_its_place() -> None:
    claims, raw, refined, predictions = perfect_run(2)
    garbage = appended(raw, 0)
    garbage.seq[-1] = garbage.boot[-1] = -1
    accounts = reconcile(claims, claims, garbage, refined, NO_QUARANTINE, predictions)
    assert (accounts.raw_unidentified, accounts.unaccounted) == (1, 1)
    quarantined = QuarantinedRecords(garbage.place[-1:], ("not-json",))
    assert clean(reconcile(claims, claims, garbage, refined, quarantined, predictions))


def test_a_hundred_thousand_boots_keep_their_identities_apart() -> None:
    n = 100_000
    cars = np.arange(n)
    raw = RawRecords(
        cars.astype(np.int64),
        vins(cars),
        cars + 10**12,
        np.ones(n, dtype=np.int64),
        cars,
        cars,
        cars,
    )
    claims = Claims(vins(cars), cars + 10**12, np.ones(n, dtype=int), np.ones(n, dtype=int))
    nothing = RefinedRecords(
        *(np.zeros(0, dtype=np.int64),) * 2,
        vins(cars[:0]),
        *(np.zeros(0, dtype=np.int64),) * 3,
        np.zeros(0, dtype=bool),
    )
    none = PredictionRecords(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=np.int64))
    accounts = reconcile(claims, claims, raw, nothing, NO_QUARANTINE, none)
    assert (accounts.raw, accounts.acknowledged_missing, accounts.unaccounted) == (n, 0, n)
