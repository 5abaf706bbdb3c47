"""Healthy is what the cars' own diagnosis says, within the horizon."""

import numpy as np

from motorcade.fleet.messages import DiagnosticTroubleCode
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.labels.healthy import Healthy

CAR, OTHER = b"A" * 17, b"B" * 17


def rows(vin: bytes, times: list[int], boot: int = 1) -> TelemetryColumns:
    n = len(times)
    time = np.array(times)
    return TelemetryColumns(
        np.array([vin] * n, dtype="S17"), np.zeros((n, 1)), np.full(n, boot), time, time, time
    )


def code(vin: bytes, time: int, boot: int = 1) -> DiagnosticTroubleCode:
    return DiagnosticTroubleCode(vin.decode(), boot, "P0217", "coolant_leak", time, time)


def test_records_within_the_horizon_before_a_code_do_not_train() -> None:
    healthy = Healthy([code(CAR, 1000)], horizon_ms=100)
    assert healthy.rows(rows(CAR, [899, 900, 1000])).tolist() == [True, False, False]


def test_records_after_a_code_do_not_train_until_the_next_boot() -> None:
    healthy = Healthy([code(CAR, 1000)], horizon_ms=100)
    assert not healthy.rows(rows(CAR, [1001, 5000])).any()
    assert healthy.rows(rows(CAR, [5000], boot=2)).all()


def test_a_later_code_of_the_same_car_counts_too() -> None:
    healthy = Healthy([code(CAR, 1000), code(CAR, 9000, boot=2)], horizon_ms=100)
    assert healthy.rows(rows(CAR, [8000, 8950], boot=2)).tolist() == [True, False]


def test_other_cars_are_untouched() -> None:
    healthy = Healthy([code(CAR, 1000)], horizon_ms=10**9)
    assert healthy.rows(rows(OTHER, [1, 999, 1001])).all()
    assert healthy.failed == 1
