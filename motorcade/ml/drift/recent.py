"""The recent stream, as much of it as says enough: slices of every partition, read as columns."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Ids
from motorcade.fleet.avro import PREDICTIONS_SUBJECT
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.predictions import PredictionAvro
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.topics import PREDICTIONS, TELEMETRY
from motorcade.ml.drift.sample import Sample
from motorcade.ml.reading.columnar import ColumnarReader, registry_lookup
from motorcade.ml.reading.ranges import OffsetRange, read_values, record_ranges
from motorcade.runtime.registry import schema_id, subject_lookup

#: Records of a topic that are read at most: a second or two, however fast the fleet sends.
MOST = 400_000
#: Slices of a partition that share them: spread over the whole time, each one fetch or a few.
_SLICES = 20

Told = Callable[[int, int], None]


def slices(ranges: Sequence[OffsetRange], most: int = MOST) -> list[OffsetRange]:
    """The ranges, or evenly spread slices of them that hold about `most` records."""
    total = sum(one.records for one in ranges)
    if total <= most:
        return list(ranges)
    found = []
    for one in ranges:
        bounds = np.linspace(one.start, one.end, _SLICES + 1).round().astype(int).tolist()
        for begin, end in pairwise(bounds):
            length = min(end - begin, max(1, round((end - begin) * most / total)))
            if length:
                found.append(one._replace(start=begin, end=begin + length))
    return found


def after(
    ranges: Iterable[OffsetRange], trained: Iterable[tuple[str, int, int, int]]
) -> list[OffsetRange]:
    """What of the ranges came after those that trained a model: they would hide a shift.

    Ranges that reach beyond the end of their partition are of a topic that was made anew.
    """
    ends: Mapping[tuple[str, int], int] = {
        (topic, number): end for topic, number, _, end in trained
    }
    found = []
    for one in ranges:
        end = ends.get((one.topic, one.partition), 0)
        if one.start < end <= one.end:
            one = one._replace(start=end)  # noqa: PLW2901  # the range, cut
        if one.records:
            found.append(one)
    return found


def recent_telemetry(
    settings: ProcessSettings,
    catalogue: Catalogue,
    since_ms: int,
    trained: Iterable[tuple[str, int, int, int]],
    told: Told,
) -> Sample:
    """A sample of what `telemetry` took in since a moment, and after what trained a model.

    Args:
        settings: where Kafka and the registry are.
        catalogue: decides the features.
        since_ms: ingest time of the first record, milliseconds since 1970.
        trained: (topic, partition, first offset, offset after the last) of the model's data set.
        told: how many records have been read, and of how many.

    Raises:
        RangeError: there is no telemetry in this Kafka.
        UnreachableError: Kafka or the registry does not answer.
    """
    ranges = slices(after(record_ranges(settings, TELEMETRY, since_ms=since_ms), trained))
    reader = ColumnarReader(settings, ranges, catalogue, registry_lookup(settings))
    sample = Sample(catalogue)
    told(0, len(reader))
    for batch in reader:
        sample.add(batch)
        told(sample.seen, len(reader))
    return sample


async def prediction_codec(settings: ProcessSettings, catalogue: Catalogue) -> PredictionAvro:
    """Decodes `predictions` of this catalogue.

    Raises:
        UnreachableError: the registry does not answer.
    """
    number = await schema_id(settings, catalogue, PREDICTIONS_SUBJECT)
    return PredictionAvro(catalogue, number, subject_lookup(settings, PREDICTIONS_SUBJECT))


def recent_scores(
    settings: ProcessSettings, codec: PredictionAvro, since_ms: int, version: int
) -> tuple[NDArray[np.float32], Ids]:
    """Scores (n,) that a version published since a moment, and whose they are (n,).

    Args:
        settings: where Kafka is.
        codec: of the predictions.
        since_ms: ingest time of the first record; not before the version was live.
        version: of the model.

    Raises:
        RangeError, UnreachableError: as `recent_telemetry`.
        DecodeError: a record is no prediction.
    """
    scores, vins = [np.empty(0, np.float32)], [np.empty(0, "S17")]
    ranges = slices(record_ranges(settings, PREDICTIONS, since_ms=since_ms))
    for values in read_values(settings, ranges):
        columns = codec.decode(values)
        mine = (columns.version == version) & np.isfinite(columns.score)
        scores.append(columns.score[mine].astype(np.float32))
        vins.append(columns.vin[mine])
    return np.concatenate(scores), np.concatenate(vins)
