"""Recorded drives: reads CSV recordings by a description, and replays them as cars.

A replayed car drives its recording in event time and begins again at the first row after the last;
the jump is real data's own and is not smoothed. Signals that a recording lacks stay absent.
"""

import csv
import gzip
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from motorcade.fleet.arrays import Floats, Ints
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.errors import MotorcadeError

#: Fraction of the golden ratio: multiples of it spread evenly over the unit interval.
_GOLDEN = 0.6180339887498949
#: Description that lies beside the recordings.
_DESCRIPTION = "recordings.yaml"


class RecordingError(MotorcadeError):
    """Recordings cannot be replayed; the message names the file and the line."""


class MappedColumn(BaseModel):
    """One column of a recording: value in the signal's unit = column × scale + offset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str
    signal: str
    scale: float = 1.0
    offset: float = 0.0


class Mapping(BaseModel):
    """The description of a data set: how its columns and units map onto the catalogue.

    folder: where the recordings lie, from the description's own folder. ignored: columns that are
    known and left out; "*" stands for all that are not mapped.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    source: str
    citation: str
    interval_ms: Annotated[int, Field(gt=0)]
    folder: Path = Path()
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    columns: tuple[MappedColumn, ...] = Field(min_length=1)
    ignored: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        for what in ("column", "signal"):
            names = [getattr(mapped, what) for mapped in self.columns]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what} {twice[0]!r} is mapped twice")
        return self


@dataclass(frozen=True)
class RecordedDrive:
    """One recording in the catalogue's units.

    columns: (k,) positions in the catalogue. values: (rows, k), NaN where absent. rejected: values
    that were dropped because they lie outside the catalogue's range.
    """

    name: str
    columns: Ints
    values: Floats
    interval_ms: int
    rejected: int = 0

    @property
    def duration_s(self) -> float:
        """Seconds of event time before it begins again."""
        return len(self.values) * self.interval_ms / 1000


