"""Recordings become drives in the catalogue's units, or an error that names file and line."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from motorcade.simulator.recorded import RecordingError, load_drives, load_mapping
from tests.unit.simulator.fleets import CATALOGUE, column

HEADER = (
    "ENGINE_RUN_TINE (),ENGINE_RPM (),VEHICLE_SPEED (),THROTTLE (),ENGINE_LOAD (),"
    "COOLANT_TEMPERATURE (),INTAKE_AIR_TEMP (),CONTROL_MODULE_VOLTAGE (),FUEL_TANK ()\n"
)
ROW = "0.0, 1500.0, 36.0, 20.0, 30.5, 88.0, 41.0, 13.8, 50.0,\n"


def _write(folder: Path, text: str, name: str = "drive1.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_columns_and_units_are_mapped_and_the_rest_stays_absent(tmp_path: Path) -> None:
    (drive,) = load_drives(_write(tmp_path, HEADER + ROW * 3), CATALOGUE)
    read = dict(zip(drive.columns.tolist(), drive.values[0].tolist(), strict=True))
    assert read[column("speed")] == pytest.approx(10.0)
    assert read[column("throttle_pos")] == pytest.approx(0.2)
    assert read[column("engine_rpm")] == 1500
    assert read[column("engine_load")] == 30.5
    assert read[column("coolant_temp")] == 88
    assert read[column("intake_air_temp")] == 41
    assert read[column("battery_voltage")] == pytest.approx(13.8)
    assert column("intake_air_flow_speed") not in read
    assert drive.duration_s == 3
    assert drive.rejected == 0


def test_drives_come_in_natural_order_packed_or_not(tmp_path: Path) -> None:
    _write(tmp_path, HEADER + ROW, "drive10.csv")
    (tmp_path / "drive2.csv.gz").write_bytes(gzip.compress((HEADER + ROW).encode()))
    _write(tmp_path, "no recording", "README.txt")
    assert [d.name for d in load_drives(tmp_path, CATALOGUE)] == ["drive2.csv.gz", "drive10.csv"]


def test_windows_line_ends_blank_lines_and_rows_without_the_last_columns_are_read(
    tmp_path: Path,
) -> None:
    short = ROW.rsplit(" 50.0", 1)[0] + "\r\n"
    text = HEADER.replace("\n", "\r\n") + short + "\r\n" + short
    (drive,) = load_drives(_write(tmp_path, text), CATALOGUE)
    assert len(drive.values) == 2


def test_a_value_out_of_range_is_absent_and_counted(tmp_path: Path) -> None:
    hot = ROW.replace("88.0", "999.0")
    (drive,) = load_drives(_write(tmp_path, HEADER + ROW + hot), CATALOGUE)
    at = drive.columns.tolist().index(column("coolant_temp"))
    assert np.isnan(drive.values[1, at])
    assert drive.rejected == 1


def test_an_empty_cell_is_absent(tmp_path: Path) -> None:
    (drive,) = load_drives(_write(tmp_path, HEADER + ROW.replace("41.0", "")), CATALOGUE)
    assert np.isnan(drive.values).sum() == 1


def test_a_last_line_cut_off_in_recording_is_left_out(tmp_path: Path) -> None:
    (drive,) = load_drives(_write(tmp_path, HEADER + ROW * 2 + "0.0, 150"), CATALOGUE)
    assert len(drive.values) == 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (HEADER + ROW + "0.0, 15\n" + ROW, r"drive1\.csv, line 3: has 2 cells, 8 are needed"),
        (HEADER + ROW.replace("88.0", "warm") + ROW, r"line 2: 'warm' is not a number"),
        (HEADER.replace("FUEL_TANK", "MOOD") + ROW, r"line 1: column 'MOOD' is not known"),
        (HEADER.replace("ENGINE_RPM ()", "FUEL_TANK ()"), r"line 1: the column 'ENGINE_RPM'"),
        (HEADER, "holds a header but no row"),
        ("", "is empty"),
    ],
)
def test_a_bad_recording_is_named_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(RecordingError, match=complaint):
        load_drives(_write(tmp_path, text), CATALOGUE)


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    packed = gzip.compress((HEADER + ROW * 500).encode())
    (tmp_path / "drive1.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(RecordingError, match=r"drive1\.csv\.gz cannot be read"):
        load_drives(tmp_path, CATALOGUE)


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="holds no"):
        load_drives(tmp_path, CATALOGUE)
    with pytest.raises(RecordingError, match="is not a folder"):
        load_drives(tmp_path / "nowhere", CATALOGUE)


def test_a_mapping_that_lacks_a_required_signal_is_refused(tmp_path: Path) -> None:
    mapping = load_mapping()
    left = tuple(c for c in mapping.columns if c.signal != "coolant_temp")
    with pytest.raises(RecordingError, match="no column for coolant_temp"):
        load_drives(tmp_path, CATALOGUE, mapping.model_copy(update={"columns": left}))


def test_a_bad_mapping_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("dataset: mine\n", encoding="utf-8")
    with pytest.raises(RecordingError, match=r"mine\.yaml: source: Field required"):
        load_mapping(path)
    with pytest.raises(RecordingError, match="cannot be read"):
        load_mapping(tmp_path / "none.yaml")
