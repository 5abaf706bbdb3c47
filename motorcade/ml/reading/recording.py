"""Recording a data set: naming its ranges, reading them once, keeping what was found; and again."""

import hashlib
import re
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec
import numpy as np

from motorcade.fleet import messages
from motorcade.fleet.catalogue import Catalogue, load_catalogue
from motorcade.fleet.errors import DecodeError, SettingsError
from motorcade.fleet.messages import DiagnosticTroubleCode
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.fleet.topics import DTC, TELEMETRY
from motorcade.ml.errors import DatasetError
from motorcade.ml.reading.columnar import ColumnarReader, registry_lookup
from motorcade.ml.reading.ranges import OffsetRange, cluster_id, read_values, record_ranges
from motorcade.ml.reading.reader import open_reader, require_features
from motorcade.ml.reading.records import FORMAT, DatasetRecord, DatasetStore

#: Told how many records have been read, and of how many.
Told = Callable[[int, int], None]


def _nobody(_done: int, _total: int) -> None:
    """Nobody watches."""


class Survey(NamedTuple):
    """What a reading of telemetry found; times in milliseconds since 1970."""

    records: int
    vehicles: frozenset[bytes]
    event_from: int
    event_to: int
    rows_sha256: str


def survey(batches: Iterable[TelemetryColumns], total: int, told: Told) -> Survey:
    """Read all rows once.

    Args:
        batches: the rows, in their order; how they are cut into batches does not matter.
        total: about how many there are, for the progress.
        told: called with every batch.
    """
    digest = hashlib.sha256()
    vehicles: set[bytes] = set()
    records = 0
    first, last = 0, 0
    told(0, total)
    for batch in batches:
        if not len(batch):
            continue
        begin, end = int(batch.time.min()), int(batch.time.max())
        first, last = (min(first, begin), max(last, end)) if records else (begin, end)
        records += len(batch)
        vehicles.update(batch.vin.tolist())
        digest.update(_bytes(batch))
        told(records, total)
    return Survey(records, frozenset(vehicles), first, last, digest.hexdigest())


def record_dataset(
    settings: ProcessSettings,
    name: str,
    *,
    since_ms: int | None = None,
    until_ms: int | None = None,
    test_vehicles: str = "",
    replace: bool = False,
    topics: tuple[str, str] = (TELEMETRY, DTC),
    told: Told = _nobody,
) -> DatasetRecord:
    """Give what `telemetry` holds, or took in between two moments, a name to be read by.

    All trouble codes that were reported so far belong to it: what a car reported later still says
    what became of it.

    Args:
        settings: where Kafka, the registry, the catalogue and the data folder are.
        name: of the data set.
        since_ms: ingest time of the first record, milliseconds since 1970; None: the earliest.
        until_ms: ingest time before which the last record came; None: the latest.
        test_vehicles: regular expression; vehicles whose whole id matches are the test vehicles.
        replace: a data set of that name is replaced.
        topics: of telemetry, and of trouble codes.
        told: how many records have been read, and of how many.

    Raises:
        DatasetError: the name is taken or none, there are no records, their schema lacks a
            feature, or no vehicle or every one is a test vehicle.
        RangeError: there is no telemetry in this Kafka.
        SettingsError: `test_vehicles` is no regular expression.
        UnreachableError: Kafka or the registry does not answer.
    """
    store = DatasetStore.of(settings)
    store.require_free(name, replace=replace)
    pattern = _pattern(test_vehicles)
    catalogue = load_catalogue(settings.signals)
    telemetry = record_ranges(settings, topics[0], since_ms=since_ms, until_ms=until_ms)
    if not telemetry:
        raise DatasetError(
            f"The topic {topics[0]} holds no records in the time asked for.",
            "Let cars drive first: motorcade demo, or motorcade up and your own fleet.",
        )
    dtc = record_ranges(settings, topics[1])
    reader = ColumnarReader(settings, telemetry, catalogue, registry_lookup(settings))
    found = survey(reader, len(reader), told)
    require_features(catalogue, reader.schemas)
    if test_vehicles:
        tests = sum(1 for vin in found.vehicles if pattern.fullmatch(vin.decode()))
        if not 0 < tests < len(found.vehicles):
            raise DatasetError(
                f"{tests} of {len(found.vehicles)} vehicles match {test_vehicles!r}: some must "
                "test, and others teach.",
                "Correct --test-vehicles, or leave it out: then they are chosen by a hash.",
            )
    record = DatasetRecord(
        format=FORMAT,
        name=name,
        created=time.time_ns() // 1_000_000,
        catalogue=catalogue.name,
        catalogue_sha256=catalogue_sha256(catalogue),
        cluster=cluster_id(settings),
        telemetry=tuple(telemetry),
        schema_ids=tuple(sorted(reader.schemas)),
        dtc=tuple(dtc),
        records=found.records,
        vins=tuple(sorted(vin.decode() for vin in found.vehicles)),
        codes=len(trouble_codes(settings, dtc)),
        event_from=found.event_from,
        event_to=found.event_to,
        rows_sha256=found.rows_sha256,
        test_vehicles=test_vehicles,
    )
    store.write(record, replace=replace)
    return record


def verify_dataset(
    settings: ProcessSettings,
    record: DatasetRecord,
    reader: str = "columnar",
    told: Told = _nobody,
) -> Survey:
    """Read a data set again, to the last row, and compare.

    Raises:
        DatasetError: the rows are not those that were recorded.
        MotorcadeError: as `open_reader`.
    """
    catalogue = load_catalogue(settings.signals)
    opened = open_reader(settings, record, catalogue, reader)
    found = survey(opened, record.records, told)
    if found.rows_sha256 != record.rows_sha256:
        same = catalogue_sha256(catalogue) == record.catalogue_sha256
        raise DatasetError(
            f"The data set {record.name} is no longer what was recorded: {found.records} records "
            f"of {len(found.vehicles)} vehicles, and {record.records} of {record.vehicles} were.",
            f"This is another Kafka, or the topic was made anew: its cluster was {record.cluster}."
            if same
            else "The catalogue has been changed since: pass the one of then, or record it again.",
        )
    return found


def trouble_codes(
    settings: ProcessSettings, ranges: Iterable[OffsetRange]
) -> list[DiagnosticTroubleCode]:
    """The trouble codes of recorded ranges of `vehicle.dtc`, in (partition, offset) order.

    Raises:
        RangeError, UnreachableError: as `read_values`.
    """
    codes = []
    for values in read_values(settings, list(ranges)):
        for value in values:
            try:
                codes.append(messages.decode(DiagnosticTroubleCode, value))
            except DecodeError:
                # What a car sent is not validated before this topic; it names no car here.
                continue
    return codes


def catalogue_sha256(catalogue: Catalogue) -> str:
    """SHA-256 of everything that a catalogue says."""
    document = catalogue.model_dump(mode="json")
    return hashlib.sha256(msgspec.json.encode(document, order="sorted")).hexdigest()


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise SettingsError(
            f"--test-vehicles={text!r} is no regular expression: {error}."
        ) from error


def _bytes(batch: TelemetryColumns) -> bytes:
    """The rows, one after the other: the same however rows are cut into batches."""
    width = batch.values.shape[1]
    kind = np.dtype([("vin", "S17"), ("values", "<f8", (width,)), ("longs", "<i8", (4,))])
    rows = np.zeros(len(batch), dtype=kind)
    rows["vin"], rows["values"], rows["longs"] = batch.vin, batch.values, batch.longs
    return rows.tobytes()
