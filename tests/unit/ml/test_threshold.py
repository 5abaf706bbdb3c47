"""The threshold lets no held-back healthy car come near an alert."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from motorcade.ml.training.threshold import MARGIN, PEAK, choose, peaks


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.booleans()), max_size=40))
def test_peaks_are_those_of_a_counter_walked_message_by_message(
    messages: list[tuple[bytes, bool]],
) -> None:
    level = {b"a": 0, b"b": 0, b"c": 0}
    highest = dict.fromkeys({vin for vin, _ in messages}, 0)
    for vin, above in messages:
        level[vin] = level[vin] + 1 if above else max(0, level[vin] - 1)
        highest[vin] = max(highest[vin], level[vin])
    if not messages:
        return
    scores = np.array([2.0 if above else 0.5 for _, above in messages])
    vins = np.array([vin for vin, _ in messages], dtype="S17")
    assert peaks(scores, vins, np.arange(len(messages)), 1.0) == highest


@given(st.integers(0, 200))
def test_no_held_back_car_passes_the_peak_even_without_the_margin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vins = np.repeat(np.array([b"car%d" % i for i in range(12)], dtype="S17"), 50)
    times = np.tile(np.arange(50), 12)
    # One car is unlike the others: its scores are high all the time.
    scores = rng.gamma(2, 1, size=600) * np.where(vins == b"car3", rng.uniform(1, 20), 1)
    threshold = choose(scores, vins, times)
    assert max(peaks(scores, vins, times, threshold / MARGIN).values()) <= PEAK


def test_among_alike_cars_it_is_the_quantile_with_its_margin() -> None:
    rng = np.random.default_rng(1)
    scores = rng.uniform(0, 1, 10_000)
    vins = np.repeat(np.array([b"car%d" % i for i in range(100)], dtype="S17"), 100)
    threshold = choose(scores, vins, np.tile(np.arange(100), 100))
    assert threshold == np.quantile(scores, 0.995) * MARGIN
