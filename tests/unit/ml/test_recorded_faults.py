"""Faults put into recordings change what they should, from their onset on, and nothing else."""

import numpy as np
import pytest

from bench.recorded_faults.__main__ import FAULT_S, HERE, INTERVAL_MS, as_messages, codes_of
from bench.recorded_faults.inject import COOLANT_C, FAULTS, TRIM
from bench.recorded_faults.judge import Fold, summed_up
from motorcade.fleet.catalogue import load_catalogue
from motorcade.ml.judging.observe import Streams
from motorcade.simulator.recorded import RecordedDrive

CATALOGUE = load_catalogue(HERE / "signals.yaml")
TOUCHED = {
    "coolant drift": {"coolant_temp"},
    "stuck throttle sensor": {"throttle_pos"},
    "stuck manifold pressure sensor": {"manifold_pressure"},
    "misfire-like trims": {"long_term_fuel_trim", "short_term_fuel_trim", "engine_rpm"},
}
#: Half an hour at one row a second, each signal about the middle of its range.
DRIVE = RecordedDrive(
    "drive.csv",
    np.arange(len(CATALOGUE.names)),
    (CATALOGUE.low + CATALOGUE.high) / 2
    + (CATALOGUE.high - CATALOGUE.low)
    * np.random.default_rng(1).uniform(-0.1, 0.1, (1800, len(CATALOGUE.names))),
    1000,
)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_changes_its_signals_from_its_onset_on(fault: str) -> None:
    clean, worn = as_messages(DRIVE, 3, CATALOGUE), as_messages(DRIVE, 3, CATALOGUE, fault)
    assert clean.onset == len(clean.columns) == 1800 * 1000 // INTERVAL_MS
    assert worn.onset == len(clean.columns) - FAULT_S * 1000 // INTERVAL_MS
    assert worn.columns.vin[0] != clean.columns.vin[0]
    before, after = np.arange(worn.onset), np.arange(worn.onset + 1, len(clean.columns))
    assert np.array_equal(worn.columns.values[before], clean.columns.values[before])
    changed = (worn.columns.values[after] != clean.columns.values[after]).any(axis=0)
    assert {name for name, one in zip(CATALOGUE.names, changed, strict=True) if one} == TOUCHED[
        fault
    ]
    assert (worn.columns.values >= CATALOGUE.low).all()
    assert (worn.columns.values <= CATALOGUE.high).all()
    (code,) = codes_of([clean, worn])
    assert (code.code, code.vin) == (fault, worn.columns.vin[0].decode())
    assert code.time > worn.columns.time[-1]


def test_drifts_grow_to_their_size_and_stuck_sensors_tell_what_they_told_last() -> None:
    clean = as_messages(DRIVE, 0, CATALOGUE).columns.values
    column = CATALOGUE.column("coolant_temp")
    warm = as_messages(DRIVE, 0, CATALOGUE, "coolant drift").columns.values
    assert (warm - clean)[-1, column] == pytest.approx(COOLANT_C)
    column = CATALOGUE.column("long_term_fuel_trim")
    rich = as_messages(DRIVE, 0, CATALOGUE, "misfire-like trims").columns.values
    assert (rich - clean)[-1, column] == pytest.approx(TRIM)
    stuck = as_messages(DRIVE, 0, CATALOGUE, "stuck throttle sensor")
    told = stuck.columns.values[stuck.onset :, CATALOGUE.column("throttle_pos")]
    assert (told == told[0]).all()


def test_an_alert_after_the_onset_finds_a_fault_and_one_in_a_clean_drive_is_false() -> None:
    fault, *others = FAULTS
    drives = [as_messages(DRIVE, 0, CATALOGUE, name) for name in ("", fault, *others)]
    rows = len(drives[0].columns)
    vehicle = np.repeat(np.arange(len(drives), dtype=np.int32), rows)
    score = np.random.default_rng(1).uniform(0, 0.4, len(vehicle))
    onset = drives[1].onset
    score[rows + onset + 10 : 2 * rows] = 0.9  # the fault, ten messages late
    score[100:110] = 0.6  # noise in the clean drive that is almost as bad
    fold = Fold(drives, Streams.of(vehicle, len(drives)), score, 0.5)
    found = summed_up("made up", [fold], INTERVAL_MS)
    assert found["hours"] == 0.5
    assert found["false_alerts"] == 1
    # An alert takes four anomalous messages in a row, so it comes with the fourteenth.
    row = found["faults"][fault]
    assert (row["drives"], row["found"], row["recall"]) == (1, 1, 1.0)
    assert row["delay_median_minutes"] == pytest.approx(13 * INTERVAL_MS / 60_000)
    assert [found["faults"][name]["found"] for name in others] == [0, 0, 0]
    # A budget of less than one alert in the half hour takes a threshold above the noise.
    assert found["false_alerts_within"] == {"0.1": 0, "0.5": 0}
    assert row["found_within"] == {"0.1": 1, "0.5": 1}
