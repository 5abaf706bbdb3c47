"""A window is its car's own recent past, of one boot, without a gap, however batches are cut."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.windows import Windows, WindowSpec, WindowState

FEATURES = 2
COLUMNS = np.array([2, 0])
CARS = [f"CAR{n:014d}".encode() for n in range(4)]


@dataclass
class Past:
    """A car's past in plain Python: the messages since its window began, bucket by bucket."""

    boot: int
    time: int
    buckets: dict[int, list[list[float]]] = field(default_factory=dict)


def plain(spec: WindowSpec, columns: TelemetryColumns) -> list[tuple[list[list[float]], int]]:
    """(window, filled) of every message, one message after the other."""
    pasts: dict[bytes, Past] = {}
    found = []
    for vin, values, boot, time in zip(
        columns.vin.tolist(),
        columns.values[:, COLUMNS].tolist(),
        columns.boot.tolist(),
        columns.time.tolist(),
        strict=True,
    ):
        past = pasts.get(vin)
        far = past is not None and abs(time - past.time) > spec.max_gap_ms
        if past is not None and (
            boot < past.boot or (boot == past.boot and not far and time < past.time)
        ):
            past = Past(boot, time)  # A straggler stands alone and changes nothing.
        elif past is None or boot != past.boot or far:
            past = pasts[vin] = Past(boot, time)
        past.time = time
        bucket = time // spec.every_ms if spec.every_ms else len(past.buckets)
        past.buckets.setdefault(bucket, []).append(values)
        first = min(past.buckets)
        wanted = range(bucket - spec.rows + 1, bucket + 1)
        found.append(
            (
                [mean(past.buckets.get(one, [])) for one in wanted],
                min(spec.rows, bucket - first + 1),
            )
        )
    return found


def mean(rows: list[list[float]]) -> list[float]:
    out = []
    for feature in range(FEATURES):
        total, count = 0.0, 0
        for row in rows:
            if np.isfinite(row[feature]):
                total += row[feature]
                count += 1
        out.append(total / count if count else np.nan)
    return out


def pushed(spec: WindowSpec, columns: TelemetryColumns, cuts: list[int]) -> Windows:
    state = WindowState(spec, FEATURES)
    bounds = [0, *sorted(cut % (len(columns) + 1) for cut in cuts), len(columns)]
    return Windows.joined(
        [
            state.push(columns.take(np.arange(first, last)), COLUMNS)
            for first, last in pairwise(bounds)
        ]
    )


@st.composite
def streams(draw: st.DrawFn) -> TelemetryColumns:
    n = draw(st.integers(1, 40))
    cars = draw(st.lists(st.integers(0, len(CARS) - 1), min_size=n, max_size=n))
    # Mostly on, sometimes back, sometimes far ahead; sometimes a new boot, rarely an older one.
    steps = draw(
        st.lists(
            st.sampled_from([0, 300, 400, 1000, 2500, -700, 9000, -8000]), min_size=n, max_size=n
        )
    )
    boots = draw(st.lists(st.sampled_from([0] * 12 + [1, 1, -1]), min_size=n, max_size=n))
    numbers = st.one_of(st.just(float("nan")), st.floats(-1e3, 1e3, width=32))
    values = draw(st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=n, max_size=n))
    time, boot = dict.fromkeys(range(len(CARS)), 10**6), dict.fromkeys(range(len(CARS)), 5)
    rows = []
    for car, step, more in zip(cars, steps, boots, strict=True):
        time[car] += step
        boot[car] += more
        rows.append((boot[car], time[car]))
    boot_column, time_column = (np.array([row[i] for row in rows], dtype=np.int64) for i in (0, 1))
    return TelemetryColumns(
        np.array([CARS[car] for car in cars], dtype="S17"),
        np.array(values),
        boot_column,
        np.arange(n),
        time_column,
        time_column,
    )


specs = st.builds(
    WindowSpec,
    rows=st.integers(1, 5),
    every_ms=st.sampled_from([0, 1000]),
    max_gap_ms=st.sampled_from([2000, 6000]),
)


@settings(max_examples=150)
@given(specs, streams(), st.lists(st.integers(0, 40), max_size=5))
def test_windows_are_those_of_a_plain_loop_over_each_car_however_batches_are_cut(
    spec: WindowSpec, columns: TelemetryColumns, cuts: list[int]
) -> None:
    found = pushed(spec, columns, cuts)
    expected = plain(spec, columns)
    np.testing.assert_array_equal(
        found.values, np.array([window for window, _ in expected], dtype=np.float32)
    )
    assert found.filled.tolist() == [filled for _, filled in expected]
    assert found.vin.tolist() == columns.vin.tolist()
    assert found.time.tolist() == columns.time.tolist()


def telemetry(*rows: tuple[bytes, int, int, float]) -> TelemetryColumns:
    """(car, boot, time, value of both features)."""
    vin, boot, time, value = zip(*rows, strict=True)
    n = len(rows)
    return TelemetryColumns(
        np.array(vin, dtype="S17"),
        np.repeat(np.array(value)[:, None], 3, axis=1),
        np.array(boot),
        np.arange(n),
        np.array(time),
        np.array(time),
    )


def test_only_the_wanted_windows_come_out_but_all_messages_go_in() -> None:
    state = WindowState(WindowSpec(rows=2), FEATURES)
    a, b = CARS[:2]
    rows = [(a, 1, 0, 1.0), (b, 1, 0, 2.0), (a, 1, 10, 3.0), (b, 1, 10, 4.0)]
    found = state.push(telemetry(*rows), COLUMNS, np.array([False, False, False, True]))
    assert found.vin.tolist() == [b]
    assert found.values[0, :, 0].tolist() == [2.0, 4.0]


def test_a_forgotten_car_begins_anew_and_its_place_is_used_again() -> None:
    state = WindowState(WindowSpec(rows=2), FEATURES)
    a, b = CARS[:2]
    state.push(telemetry((a, 1, 0, 1.0)), COLUMNS)
    state.forget([a, b])
    assert len(state) == 0
    found = state.push(telemetry((b, 1, 5, 2.0), (a, 1, 5, 3.0)), COLUMNS)
    assert found.filled.tolist() == [1, 1]
    assert np.isnan(found.values[:, 0]).all()


@pytest.mark.parametrize("cars", [63, 64, 65, 300])
def test_any_number_of_cars_is_held_apart(cars: int) -> None:
    state = WindowState(WindowSpec(rows=2), FEATURES)
    vins = [f"{n:017d}".encode() for n in range(cars)]
    state.push(telemetry(*((vin, 1, 0, float(n)) for n, vin in enumerate(vins))), COLUMNS)
    found = state.push(telemetry(*((vin, 1, 9, -1.0) for vin in reversed(vins))), COLUMNS)
    assert found.values[:, 0, 0].tolist() == [float(n) for n in reversed(range(cars))]
    assert len(state) == cars
