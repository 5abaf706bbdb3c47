"""Models of remaining life: what they read of a boot, how they are chosen, what they tell."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from motorcade.fleet.catalogue import Catalogue, Signal
from motorcade.fleet.messages import DiagnosticTroubleCode
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.errors import ModelRefusedError, TrainingError
from motorcade.ml.features import Scale
from motorcade.ml.history import History
from motorcade.ml.labels.failures import Failures
from motorcade.ml.models.base import FitOptions, TrainingData
from motorcade.ml.models.catalogue import architecture, load_model
from motorcade.ml.training.assemble import Limits
from motorcade.ml.training.learn import Plan
from motorcade.ml.training.lives import (
    Candidate,
    Fitted,
    Lives,
    folds_of,
    gather,
    judge,
    last_fit,
    last_windows,
)
from motorcade.ml.windows import Floats32, WindowSpec

STEP_MS = 60_000
CAP = 60
WINDOW = WindowSpec(rows=150)
NAMES = ("wear", "noise", "load", "still")
CATALOGUE = Catalogue(
    name="engines",
    namespace="test.engines",
    identity="id17",
    signals=tuple(
        Signal(
            name=name,
            unit="1",
            range=(-100, 100),
            precision=6,
            vss=f"overlay:{name}",
            required=True,
            type="float",
            feature=True,
            description=name,
        )
        for name in NAMES
    ),
)


def engine(number: int, test: bool = False) -> TelemetryColumns:
    """A life of 80 to 139 steps: wear grows from an engine's own level, faster near the end."""
    chance = np.random.default_rng(number)
    n = int(chance.integers(80, 140))
    left = np.arange(n)[::-1]
    wear = chance.normal(0, 3) + 4 * np.exp(-left / 40) + 0.1 * chance.normal(size=n)
    values = np.stack([wear, chance.normal(size=n), np.sin(np.arange(n)), np.full(n, 5.0)], axis=1)
    vin = f"ENGINE{'T' if test else '0'}{number:010d}".encode()
    order = np.arange(n, dtype=np.int64)
    if test:
        n -= 25
    same = np.full(n, 1000, dtype=np.int64)
    return TelemetryColumns(
        np.full(n, vin, dtype="S17"),
        values[:n],
        same,
        order[:n] + 1,
        10**9 + order[:n] * STEP_MS,
        same,
    )


ENGINES = [engine(n) for n in range(30)]
TESTS = [engine(n, test=True) for n in range(30, 36)]


def failures() -> Failures:
    return Failures.of(
        DiagnosticTroubleCode(
            one.vin[0].decode(), 1000, "ENDOFLIFE", "end_of_life", int(one.time[-1]), 1
        )
        for one in ENGINES
    )


def part_of(vin: bytes) -> str:
    if vin.startswith(b"ENGINET"):
        return "test"
    return ("train", "validate", "calibrate")[int(vin[-1:]) % 3]


PLAN = Plan(
    horizon_ms=20 * STEP_MS,
    life_cap_ms=CAP * STEP_MS,
    limits=Limits(windows=1500, records=100),
)


@pytest.fixture(scope="module")
def lives() -> Lives:
    return gather(CATALOGUE, [*ENGINES, *TESTS], failures(), part_of, [WINDOW], PLAN)


@pytest.fixture(scope="module")
def fitted(lives: Lives) -> Fitted:
    return last_fit(lives, judge(lives, candidate("life-ensemble"), 3, silent), 3, silent)


def candidate(name: str, **extra: float | str) -> Candidate:
    return Candidate(name, architecture(name), WINDOW, FitOptions(extra=extra))


def silent(_: object) -> None:
    """Nobody watches."""


def history(**changes: Any) -> History:
    scale = Scale(NAMES, np.zeros(4), np.ones(4), np.array([True, True, False, False]))
    return History(scale, **changes)


def window(*samples: float, rows: int = 8) -> Floats32:
    values: Floats32 = np.full((1, rows, 4), np.nan, dtype=np.float32)
    for position, sample in enumerate(samples):
        values[0, rows - len(samples) + position] = sample
    return values


def test_a_boot_is_its_recent_mean_its_distance_from_its_beginning_and_its_age() -> None:
    columns = history(fade=0.5, late=2, early=2).of(window(1, 3, 10, 20))[0]

    recent = (20 + 10 / 2 + 3 / 4 + 1 / 8) / (1 + 1 / 2 + 1 / 4 + 1 / 8)
    assert columns[:2] == pytest.approx(recent, rel=1e-6)
    assert columns[2:4] == pytest.approx(15 - 2)
    assert columns[4:] == pytest.approx([4, np.log(4)])


def test_what_a_boot_lacks_leaves_the_rest_as_it_is() -> None:
    values = window(1, 3, 10, 20)
    values[0, -3:, 1] = np.nan
    values[0, :, 0] = np.nan

    columns = history(fade=0.5, late=2, early=2).of(values)[0]

    assert columns[[0, 2]].tolist() == [0, 0]  # the fleet's mean, not moved
    assert columns[1] == pytest.approx(1)
    assert columns[3] == 0
    assert columns[4] == 4


