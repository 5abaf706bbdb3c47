"""Reads NASA's C-MAPSS turbofan files: engines run to failure, engines cut short, and the truth.

Format (the data set's readme): one line a flight cycle, numbers apart by blanks: unit, cycle, three
settings, 21 sensors. `train_FDnnn.txt` holds whole lives; those of `test_FDnnn.txt` end some time
before the failure, and line k of `RUL_FDnnn.txt` says how many cycles engine k had left. Each file
may be compressed (.txt.gz).
"""

import gzip
import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from motorcade.fleet.arrays import Ints
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.errors import MotorcadeError
from motorcade.simulator.replay.lives import Ending, Life

Part = Literal["train", "test"]

SUBSETS = ("FD001", "FD002", "FD003", "FD004")
#: What an engine that ran to failure says at its end. The data tell which part wore out only for a
#: subset as a whole.
FAILED = Ending("ENDOFLIFE", "end_of_life", "The engine ran until it failed.")
#: Digit of a vehicle id that tells the official parts apart; the five after it are the unit.
_PART_DIGIT: dict[Part, int] = {"train": 0, "test": 1}
_MOST_UNITS = 99_999
_IDENTITY = 2  # unit and cycle stand before the signals


class ReplayError(MotorcadeError):
    """The files cannot be replayed; the message names the file and the line."""


@dataclass(frozen=True)
class Turbofans:
    """The engines of one subset.

    Args:
        subset: such as FD001.
        train: engines that ran to failure.
        test: engines that were cut short, in the order of the truth's lines.
    """

    subset: str
    train: tuple[Life, ...]
    test: tuple[Life, ...]

    @property
    def lives(self) -> tuple[Life, ...]:
        """All engines."""
        return self.train + self.test


def vehicle_of(subset: str, part: Part, unit: int) -> str:
    """The id of an engine: FD001's unit 7 is CMAPSSFD001000007, in test CMAPSSFD001100007."""
    return f"CMAPSS{subset}{_PART_DIGIT[part]}{unit:05d}"


def held_vehicles(subset: str) -> str:
    """A regular expression that the ids of the official test engines match, and no others."""
    return rf"CMAPSS{subset}{_PART_DIGIT['test']}\d{{5}}"


def read_turbofans(folder: Path, subset: str, catalogue: Catalogue) -> Turbofans:
    """Read the engines of a subset.

    Raises:
        ReplayError: a file is missing, or holds something else; names the file and the line.
    """
    if subset not in SUBSETS:
        raise ReplayError(f"There is no subset {subset!r}.", f"C-MAPSS has {', '.join(SUBSETS)}.")
    parts = {part: _lives(folder, subset, part, catalogue) for part in _PART_DIGIT}
    return Turbofans(subset, parts["train"], parts["test"])


def read_truth(folder: Path, subset: str, engines: int) -> Ints:
    """Cycles that each test engine had left after its last line, shape (engines,).

    Raises:
        ReplayError: the file is missing or is not that of so many engines.
    """
    path = _find(folder, f"RUL_{subset}")
    cycles = []
    for line, words in _lines(path):
        if len(words) != 1 or not words[0].isdecimal():
            raise ReplayError(
                f"{path}:{line}: {' '.join(words)!r:.40} is not a number of cycles.",
                "The truth holds one whole number a line.",
            )
        cycles.append(int(words[0]))
    if len(cycles) != engines:
        raise ReplayError(
            f"{path} holds the truth of {len(cycles)} engines, test_{subset} holds {engines}.",
            "Take both files from the same copy of the data set.",
        )
    return np.array(cycles, dtype=np.int64)


def _lives(folder: Path, subset: str, part: Part, catalogue: Catalogue) -> tuple[Life, ...]:
    path = _find(folder, f"{part}_{subset}")
    width = _IDENTITY + len(catalogue.names)
    engines: list[list[list[float]]] = []
    for line, words in _lines(path):
        row = _row(path, line, words, width)
        unit, cycle = row[:_IDENTITY]
        if cycle == 1 and unit == len(engines) + 1 <= _MOST_UNITS:
            engines.append([])
        elif not engines or unit != len(engines) or cycle != len(engines[-1]) + 1:
            raise ReplayError(
                f"{path}:{line}: cycle {cycle:g} of engine {unit:g} does not follow "
                f"{_place(engines)}.",
                "Engines stand one after another from 1, each with its cycles from 1.",
            )
        values = row[_IDENTITY:]
        _check_ranges(path, line, values, catalogue)
        engines[-1].append(values)
    if not engines:
        raise ReplayError(f"{path} holds no engine.", "Is it a whole copy?")
    ending = FAILED if part == "train" else None
    return tuple(
        Life(vehicle_of(subset, part, unit), np.array(rows), ending)
        for unit, rows in enumerate(engines, 1)
    )


def _place(engines: list[list[list[float]]]) -> str:
    if not engines:
        return "the file's beginning"
    return f"cycle {len(engines[-1])} of engine {len(engines)}"


def _row(path: Path, line: int, words: list[str], width: int) -> list[float]:
    if len(words) != width:
        raise ReplayError(
            f"{path}:{line}: {len(words)} numbers, {width} are needed.",
            f"A line holds unit, cycle and {width - _IDENTITY} signals. Is the file cut off?",
        )
    row = []
    for word in words:
        try:
            number = float(word)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ReplayError(f"{path}:{line}: {word!r:.40} is not a number.", "Correct the line.")
        row.append(number)
    return row


def _check_ranges(path: Path, line: int, values: list[float], catalogue: Catalogue) -> None:
    """Refine would quarantine what lies outside; here it can be said in which line it stands."""
    for value, signal in zip(values, catalogue.signals, strict=True):
        low, high = signal.range
        if not low <= value <= high:
            raise ReplayError(
                f"{path}:{line}: {signal.name} is {value:g} {signal.unit}, the catalogue "
                f"{catalogue.name!r} allows {low:g} to {high:g}.",
                "Are the columns those of C-MAPSS?",
            )


def _find(folder: Path, stem: str) -> Path:
    if not folder.is_dir():
        raise ReplayError(f"{folder} is not a folder.", "Name the folder of the C-MAPSS files.")
    for path in (folder / f"{stem}.txt", folder / f"{stem}.txt.gz"):
        if path.is_file():
            return path
    found = {
        subset[0]
        for path in folder.iterdir()
        if (subset := re.findall(r"^(?:train|test|RUL)_(FD\d{3})\.txt(?:\.gz)?$", path.name))
    }
    have = f"It has files of {', '.join(sorted(found))}." if found else "It has none of C-MAPSS."
    raise ReplayError(
        f"The folder {folder} has no {stem}.txt or {stem}.txt.gz.",
        f"{have} NASA's prognostics data repository has the whole set.",
    )


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and words of each line that is not empty."""
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="ascii") as text:
            for line, content in enumerate(text, 1):
                if words := content.split():
                    yield line, words
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ReplayError(f"{path} cannot be read: {error}.", "Is it a whole copy?") from error
