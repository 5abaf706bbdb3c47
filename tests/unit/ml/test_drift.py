"""Drift: chance alone alarms as rarely as it is said to; what has moved, or gone, is found."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from motorcade.ml.drift.check import Drift, Limits, SignalDrift, bin_names, compare
from motorcade.ml.drift.figures import WORST
from motorcade.ml.drift.histogram import edges_of, histogram
from motorcade.ml.drift.page import render
from motorcade.ml.drift.psi import psi
from motorcade.ml.drift.recent import after, slices
from motorcade.ml.drift.reference import (
    FILE,
    Reference,
    read_reference,
    reference_of,
    write_reference,
)
from motorcade.ml.drift.sample import Sample, Sampled
from motorcade.ml.errors import ModelRefusedError
from motorcade.ml.reading.ranges import OffsetRange

from .telemetry import CATALOGUE, Batches, correlated

LOOKS = 300
RATE = 0.05
Sent = tuple[NDArray[np.float32], NDArray[np.bytes_]]


def sent(
    rng: np.random.Generator, cars: int, messages: int, alike: float = 0.0, shift: float = 0.0
) -> Sent:
    """Messages of cars; those of one car correlate by `alike`."""
    own = rng.normal(size=(cars, 1)) * np.sqrt(alike)
    values = shift + own + rng.normal(size=(cars, messages)) * np.sqrt(1 - alike)
    vins = np.array([b"%017d" % car for car in range(cars)])
    return values.astype(np.float32).ravel(), np.repeat(vins, messages)


def alarms(draw: Callable[[np.random.Generator, bool], Sent]) -> float:
    """Share of looks that alarm; `draw` is asked for the reference, then for what is recent."""
    found = 0
    for seed in range(LOOKS):
        rng = np.random.default_rng(seed)
        then, now = draw(rng, False), draw(rng, True)
        edges = edges_of(then[0])
        index = psi(histogram(*then, edges), histogram(*now, edges), RATE)
        found += index.psi > index.chance
    return found / LOOKS


@pytest.mark.parametrize(
    ("then", "now", "alike"),
    [
        ((2000, 1), (2000, 1), 0.0),
        ((2000, 1), (150, 1), 0.0),
        ((200, 20), (50, 20), 0.7),
        ((300, 20), (10, 20), 0.7),
        ((300, 20), (3, 200), 0.5),
    ],
    ids=["large", "small", "cars that differ", "few cars", "hardly any cars"],
)
def test_without_drift_chance_alarms_at_its_nominal_rate(
    then: tuple[int, int], now: tuple[int, int], alike: float
) -> None:
    rate = alarms(lambda rng, recent: sent(rng, *(now if recent else then), alike))
    # Three standard errors above; below it may be careful.
    assert rate < RATE + 3 * np.sqrt(RATE * (1 - RATE) / LOOKS)


def test_a_limit_that_takes_messages_of_a_car_for_independent_would_mostly_alarm() -> None:
    def shuffled(rng: np.random.Generator, recent: bool) -> Sent:
        values, vins = sent(rng, 50, 20, alike=0.7)
        return values, rng.permutation(vins)

    assert alarms(shuffled) > 0.5


@pytest.mark.parametrize("cars", [40, 400])
def test_a_shift_is_found_and_the_more_surely_the_more_cars_there_are(cars: int) -> None:
    shift = 1.5 if cars == 40 else 0.6
    assert alarms(lambda rng, recent: sent(rng, cars, 20, 0.5, shift * recent)) > 0.95


@pytest.mark.parametrize("level", [2.0, 4.0])
def test_a_constant_that_changes_its_level_is_found_up_and_down(level: float) -> None:
    vins = np.repeat(np.array([b"%017d" % car for car in range(30)]), 10)
    before, now = (np.full(300, value, dtype=np.float32) for value in (3.0, level))
    edges = edges_of(before)
    index = psi(histogram(before, vins, edges), histogram(now, vins, edges), 0.001)
    assert index.psi > index.chance
    same = psi(histogram(before, vins, edges), histogram(before, vins, edges), 0.001)
    assert same.psi == 0


def test_bins_hold_equal_shares_and_absent_values_have_their_own() -> None:
    values = np.arange(1000, dtype=np.float32)
    values[::4] = np.nan
    edges = edges_of(values)
    found = histogram(values, np.array([b"a", b"b"] * 500), edges)
    assert found.counts == [75] * 10 + [250]
    assert (found.messages, found.vehicles) == (1000, 2)
    assert len(bin_names(edges.tolist())) == len(found.counts)


def test_of_one_car_nothing_can_be_said() -> None:
    rng = np.random.default_rng(0)
    then, now = sent(rng, 100, 10), sent(rng, 1, 500, shift=5)
    edges = edges_of(then[0])
    assert psi(histogram(*then, edges), histogram(*now, edges), RATE).chance == np.inf


def a_reference(scores: NDArray[np.float64] | None = None) -> Reference:
    sample = Sample(CATALOGUE)
    sample.add(correlated(cars=60, messages=40))
    vins = sample.vins[: len(scores)] if scores is not None else sample.vins[:0]
    return reference_of(CATALOGUE.features, sample, np.empty(0) if scores is None else scores, vins)


def look(change: Callable[[NDArray[np.float32]], None] = lambda values: None) -> list[SignalDrift]:
    sample = Sample(CATALOGUE)
    sample.add(correlated(cars=60, messages=40, seed=5))
    values = sample.values
    change(values)
    return compare(a_reference(), values, sample.vins, None, Limits())


def test_a_look_at_all_signals_names_the_one_that_moved_and_no_other() -> None:
    assert {one.verdict for one in look()} == {"none"}
    at = CATALOGUE.features.index("coolant_temp")

    def warmer(values: NDArray[np.float32]) -> None:
        values[:, at] += values[:, at].std()

    found = look(warmer)
    assert [one.name for one in found if one.verdict == "drift"] == ["coolant_temp"]
    assert found[0].name == "coolant_temp"


def test_the_page_of_a_look_tells_every_signal_and_draws_the_worst() -> None:
    at = CATALOGUE.features.index("coolant_temp")

    def warmer(values: NDArray[np.float32]) -> None:
        values[:, at] += values[:, at].std()

    began = 1_700_000_000_000
    found = Drift("<i>auto</i>", 3, began, began + 600_000, 2400, 60, 0.01, 0.1, look(warmer))
    html = render(found)
    assert "<b>coolant_temp</b> drifted." in html
    assert "2023-11-14 22:13:20 to 2023-11-14 22:23:20 UTC" in html
    assert html.count('<tr class="strong">') == 1
    assert all(f"<td>{name}</td>" in html for name in CATALOGUE.features)
    assert html.count('<div class="box">') == 1 + WORST
    assert "<i>" not in html
    quiet = msgspec.structs.replace(found, signals=look())
    assert "No drift." in render(quiet)


def test_a_signal_that_stays_away_has_drifted() -> None:
    at = CATALOGUE.features.index("battery_voltage")

    def gone(values: NDArray[np.float32]) -> None:
        values[::2, at] = np.nan

    found = look(gone)
    assert [one.name for one in found if one.verdict == "drift"] == ["battery_voltage"]
    assert found[0].recent.counts[-1] == found[0].recent.messages / 2


def test_a_signal_that_was_never_there_has_not_drifted() -> None:
    columns = correlated(cars=60, messages=40)
    columns.values[:, CATALOGUE.column("battery_voltage")] = np.nan
    sample = Sample(CATALOGUE)
    sample.add(columns)
    reference = reference_of(CATALOGUE.features, sample, np.empty(0), sample.vins[:0])
    found = compare(reference, sample.values, sample.vins, None, Limits())
    assert {one.verdict for one in found} == {"none"}


def test_scores_are_compared_where_both_sides_have_some() -> None:
    rng = np.random.default_rng(3)
    scores = rng.gamma(2.0, size=2400)
    reference = a_reference(scores)
    sample = Sample(CATALOGUE)
    sample.add(correlated(cars=60, messages=40, seed=5))
    now = (2 * rng.gamma(2.0, size=2400)).astype(np.float32)
    found = compare(reference, sample.values, sample.vins, (now, sample.vins), Limits())
    assert [one.name for one in found if one.verdict == "drift"] == ["score"]
    assert "score" not in {one.name for one in look()}


def test_where_cars_are_too_few_to_tell_nothing_is_claimed() -> None:
    sample = Sample(CATALOGUE)
    sample.add(correlated(cars=60, messages=40, seed=5))
    few = np.isin(sample.vins, np.unique(sample.vins)[:1])
    found = compare(a_reference(), sample.values[few], sample.vins[few], None, Limits())
    assert {one.verdict for one in found} == {"unknown"}


def test_a_sample_is_bounded_even_and_does_not_depend_on_how_batches_are_cut() -> None:
    columns = correlated(cars=60, messages=40)
    found = []
    for size in (100, 777):
        sample = Sample(CATALOGUE, limit=500)
        for batch in Batches(columns, size):
            sample.add(batch)
        found.append(sample)
        assert sample.seen == 2400
    first, second = found
    assert 250 <= len(first.values) <= 500
    assert np.array_equal(first.values, second.values)
    assert len(np.unique(first.vins)) > 55


def test_only_the_first_reading_is_sampled_and_only_of_the_vehicles_that_are_wanted() -> None:
    columns = correlated(cars=30, messages=10)
    judging = set(np.unique(columns.vin)[:6].tolist())
    sample = Sample(CATALOGUE)
    batches = Sampled(Batches(columns), sample, lambda vin: vin not in judging)
    assert [sum(map(len, batches)) for _ in range(2)] == [300, 300]
    assert sample.seen == 240
    assert not judging & set(sample.vins.tolist())


def test_a_reference_is_the_same_after_the_disk_and_a_broken_one_is_refused(
    tmp_path: Path,
) -> None:
    reference = a_reference(np.random.default_rng(0).gamma(2.0, size=2400))
    with pytest.raises(ModelRefusedError, match=r"drift\.json is missing"):
        read_reference(tmp_path)
    path = write_reference(tmp_path, reference)
    assert path == tmp_path / FILE
    assert read_reference(tmp_path) == reference
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ModelRefusedError, match="is not a drift reference"):
        read_reference(tmp_path)


def test_recent_is_what_came_after_what_trained_unless_the_topic_is_new() -> None:
    ranges = [OffsetRange("t", 0, 10, 100), OffsetRange("t", 1, 10, 100), OffsetRange("t", 2, 0, 9)]
    trained = [("t", 0, 0, 60), ("t", 1, 0, 100), ("t", 2, 0, 5000)]
    assert after(ranges, trained) == [OffsetRange("t", 0, 60, 100), OffsetRange("t", 2, 0, 9)]


def test_a_fast_stream_is_read_in_slices_that_cover_all_of_its_time() -> None:
    ranges = [OffsetRange("t", number, 1000, 1_001_000) for number in range(3)]
    found = slices(ranges, most=30_000)
    assert sum(one.records for one in found) == 30_000
    for number in range(3):
        mine = [one for one in found if one.partition == number]
        assert mine[0].start == 1000
        assert mine[-1].start > 900_000
        assert all(one.end <= two.start for one, two in pairwise(mine))
    assert slices(ranges[:1], most=2_000_000) == ranges[:1]
