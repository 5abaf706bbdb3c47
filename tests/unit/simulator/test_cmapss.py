"""C-MAPSS files are read as lives, and what is odd in them is named with file and line."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from motorcade.fleet.catalogue import load_catalogue, shipped_catalogue
from motorcade.fleet.vin import is_vehicle_id
from motorcade.simulator.replay.cmapss import (
    FAILED,
    ReplayError,
    held_vehicles,
    read_truth,
    read_turbofans,
    vehicle_of,
)

CATALOGUE = load_catalogue(shipped_catalogue("cmapss"))
#: A line of the real data set, without unit and cycle.
VALUES = (
    "-0.0007 -0.0004 100.0 518.67 641.82 1589.70 1400.60 14.62 21.61 554.36 2388.06 9046.19 1.30 "
    "47.47 521.66 2388.02 8138.62 8.4195 0.03 392 2388 100.00 39.06 23.4190"
)


def lines(*cycles: int) -> list[str]:
    return [
        f"{unit} {cycle} {VALUES}  "
        for unit, most in enumerate(cycles, 1)
        for cycle in range(1, most + 1)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train_FD001.txt").write_text("\n".join(lines(3, 2)) + "\n")
    with gzip.open(tmp_path / "test_FD001.txt.gz", "wt") as text:
        text.write("\n".join(lines(1, 2, 1)) + "\n")
    (tmp_path / "RUL_FD001.txt").write_text("112 \n98 \n7 \n")
    return tmp_path


def test_engines_are_lives_with_ids_of_their_own_plain_or_compressed(folder: Path) -> None:
    fans = read_turbofans(folder, "FD001", CATALOGUE)

    assert [life.vehicle for life in fans.train] == ["CMAPSSFD001000001", "CMAPSSFD001000002"]
    assert fans.test[0].vehicle == "CMAPSSFD001100001"
    assert [len(life) for life in fans.lives] == [3, 2, 1, 2, 1]
    assert [life.ending for life in fans.lives] == [FAILED, FAILED, None, None, None]
    assert fans.train[0].values[0].tolist() == [float(word) for word in VALUES.split()]


def test_the_truth_is_a_number_of_cycles_for_each_test_engine(folder: Path) -> None:
    assert read_truth(folder, "FD001", 3).tolist() == [112, 98, 7]

    with pytest.raises(ReplayError, match="truth of 3 engines, test_FD001 holds 4"):
        read_truth(folder, "FD001", 4)
    (folder / "RUL_FD001.txt").write_text("112\n9.5\n")
    with pytest.raises(ReplayError, match=r"RUL_FD001\.txt:2: '9\.5' is not a number of cycles"):
        read_truth(folder, "FD001", 2)


def test_ids_tell_the_official_parts_apart() -> None:
    train, test = vehicle_of("FD001", "train", 7), vehicle_of("FD001", "test", 7)

    assert train == "CMAPSSFD001000007"
    assert is_vehicle_id(train)
    assert is_vehicle_id(test)
    assert re.fullmatch(held_vehicles("FD001"), test)
    assert not re.fullmatch(held_vehicles("FD001"), train)
    assert not re.fullmatch(held_vehicles("FD002"), test)


def test_a_life_is_messages_one_step_apart_in_event_time(folder: Path) -> None:
    life = read_turbofans(folder, "FD001", CATALOGUE).train[0]

    columns = life.columns(boot=9, begin_ms=1000, step_ms=60, due_ms=5)

    assert columns.time.tolist() == [1000, 1060, 1120]
    assert columns.seq.tolist() == [1, 2, 3]
    assert set(columns.vin.tolist()) == {b"CMAPSSFD001000001"}
    np.testing.assert_array_equal(columns.values, life.values)


@pytest.mark.parametrize(
    ("line", "text", "problem"),
    [
        (2, "1 2 0.5", r"train_FD001\.txt:2: 3 numbers, 26 are needed"),
        (2, f"1 2 {VALUES} 1", r"train_FD001\.txt:2: 27 numbers"),
        (3, f"1 3 {VALUES}".replace("641.82", "hot"), r"train_FD001\.txt:3: 'hot' is not a number"),
        (3, f"1 3 {VALUES}".replace("641.82", "nan"), r"train_FD001\.txt:3: 'nan' is not"),
        (3, f"1 4 {VALUES}", r"train_FD001\.txt:3: cycle 4 of engine 1 does not follow cycle 2"),
        (4, f"3 1 {VALUES}", r"train_FD001\.txt:4: cycle 1 of engine 3 does not follow cycle 3"),
        (1, f"1 2 {VALUES}", r"train_FD001\.txt:1: .* does not follow the file's beginning"),
        (
            2,
            f"1 2 {VALUES}".replace("641.82", "6e9"),
            r"train_FD001\.txt:2: lpc_outlet_temp is 6e\+09 °R",
        ),
    ],
)
def test_what_is_odd_is_named_with_file_and_line(
    folder: Path, line: int, text: str, problem: str
) -> None:
    path = folder / "train_FD001.txt"
    good = path.read_text().splitlines()
    good[line - 1] = text
    path.write_text("\n".join(good))

    with pytest.raises(ReplayError, match=problem):
        read_turbofans(folder, "FD001", CATALOGUE)


def test_what_is_missing_is_named_with_what_there_is(folder: Path) -> None:
    with pytest.raises(ReplayError, match=r"has no train_FD003\.txt or train_FD003\.txt\.gz") as e:
        read_turbofans(folder, "FD003", CATALOGUE)
    assert "FD001" in e.value.remedy
    with pytest.raises(ReplayError, match="no subset 'FD009'"):
        read_turbofans(folder, "FD009", CATALOGUE)
    with pytest.raises(ReplayError, match="is not a folder"):
        read_turbofans(folder / "none", "FD001", CATALOGUE)


def test_a_file_that_is_no_text_or_is_cut_off_is_refused(folder: Path) -> None:
    (folder / "train_FD001.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ReplayError, match="cannot be read"):
        read_turbofans(folder, "FD001", CATALOGUE)
    (folder / "train_FD001.txt").write_text("\n")
    with pytest.raises(ReplayError, match="holds no engine"):
        read_turbofans(folder, "FD001", CATALOGUE)
    (folder / "train_FD001.txt").write_text("\n".join(lines(1)))
    whole = (folder / "test_FD001.txt.gz").read_bytes()
    (folder / "test_FD001.txt.gz").write_bytes(whole[:-10])
    with pytest.raises(ReplayError, match="cannot be read"):
        read_turbofans(folder, "FD001", CATALOGUE)
