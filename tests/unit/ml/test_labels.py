"""Labels are what the cars' own diagnosis says; splits are the same for the same seed."""

import random

import numpy as np
import pytest

from motorcade.fleet.arrays import Ids, Ints
from motorcade.fleet.messages import DiagnosticTroubleCode
from motorcade.ml.labels.failures import Failures
from motorcade.ml.labels.split import SHARES, by_time, by_vehicle

CODES = {"coolant_leak": "P0217", "misfire": "P0300"}
CAR, OTHER = b"A" * 17, b"B" * 17
HORIZON = 100


def code(vin: bytes, time: int, boot: int = 1, kind: str = "coolant_leak") -> DiagnosticTroubleCode:
    return DiagnosticTroubleCode(vin.decode(), boot, CODES.get(kind, kind), kind, time, time)


def rows(vin: bytes, times: list[int], boot: int = 1) -> tuple[Ids, Ints, Ints]:
    n = len(times)
    return np.array([vin] * n, dtype="S17"), np.full(n, boot), np.array(times)


def healthy(failures: Failures, vin: bytes, times: list[int], boot: int = 1) -> list[bool]:
    found: list[bool] = failures.healthy(*rows(vin, times, boot), HORIZON).tolist()
    return found


def test_records_within_the_horizon_before_a_code_are_not_healthy() -> None:
    failures = Failures.of([code(CAR, 1000)])
    assert healthy(failures, CAR, [899, 900, 1000]) == [True, False, False]


def test_records_after_a_code_are_not_healthy_until_the_next_boot() -> None:
    failures = Failures.of([code(CAR, 1000)])
    assert healthy(failures, CAR, [1001, 5000]) == [False, False]
    assert healthy(failures, CAR, [5000], boot=2) == [True]


def test_a_code_of_a_later_boot_counts_too_and_one_of_an_earlier_boot_does_not() -> None:
    failures = Failures.of([code(CAR, 1000), code(CAR, 9000, boot=2)])
    assert healthy(failures, CAR, [8950], boot=1) == [False]
    assert healthy(failures, CAR, [950], boot=2) == [True]
    assert healthy(failures, CAR, [8000, 8950], boot=2) == [True, False]


def test_other_cars_are_untouched() -> None:
    failures = Failures.of([code(CAR, 1000)])
    assert all(healthy(failures, OTHER, [1, 999, 1001]))
    assert failures.vehicles == {CAR}


def test_time_to_failure_is_told_for_each_kind_and_never_looks_back() -> None:
    failures = Failures.of(
        [code(CAR, 500), code(CAR, 1000), code(CAR, 700, kind="misfire"), code(OTHER, 1)]
    )
    assert failures.kinds == ("P0217", "P0300")
    ahead = failures.ahead(*rows(CAR, [0, 500, 600, 701, 1001]))
    assert ahead.tolist() == [
        [500, 700],
        [0, 200],
        [400, 100],
        [299, np.inf],
        [np.inf, np.inf],
    ]
    assert failures.before(*rows(CAR, [500, 501])).tolist() == [False, True]


def test_a_fleet_without_codes_is_healthy() -> None:
    failures = Failures.of([])
    assert failures.ahead(*rows(CAR, [1, 2])).shape == (2, 0)
    assert all(healthy(failures, CAR, [1, 2]))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_labels_do_not_depend_on_the_order_of_rows_or_codes(order: int) -> None:
    chance = random.Random(order)
    codes = [
        code(vin, chance.randrange(1000), chance.randrange(3), chance.choice("xyz"))
        for vin in (CAR, OTHER) * 10
    ]
    vin = np.array([chance.choice([CAR, OTHER, b"C" * 17]) for _ in range(500)], dtype="S17")
    boot = np.array([chance.randrange(3) for _ in range(500)])
    time = np.array([chance.randrange(1000) for _ in range(500)])
    expected = Failures.of(codes).ahead(vin, boot, time)
    shuffled = np.array(chance.sample(range(500), 500))
    chance.shuffle(codes)
    again = Failures.of(codes).ahead(vin[shuffled], boot[shuffled], time[shuffled])
    assert (again == expected[shuffled]).all()


def fleet(n: int, first: int = 0) -> list[bytes]:
    return [b"VIN%014d" % number for number in range(first, first + n)]


def test_every_vehicle_is_in_one_part_and_parts_have_their_shares() -> None:
    split = by_vehicle(fleet(2000), seed=7)
    assert split.part_of.keys() == set(fleet(2000))
    assert sum(len(split.vehicles(part)) for part in SHARES) == 2000
    for part, share in SHARES.items():
        assert len(split.vehicles(part)) / 2000 == pytest.approx(share, abs=0.03)


def test_a_split_is_the_same_for_a_seed_and_another_for_another() -> None:
    one = by_vehicle(fleet(300), seed=1)
    again = by_vehicle(reversed(fleet(300)), seed=1)
    other = by_vehicle(fleet(300), seed=2)
    assert one.part_of == again.part_of
    assert one.digest("test") == again.digest("test") != other.digest("test")


def test_a_vehicle_keeps_its_part_when_the_fleet_grows() -> None:
    small, large = by_vehicle(fleet(200), seed=1), by_vehicle(fleet(900), seed=1)
    assert all(large.part_of[vin] == part for vin, part in small.part_of.items())


@pytest.mark.parametrize("size", [8, 10, 13, 50, 99])
def test_a_small_fleet_has_a_vehicle_in_every_part(size: int) -> None:
    for seed in range(20):
        split = by_vehicle(fleet(size), seed)
        assert all(split.vehicles(part) for part in SHARES)


def test_named_test_vehicles_are_the_test_part_and_no_others() -> None:
    vins = fleet(400) + [b"TEST%013d" % n for n in range(30)]
    split = by_vehicle(vins, 0, test_vehicles=r"TEST\d{13}")
    assert split.vehicles("test") == set(vins[400:])
    assert len(split.vehicles("train")) / 400 == pytest.approx(0.75, abs=0.06)


def test_a_split_by_time_leaves_out_what_was_not_known_when_the_later_part_began() -> None:
    split = by_time(0, 1000, share=0.2, gap_ms=100)
    time = np.arange(0, 1001, 100)
    assert split.later(time).tolist() == [False] * 8 + [True] * 3
    assert split.earlier(time).tolist() == [True] * 7 + [False] * 4
    # The label of the last earlier record looks `gap_ms` ahead: not beyond where judging begins.
    assert split.until_ms + 100 < split.from_ms