def test_every_engine_is_judged_by_models_that_never_saw_it(lives: Lives) -> None:
    seen: list[tuple[set[bytes], set[bytes]]] = []
    real = architecture("life-ridge")

    class Spy:
        name, objective, window, baseline = "life-ridge", real.objective, WINDOW, True

        def fit(self, data: TrainingData, how: FitOptions, watch: Any) -> Any:
            vins = set(data.train.windows.vin.tolist()), set(data.validate.windows.vin.tolist())
            seen.append(vins)
            return real.fit(data, how, watch)

        def load(self, *arguments: Any) -> Any:
            return real.load(*arguments)

    judge(lives, Candidate("spy", Spy(), WINDOW, FitOptions()), 5, silent)

    everyone = {one.vin[0] for one in ENGINES}
    assert [len(out) for _, out in seen] == [6] * 5
    assert set().union(*(out for _, out in seen)) == everyone
    for learnt, out in seen:
        assert learnt == everyone - out  # and no test engine is in either


def test_the_kernel_the_trees_and_their_mean_beat_a_line(lives: Lives) -> None:
    errors = {
        name: judge(lives, candidate(name, trees=60), 3, silent).error / STEP_MS
        for name in ("life-ridge", "life-trees", "life-kernel", "life-ensemble")
    }

    assert max(errors[n] for n in ("life-kernel", "life-ensemble")) < errors["life-ridge"]
    assert errors["life-ensemble"] < 8


def test_shuffled_lives_teach_nothing(lives: Lives) -> None:
    order = np.random.default_rng(0).permutation(len(lives.examples[WINDOW]))
    examples = lives.examples[WINDOW]
    lied = examples.__class__(
        examples.windows,
        examples.failure_ms[order],
        examples.observed_ms[order],
        examples.after_failure,
        examples.weight,
        examples.kinds,
    )
    honest = judge(lives, candidate("life-kernel"), 3, silent).error
    fooled = judge(lives._replace(examples={WINDOW: lied}), candidate("life-kernel"), 3, silent)

    assert fooled.error > 2 * honest


def test_the_last_model_tells_the_lives_of_test_engines_and_says_the_same_when_stored(
    fitted: Fitted,
) -> None:
    last = last_windows(CATALOGUE, TESTS, part_of, [WINDOW])[WINDOW]

    told = fitted.model.score(last.values)

    assert last.time.tolist() == [int(one.time[-1]) for one in TESTS]
    assert np.abs(told.life / STEP_MS - 25).max() < 20  # each was cut short 25 steps before
    assert np.sqrt(np.mean((told.life / STEP_MS - 25) ** 2)) < 9
    np.testing.assert_allclose(told.score, 1 - told.life / (CAP * STEP_MS))
    assert set(told.kind.tolist()) == {0}
    assert (told.top[:, 0] == 0).mean() > 0.5  # wear moved most
    again = load_model(fitted.model.manifest, fitted.weights, CATALOGUE).score(last.values)
    np.testing.assert_array_equal(again.life, told.life)
    alone = np.concatenate(
        [fitted.model.score(last.values[n : n + 1]).life for n in range(len(last))]
    )
    np.testing.assert_allclose(alone.astype(np.float32), told.life.astype(np.float32))


@pytest.mark.parametrize("broken", ["centre", "kernel/support", "kernel/shape", "trees/child"])
def test_weights_that_do_not_fit_are_refused(fitted: Fitted, broken: str) -> None:
    weights: Mapping[str, NDArray[Any]] = fitted.weights

    with pytest.raises(ModelRefusedError):
        load_model(
            fitted.model.manifest,
            {**weights, broken: weights[broken][:-1]},
            CATALOGUE,
        )
    with pytest.raises(ModelRefusedError):
        load_model(
            fitted.model.manifest,
            {name: one for name, one in weights.items() if name != broken},
            CATALOGUE,
        )


def test_settings_that_do_not_exist_and_too_few_vehicles_are_said(lives: Lives) -> None:
    with pytest.raises(TrainingError, match="knows fade, late"):
        judge(lives, candidate("life-kernel", depth=3), 2, silent)
    with pytest.raises(TrainingError, match=r"30 vehicles .* into 31 groups"):
        judge(lives, candidate("life-kernel"), 31, silent)


def test_the_groups_are_even_and_the_same_for_a_seed() -> None:
    vins = np.concatenate([one.vin for one in ENGINES])
    vehicle = np.unique(vins, return_inverse=True)[1]

    fold = folds_of(vins, 4, seed=1)

    np.testing.assert_array_equal(fold, folds_of(vins, 4, seed=1))
    assert (fold != folds_of(vins, 4, seed=2)).any()
    groups = [set(vehicle[fold == number].tolist()) for number in range(4)]
    assert sorted(map(len, groups)) == [7, 7, 8, 8]
    assert sum(map(len, groups)) == len(set().union(*groups))
