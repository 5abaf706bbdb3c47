"""What a training learns from: a recorded data set, whom each vehicle teaches, and up to when."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.labels.failures import Failures
from motorcade.ml.labels.split import Split, by_time, by_vehicle
from motorcade.ml.models.catalogue import architecture
from motorcade.ml.reading.reader import open_reader
from motorcade.ml.reading.recording import record_dataset, trouble_codes
from motorcade.ml.reading.records import DatasetRecord, DatasetStore
from motorcade.ml.store import Manifest, ModelStore
from motorcade.ml.training.checkpoints import Progress
from motorcade.ml.training.learn import Plan


class Earlier:
    """Batches without what was sent at a moment of event time or after it, as often as iterated."""

    def __init__(self, batches: Iterable[TelemetryColumns], before_ms: int) -> None:
        self._batches = batches
        self._before_ms = before_ms

    def __iter__(self) -> Iterator[TelemetryColumns]:
        for batch in self._batches:
            earlier = batch.time < self._before_ms
            if earlier.any():
                yield batch.take(earlier)


class Lesson(NamedTuple):
    """A data set, opened to learn from.

    batches: its telemetry, as often as iterated. total: records in all, for the progress. until_ms:
    event time at which knowledge ends; None: all of the data set's.
    """

    record: DatasetRecord
    batches: Iterable[TelemetryColumns]
    total: int
    failures: Failures
    split: Split
    plan: Plan
    until_ms: int | None

    def taught(self, manifest: Manifest) -> bool:
        """Whether a model learnt from these rows, with this plan, through its own windows."""
        return (
            manifest.origin.ranges == [tuple(one) for one in self.record.telemetry]
            and manifest.origin.seed == self.plan.seed
            and manifest.origin.event_until == self.until_ms
            and manifest.horizon_ms == self.plan.horizon_ms
            and manifest.window == architecture(manifest.architecture).window
        )

    def models(self, store: ModelStore, names: Sequence[str]) -> dict[str, Manifest]:
        """The newest model of each name that learnt from it, where there is one."""
        found = {name: store.newest(name, self.taught) for name in names}
        return {name: manifest for name, manifest in found.items() if manifest is not None}


def open_lesson(
    settings: ProcessSettings,
    record: DatasetRecord,
    catalogue: Catalogue,
    plan: Plan,
    *,
    later: float = 0.0,
    reader: str = "columnar",
) -> Lesson:
    """Open a data set to learn from.

    Args:
        settings: where Kafka and the registry are.
        record: the data set.
        catalogue: decides the features.
        plan: horizon and seed.
        later: share of the event time, at its end, of which nothing is to be known: neither
            messages nor trouble codes, as if training had been run at that moment.
        reader: columnar or tensorflow-io.

    Raises:
        MotorcadeError: see `open_reader`.
    """
    rows = open_reader(settings, record, catalogue, reader)
    codes = trouble_codes(settings, record.dtc)
    batches: Iterable[TelemetryColumns] = rows
    until_ms = None
    if later:
        until_ms = by_time(record.event_from, record.event_to, share=later).from_ms
        batches = Earlier(rows, until_ms)
        codes = [code for code in codes if code.time < until_ms]
    vins = (vin.encode() for vin in record.vins)
    split = by_vehicle(vins, plan.seed, test_vehicles=record.test_vehicles)
    return Lesson(record, batches, len(rows), Failures.of(codes), split, plan, until_ms)


def recorded(
    settings: ProcessSettings,
    dataset: str,
    since_ms: int | None,
    until_ms: int | None,
    progress: Callable[[Progress], None],
) -> DatasetRecord:
    """A data set by its name; without one, what `telemetry` took in is recorded now.

    Raises:
        DatasetError: there is none of that name, or nothing to record.
    """
    if dataset:
        return DatasetStore.of(settings).read(dataset)
    return record_dataset(
        settings,
        f"until-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}",
        since_ms=since_ms,
        until_ms=until_ms,
        told=lambda done, total: progress(Progress("recording", done, total)),
    )
