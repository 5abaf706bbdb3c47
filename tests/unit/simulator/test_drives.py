"""Recordings become drives in the catalogue's units, or an error that names file and line."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from motorcade.fleet.catalogue import parse_catalogue
from motorcade.fleet.clock import RunClock
from motorcade.simulator.blocks import block_of
from motorcade.simulator.population import FleetPlan, plan_faults
from motorcade.simulator.recorded import RecordingError, load_drives, load_mapping
from motorcade.simulator.wear import PlannedFault, WearError, WearKind
from tests.unit.simulator.fleets import CATALOGUE, START_MS, column

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


TRAMS = """
name: trams
namespace: org.example.trams
identity: id17
signals:
  - {name: motor_power, unit: W, range: [0, 500000], precision: 0, vss: "overlay:Motor.Power",
     required: true, type: float, feature: true, description: "Electric power of the motors"}
  - {name: door_open, unit: "1", range: [0, 1], precision: 0, vss: "overlay:Door.IsOpen",
     required: false, type: float, feature: true, description: "Whether a door is open"}
"""
DESCRIPTION = """
dataset: our trams
source: https://example.org/trams
citation: none
interval_ms: 500
delimiter: ";"
columns:
  - {column: motor_kw, signal: motor_power, scale: 1000}
  - {column: door, signal: door_open}
ignored: ["*"]
"""
RIDE = "line;motor_kw;door\n" + "".join(f"7;{kw};{kw % 2}\n" for kw in range(10, 30))


@pytest.fixture
def trams(tmp_path: Path) -> Path:
    """A folder of made-up recordings of another fleet, with their description."""
    (tmp_path / "recordings.yaml").write_text(DESCRIPTION, encoding="utf-8")
    for number in (1, 2):
        (tmp_path / f"ride{number}.csv").write_text(RIDE.replace("7;1", f"7;{number}1"))
    return tmp_path


def test_a_users_own_catalogue_and_description_replay_as_any_number_of_cars(trams: Path) -> None:
    catalogue = parse_catalogue(TRAMS, "trams.yaml")
    drives = load_drives(trams, catalogue)
    assert [drive.name for drive in drives] == ["ride1.csv", "ride2.csv"]
    plan = FleetPlan(1, catalogue, RunClock(0, START_MS, 1.0), tuple(drives), 1000)
    block = block_of(plan, np.arange(6))
    rows = np.arange(6)
    assert block.sample(rows)[:2, 0].tolist() == [110_000, 210_000]
    block.step(START_MS + 5000)  # ten rows on
    assert block.sample(rows)[:2, 0].tolist() == [20_000, 20_000]
    assert block.sample(rows)[:2, 1].tolist() == [0, 0]
    powers = block.sample(rows)[:, 0]
    assert len(set(powers[::2])) == 3, "cars of one recording are at places of their own"
    assert not np.isnan(powers).any()
    with pytest.raises(WearError, match="Car 5 replays a recording"):
        block.begin_wear([PlannedFault(5, WearKind.MISFIRE, START_MS, 60.0)])
    assert plan_faults(plan, 6, 0, [WearKind.MISFIRE], START_MS) == []


def test_a_description_may_lie_elsewhere_than_its_recordings(trams: Path) -> None:
    elsewhere = trams / "notes" / "mine.yaml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(DESCRIPTION + "folder: ..\n")
    catalogue = parse_catalogue(TRAMS, "trams.yaml")
    assert len(load_drives(elsewhere, catalogue)) == 2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("motor_power", "power"), "the signal 'power', which the catalogue 'trams' does not have"),
        (("motor_kw", "motor"), r"ride1\.csv, line 1: the column 'motor' is missing"),
        (
            ("interval_ms: 500", "interval_ms: 0"),
            r"recordings\.yaml: interval_ms: .*greater than 0",
        ),
        (('ignored: ["*"]', "ignored: [lane]"), "line 1: column 'LINE' is not known"),
        (("columns:", "colums:"), r"recordings\.yaml: columns: Field required"),
        (('delimiter: ";"', 'delimiter: ";;"'), "delimiter: .*at most 1 character"),
    ],
)
def test_a_description_that_does_not_fit_says_where(
    trams: Path, change: tuple[str, str], complaint: str
) -> None:
    path = trams / "recordings.yaml"
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(RecordingError, match=complaint):
        load_drives(trams, parse_catalogue(TRAMS, "trams.yaml"))
