"""Training refuses data that cannot teach, before it trains; what it does is repeatable."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from motorcade.fleet.messages import DiagnosticTroubleCode
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.errors import RangeError, TrainingError
from motorcade.ml.models.autoencoder import ARCHITECTURE
from motorcade.ml.models.reconstruction import in_chunks
from motorcade.ml.store import Manifest, Weights
from motorcade.ml.training.calibrate import too_few
from motorcade.ml.training.checkpoints import Progress
from motorcade.ml.training.learn import Candidate, Plan
from motorcade.ml.training.lesson import Earlier

from .learning import Unwatched, learnt_by
from .telemetry import CATALOGUE, Batches, correlated


def attempt(columns: TelemetryColumns, **options: Any) -> Candidate:
    return learnt_by(ARCHITECTURE, columns, **({"epochs": 1} | options))


def test_too_few_records_are_refused_with_the_number_needed() -> None:
    with pytest.raises(TrainingError, match="Only 240 of 300 records can train: at least 1000"):
        attempt(correlated(cars=30, messages=10))


def test_too_few_vehicles_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"of 5 vehicle\(s\): at least 10"):
        attempt(correlated(cars=5, messages=400))


def test_records_below_the_minimum_coverage_do_not_count() -> None:
    columns = correlated()
    columns.values[:1000, CATALOGUE.feature_columns[:10]] = np.nan
    with pytest.raises(TrainingError, match=r"Only 6\d\d of 1800 records can train"):
        attempt(columns)


def test_cars_that_fail_soon_after_do_not_train() -> None:
    columns = correlated()
    failed = sorted(set(columns.vin.tolist()))[:3]
    theirs = np.isin(columns.vin, failed)
    last, boot = int(columns.time.max()), int(columns.boot[0])
    codes = [
        DiagnosticTroubleCode(v.decode(), boot, "P0217", "coolant_leak", last, last) for v in failed
    ]
    columns.values[theirs] *= 50
    plan = Plan(horizon_ms=10**9)
    learnt_from_all = attempt(columns, plan=plan).manifest
    manifest = attempt(columns, codes=codes, plan=plan).manifest
    assert manifest.origin.vehicles["failed"] == 3
    middle = (CATALOGUE.low + CATALOGUE.high)[CATALOGUE.feature_columns] / 2
    width = (CATALOGUE.high - CATALOGUE.low)[CATALOGUE.feature_columns]
    away = np.abs(np.array([manifest.mean, learnt_from_all.mean]) - middle) / width
    assert away[0].max() < 0.2 < away[1].max()


def test_the_manifest_says_what_trained(learnt: tuple[Manifest, Weights]) -> None:
    manifest, _ = learnt
    vehicles = {"train": 18, "validate": 3, "calibrate": 3, "test": 6}
    assert manifest.origin.vehicles == vehicles | {"failed": 0}
    assert manifest.origin.records == {
        "train": 18 * 60,
        "validate": 3 * 60,
        "calibrate": 3 * 60,
        "read": 1800,
        "unusable": 0,
    }
    assert manifest.features == list(CATALOGUE.features)
    assert manifest.metrics["held_back_peak"] <= 2


def test_a_threshold_of_few_cars_is_said_to_prove_little(learnt: tuple[Manifest, Weights]) -> None:
    manifest, _ = learnt
    # Three cars, a message a minute.
    days = manifest.metrics["held_back_days"]
    assert days == pytest.approx(3 * 59 / (24 * 60))
    said = too_few(manifest)
    assert "0.12 healthy vehicle-days of 3 cars" in said
    assert "100 such days, a data set of about 24,000 cars" in said
    enough = manifest.metrics | {"held_back_days": 101.0}
    assert not too_few(msgspec.structs.replace(manifest, metrics=enough))
    none = manifest.metrics | {"held_back_days": 0.0}
    assert "0 healthy vehicle-days" in too_few(msgspec.structs.replace(manifest, metrics=none))


def test_the_same_rows_and_seed_give_the_same_model_however_batches_are_cut(
    learnt: tuple[Manifest, Weights],
) -> None:
    columns = correlated()
    told: list[Progress] = []
    empty = columns.take(np.arange(0))
    batches = [empty, *Batches(columns, 77), empty]
    again = attempt(columns, batches=batches, epochs=12, tell=told.append)
    same = msgspec.structs.replace(again.manifest, created=learnt[0].created)
    assert same == learnt[0]
    assert all(np.array_equal(again.weights[name], learnt[1][name]) for name in learnt[1])
    assert told[0] == Progress("reading", 0, 1800)
    assert told[-1] == Progress("calibrating", 1800, 1800)


class Interrupted(Unwatched):
    """Is stopped once, after some epochs; the next run finds what was kept."""

    def __init__(self, after: int) -> None:
        self._after = after
        self.kept: tuple[int, dict[str, NDArray[Any]]] | None = None

    def checkpoint(self, epoch: int, state: Mapping[str, NDArray[Any]]) -> None:
        resumed = self.kept is not None and epoch > self._after
        self.kept = epoch, {name: value.copy() for name, value in state.items()}
        if epoch == self._after and not resumed:
            raise KeyboardInterrupt

    def resume(self) -> tuple[int, dict[str, NDArray[Any]]] | None:
        return self.kept


def test_an_interrupted_training_ends_as_if_it_had_not_been(
    learnt: tuple[Manifest, Weights],
) -> None:
    watch = Interrupted(after=5)
    with pytest.raises(KeyboardInterrupt):
        attempt(correlated(), epochs=12, watch=watch)
    again = attempt(correlated(), epochs=12, watch=watch)
    assert again.manifest.metrics == learnt[0].metrics
    assert all(np.array_equal(again.weights[name], learnt[1][name]) for name in learnt[1])


def test_of_no_window_nothing_is_computed_and_nothing_fails() -> None:
    nothing = np.empty((0, 3, 2), dtype=np.float32)
    rows: list[int] = []

    def graph(windows: Any) -> list[Any]:
        rows.append(len(windows))
        return [windows.sum(axis=(1, 2))]

    (found,) = in_chunks(graph, nothing)
    assert len(found) == 0
    assert min(rows) > 0


def test_training_up_to_a_moment_sees_nothing_of_it_or_later() -> None:
    columns = correlated()
    moment = int(columns.time[900])
    seen = TelemetryColumns.joined(list(Earlier(Batches(columns), moment)))
    assert seen.seq.tolist() == columns.seq[columns.time < moment].tolist()


class Expiring:
    """Batches whose range Kafka removes after it was read once."""

    def __init__(self, columns: TelemetryColumns) -> None:
        self._batches = Batches(columns)
        self._left = 1

    def __iter__(self) -> Iterator[TelemetryColumns]:
        if not self._left:
            raise RangeError("telemetry[3] no longer holds offset 5.")
        self._left -= 1
        return iter(self._batches)


def test_a_range_that_expires_while_training_ends_in_its_own_error() -> None:
    columns = correlated()
    with pytest.raises(RangeError, match=r"telemetry\[3\] no longer holds"):
        attempt(columns, batches=Expiring(columns))