class Replay:
    """Several drives, read at once.

    Car i drives recording i modulo their number; of several cars with one recording, each begins at
    a place of its own, the first at the beginning.
    """

    def __init__(self, drives: Sequence[RecordedDrive], signals: int) -> None:
        self._signals = signals
        self._columns = [drive.columns for drive in drives]
        lengths = np.array([len(drive.values) for drive in drives], dtype=np.int64)
        self._lengths = lengths
        self._starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        self._intervals = np.array([drive.interval_ms for drive in drives], dtype=np.int64)
        #: Union of the drives' columns: recordings of one mapping share them all.
        self._union = np.unique(np.concatenate(self._columns))
        self._values = np.full((int(lengths.sum()), len(self._union)), np.nan)
        for start, drive in zip(self._starts, drives, strict=True):
            at = np.searchsorted(self._union, drive.columns)
            self._values[start : start + len(drive.values), at] = drive.values

    def read(self, cars: Ints, since_ms: Ints) -> Floats:
        """Values `since_ms[i]` after car `cars[i]` began, shape (n, signals), NaN where absent."""
        turn, which = np.divmod(cars, len(self._lengths))
        begin = (turn * _GOLDEN % 1.0 * self._lengths[which]).astype(np.int64)
        row = (begin + since_ms // self._intervals[which]) % self._lengths[which]
        out = np.full((len(cars), self._signals), np.nan)
        out[:, self._union] = self._values[self._starts[which] + row]
        return out


def load_mapping(path: Path | None = None) -> Mapping:
    """Read a description, or carobd.yaml that comes with Motorcade.

    Raises:
        RecordingError: the file is missing, is not YAML, or breaks a rule.
    """
    source = files("motorcade.simulator") / "recordings" / "carobd.yaml" if path is None else path
    try:
        return Mapping.model_validate(yaml.safe_load(source.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RecordingError(f"The description {source} cannot be read: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        problem = f"{where + ': ' if where else ''}{first['msg']}"
        raise RecordingError(
            f"The description {source}: {problem}.",
            "It holds dataset, source, citation, interval_ms and columns (column, signal, scale, "
            "offset).",
        ) from error


def load_drives(
    path: Path, catalogue: Catalogue, mapping: Mapping | None = None
) -> list[RecordedDrive]:
    """Read every *.csv and *.csv.gz that a description speaks of, ordered by name.

    Args:
        path: a description (*.yaml); or the folder of the recordings, whose recordings.yaml is the
            description, else carobd.yaml that comes with Motorcade.
        mapping: the description, if it is not to be looked for.

    Values outside the catalogue's range, and cells that are empty, are absent and counted. A last
    line that was cut off while recording is left out.

    Raises:
        RecordingError: the folder has no recording; or a recording cannot be read, lacks or does
            not know a column, or holds something else than numbers; or a signal that the catalogue
            requires is not mapped.
    """
    folder = path
    if path.suffix in {".yaml", ".yml"}:
        mapping = load_mapping(path)
        folder = path.parent / mapping.folder
    elif mapping is None:
        own = path / _DESCRIPTION
        mapping = load_mapping(own if own.exists() else None)
        folder = path / mapping.folder
    _check_signals(mapping, catalogue)
    if not folder.is_dir():
        raise RecordingError(
            f"{folder} is not a folder.", "Name the folder of the recordings, or their description."
        )
    paths = [p for p in folder.iterdir() if p.name.endswith((".csv", ".csv.gz"))]
    if not paths:
        raise RecordingError(
            f"The folder {folder} holds no *.csv or *.csv.gz.",
            f"Put recordings of {mapping.dataset} there.",
        )
    return [_load(path, catalogue, mapping) for path in sorted(paths, key=_natural)]


def _natural(path: Path) -> list[tuple[int, str]]:
    """Order drive2 before drive10."""
    return [(int(p), "") if p.isdigit() else (0, p) for p in re.split(r"(\d+)", path.name)]


def _check_signals(mapping: Mapping, catalogue: Catalogue) -> None:
    mapped = [column.signal for column in mapping.columns]
    for name in mapped:
        if name not in catalogue.names:
            raise RecordingError(
                f"The description of {mapping.dataset} maps to the signal {name!r}, which the "
                f"catalogue {catalogue.name!r} does not have.",
                f"It has: {', '.join(catalogue.names)}.",
            )
    missing = [s.name for s in catalogue.signals if s.required and s.name not in mapped]
    if missing:
        raise RecordingError(
            f"The description of {mapping.dataset} has no column for {', '.join(missing)}, "
            f"which the catalogue {catalogue.name!r} requires of every car.",
            "Map it, or make the signal optional.",
        )


def _load(path: Path, catalogue: Catalogue, mapping: Mapping) -> RecordedDrive:
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8", newline="") as text:
            reader = csv.reader(text, delimiter=mapping.delimiter)
            positions = _header(path, reader, mapping)
            rows = list(_rows(path, reader, positions))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(f"The recording {path} cannot be read: {error}.") from error
    if not rows:
        raise RecordingError(f"The recording {path} holds a header but no row.", "Remove it.")
    scale = np.array([column.scale for column in mapping.columns])
    offset = np.array([column.offset for column in mapping.columns])
    columns = np.array([catalogue.column(c.signal) for c in mapping.columns], dtype=np.int64)
    values = np.array(rows) * scale + offset
    outside = (values < catalogue.low[columns]) | (values > catalogue.high[columns])
    values[outside] = np.nan
    return RecordedDrive(path.name, columns, values, mapping.interval_ms, int(outside.sum()))


def _header(path: Path, reader: Iterator[list[str]], mapping: Mapping) -> list[int]:
    """Position in a row of every mapped column."""
    header = next(reader, None)
    if header is None:
        raise RecordingError(f"The recording {path} is empty.", "Remove it.")
    names = [re.sub(r"\s*\([^)]*\)$", "", cell.strip()).upper() for cell in header]
    while names and not names[-1]:
        names.pop()
    known = {column.column.upper() for column in mapping.columns}
    known |= {name.upper() for name in mapping.ignored}
    anything = "*" in mapping.ignored
    unknown = [name for name in names if name not in known and not anything]
    if unknown:
        raise RecordingError(
            f"{path}, line 1: column {unknown[0]!r} is not known to the description of "
            f"{mapping.dataset}.",
            'Add it to the description\'s columns or ignored names ("*" ignores all others).',
        )
    missing = [c.column for c in mapping.columns if c.column.upper() not in names]
    if missing:
        raise RecordingError(
            f"{path}, line 1: the column {missing[0]!r} is missing.",
            f"Is this a recording of {mapping.dataset}?",
        )
    return [names.index(column.column.upper()) for column in mapping.columns]


def _rows(path: Path, reader: Iterator[list[str]], positions: list[int]) -> Iterator[list[float]]:
    """Numbers of the mapped columns; NaN for an empty cell."""
    needed = max(positions) + 1
    held: RecordingError | None = None
    for line, cells in enumerate(reader, 2):
        if held is not None:
            raise held
        if not any(cell.strip() for cell in cells):
            continue
        try:
            if len(cells) < needed:
                raise ValueError(f"has {len(cells)} cells, {needed} are needed")
            yield [_number(cells[position]) for position in positions]
        except ValueError as error:
            # A recorder that lost its power leaves half a last line; one inside is an error.
            held = RecordingError(f"{path}, line {line}: {error}.", "Correct or remove the line.")


def _number(cell: str) -> float:
    text = cell.strip()
    if not text:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r:.40} is not a number") from None
    return number if math.isfinite(number) else math.nan
