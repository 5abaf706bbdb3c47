"""Data sets by name: which offsets they are, what was found there, and where that is kept."""

import re
from pathlib import Path

import msgspec

from motorcade.fleet.settings import ProcessSettings
from motorcade.ml.errors import DatasetError
from motorcade.ml.reading.ranges import OffsetRange

FORMAT = 1
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class DatasetRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A data set: offset ranges of topics, and what a reading of them found."""

    format: int
    name: str
    #: Wall-clock milliseconds since 1970.
    created: int
    #: Name of the catalogue, and SHA-256 of its signals.
    catalogue: str
    catalogue_sha256: str
    #: Identity of the Kafka cluster that holds the ranges.
    cluster: str
    telemetry: tuple[OffsetRange, ...]
    #: Writers' schemas of the telemetry, in the registry.
    schema_ids: tuple[int, ...]
    #: Trouble codes that had been reported when it was recorded.
    dtc: tuple[OffsetRange, ...]
    records: int
    #: Ids of the vehicles, sorted.
    vins: tuple[str, ...]
    codes: int
    #: Event time of the first and of the last record, milliseconds since 1970.
    event_from: int
    event_to: int
    #: SHA-256 of all rows in their order: another reading is the same rows, or is not.
    rows_sha256: str
    #: Vehicles whose whole id matches judge models and never teach one; empty: chosen by a hash.
    test_vehicles: str = ""

    @property
    def vehicles(self) -> int:
        """How many vehicles there are."""
        return len(self.vins)

    @property
    def offsets(self) -> int:
        """Offsets of telemetry: as many records, where every offset is one."""
        return sum(one.records for one in self.telemetry)


class DatasetStore:
    """The folder of all records of data sets: `<data_dir>/datasets/<name>.json`.

    Args:
        root: created when first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def of(cls, settings: ProcessSettings) -> "DatasetStore":
        """The store below a process's data folder."""
        return cls(settings.data_dir / "datasets")

    def write(self, record: DatasetRecord, *, replace: bool = False) -> Path:
        """Keep a record, whole or not at all.

        Raises:
            DatasetError: there is one of that name, and `replace` is not set.
        """
        path = self.require_free(record.name, replace=replace)
        self.root.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
        unfinished.replace(path)
        return path

    def require_free(self, name: str, *, replace: bool = False) -> Path:
        """Where a new record would be kept.

        Raises:
            DatasetError: the name is none, or taken and `replace` is not set.
        """
        path = self._path(name)
        if path.exists() and not replace:
            raise DatasetError(
                f"There is a data set {name} already, in {path}.",
                "Choose another name, or replace it: --replace.",
            )
        return path

    def read(self, name: str) -> DatasetRecord:
        """The record of a name.

        Raises:
            DatasetError: there is none, or its file is not a record of this version.
        """
        path = self._path(name)
        try:
            record = msgspec.json.decode(path.read_bytes(), type=DatasetRecord)
        except FileNotFoundError:
            known = ", ".join(one.name for one in self.list()) or "none"
            raise DatasetError(
                f"There is no data set {name} in {self.root}; there are: {known}.",
                f"Record it: motorcade dataset record {name}.",
            ) from None
        except (OSError, msgspec.DecodeError) as error:
            raise DatasetError(
                f"{path} is not the record of a data set: {error}.", "Record it again: --replace."
            ) from error
        if record.format != FORMAT:
            raise DatasetError(
                f"{path} has format {record.format}; this version reads {FORMAT}.",
                "Record it again: --replace.",
            )
        return record

    def list(self) -> list[DatasetRecord]:
        """All records, the oldest first.

        Raises:
            DatasetError: as `read`.
        """
        names = sorted(path.stem for path in self.root.glob("*.json"))
        return sorted(map(self.read, names), key=lambda record: (record.created, record.name))

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise DatasetError(
                f"{name!r} is no name of a data set.",
                "Use up to 64 small letters, digits, dots, underscores and hyphens.",
            )
        return self.root / f"{name}.json"
