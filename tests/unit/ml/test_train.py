"""Training refuses data that cannot teach, before it trains; what it does is repeatable."""

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from motorcade.fleet.avro import telemetry_schema
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.messages import DiagnosticTroubleCode
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.errors import RangeError, TrainingError
from motorcade.ml.store import Manifest, Weights
from motorcade.ml.train import Progress, Request, learn

from .telemetry import CATALOGUE, Batches, correlated


def attempt(
    columns: TelemetryColumns, codes: tuple[DiagnosticTroubleCode, ...] = (), **request: object
) -> tuple[Manifest, Weights]:
    return learn(
        CATALOGUE,
        Batches(columns),
        len(columns),
        codes,
        Request(**({"epochs": 1} | request)),  # type: ignore[arg-type]
        lambda _: None,
    )


def test_too_few_records_are_refused_with_the_number_needed() -> None:
    with pytest.raises(TrainingError, match="Only 300 of 300 records can train: at least 1000"):
        attempt(correlated(cars=30, messages=10))


def test_too_few_vehicles_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"of 5 vehicle\(s\): at least 10"):
        attempt(correlated(cars=5, messages=300))


def test_cars_that_do_not_move_cannot_teach_and_the_signals_are_named() -> None:
    columns = correlated()
    columns.values[:, CATALOGUE.feature_columns[:10]] = 50.0
    with pytest.raises(TrainingError, match=r"10 of 18 features are absent or constant.*speed"):
        attempt(columns)


def test_records_below_the_minimum_coverage_do_not_count() -> None:
    columns = correlated()
    columns.values[:1000, CATALOGUE.feature_columns[:10]] = np.nan
    with pytest.raises(TrainingError, match="Only 800 of 1800 records can train"):
        attempt(columns)


def test_a_schema_without_a_feature_is_refused_by_name() -> None:
    columns = correlated()
    document = CATALOGUE.model_dump()
    document["signals"] = [s for s in document["signals"] if s["name"] != "throttle_pos"]
    schema = telemetry_schema(Catalogue.model_validate(document))
    with pytest.raises(TrainingError, match="schema 7 lacks the feature throttle_pos"):
        learn(
            CATALOGUE,
            Batches(columns),
            len(columns),
            [],
            Request(),
            lambda _: None,
            lambda: {7: schema},
        )


def test_cars_that_failed_soon_after_do_not_train() -> None:
    columns = correlated()
    failed = sorted(set(columns.vin.tolist()))[:3]
    last = int(columns.time.max())
    codes = tuple(
        DiagnosticTroubleCode(v.decode(), 1, "P0217", "coolant_leak", last, last) for v in failed
    )
    manifest, _ = attempt(columns, codes, horizon_ms=10**9)
    assert manifest.origin.vehicles["failed"] == 3
    assert sum(manifest.origin.vehicles[p] for p in ("train", "validate", "hold")) == 27
    assert manifest.origin.records["unusable"] == 3 * 60


def test_the_manifest_says_what_trained(learnt: tuple[Manifest, Weights]) -> None:
    manifest, _ = learnt
    assert manifest.origin.vehicles == {"train": 22, "validate": 4, "hold": 4, "failed": 0}
    assert manifest.origin.records == {
        "train": 22 * 60,
        "validate": 4 * 60,
        "hold": 4 * 60,
        "read": 1800,
        "unusable": 0,
    }
    assert manifest.features == list(CATALOGUE.features)
    assert manifest.metrics["held_back_peak"] <= 2


def test_the_same_range_and_seed_give_the_same_model(learnt: tuple[Manifest, Weights]) -> None:
    manifest, weights = attempt(correlated(), epochs=12)
    same = msgspec.structs.replace(manifest, created=learnt[0].created)
    assert same == learnt[0]
    assert all(np.array_equal(weights[name], learnt[1][name]) for name in weights)


def test_another_seed_splits_the_vehicles_otherwise(learnt: tuple[Manifest, Weights]) -> None:
    manifest, _ = attempt(correlated(), seed=1)
    assert manifest.mean != learnt[0].mean


def test_progress_is_told_from_reading_to_the_last_epoch() -> None:
    told: list[Progress] = []
    columns = correlated()
    learn(CATALOGUE, Batches(columns), len(columns), [], Request(epochs=2), told.append)
    assert [p.phase for p in told if p.done == p.total] == [
        "reading",
        "preparing",
        "training",
        "training",
    ]
    assert told[0] == Progress("reading", 0, 1800)


class Expiring:
    """Batches whose range Kafka removes after it was read twice."""

    def __init__(self, columns: TelemetryColumns) -> None:
        self._batches = Batches(columns)
        self._left = 2

    def __iter__(self) -> Iterator[TelemetryColumns]:
        if not self._left:
            raise RangeError("telemetry[3] no longer holds offset 5.")
        self._left -= 1
        return iter(self._batches)


def test_a_range_that_expires_while_training_ends_in_its_own_error() -> None:
    columns = correlated()
    with pytest.raises(RangeError, match=r"telemetry\[3\] no longer holds"):
        learn(CATALOGUE, Expiring(columns), len(columns), [], Request(epochs=2), lambda _: None)
