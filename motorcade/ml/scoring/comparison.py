"""Champion and challenger on the same stream: what the latest predictions say of both."""

from typing import NamedTuple

import msgspec
import numpy as np

from motorcade.fleet.arrays import Bools, Floats, Ids, Ints
from motorcade.fleet.avro import PREDICTIONS_SUBJECT
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.messages import ModelAnnouncement, ModelSlot
from motorcade.fleet.predictions import PredictionAvro, PredictionColumns
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.topics import PARTITIONS, PREDICTIONS
from motorcade.ml.announce import live
from motorcade.runtime.kafka import TopicPartition, consumer, read_all, started
from motorcade.runtime.registry import schema_id, subject_lookup


class Side(msgspec.Struct, frozen=True):
    """One model on the messages that both scored.

    anomalous: share of the messages above its threshold. vehicles: with at least one such message.
    median, p99: of its scores, which are in a unit of its own.
    """

    anomalous: float
    vehicles: int
    threshold: float
    median: float
    p99: float


class Comparison(msgspec.Struct, frozen=True):
    """Both models on the messages that both scored.

    agreement: share of the messages on which they agree. kappa: agreement beyond chance (Cohen,
    1960): 1 is perfect, 0 is what chance gives. rank_correlation: Spearman's, of the scores.
    """

    messages: int
    vehicles: int
    not_scored: int
    champion: Side
    challenger: Side
    agreement: float
    kappa: float
    rank_correlation: float
    only_champion: list[str]
    only_challenger: list[str]


class Live(NamedTuple):
    """What is live, and how it compares."""

    champion: ModelAnnouncement
    challenger: ModelAnnouncement
    comparison: Comparison


#: Vehicles that are named on each side.
_NAMED = 10


def compare(columns: PredictionColumns) -> Comparison:
    """Compare both models on a batch of predictions.

    Raises:
        MotorcadeError: there is no message that both scored.
    """
    against, limit = columns.challenger_score, columns.challenger_threshold
    assert against is not None
    assert limit is not None
    both = np.isfinite(columns.score) & np.isfinite(against)
    if not both.any():
        raise MotorcadeError(
            "Champion and challenger have scored no message together yet.",
            "Let messages come, then ask again: motorcade models compare.",
        )
    vin = columns.vin[both]
    scores = columns.score[both], against[both]
    limits = columns.threshold[both], limit[both]
    first, second = (score > limit for score, limit in zip(scores, limits, strict=True))
    agreement = float((first == second).mean())
    chance = float(first.mean() * second.mean() + (1 - first.mean()) * (1 - second.mean()))
    found = [set(vin[above].tolist()) for above in (first, second)]
    return Comparison(
        messages=int(both.sum()),
        vehicles=len(np.unique(vin)),
        not_scored=int((~both).sum()),
        champion=_side(vin, scores[0], limits[0], first),
        challenger=_side(vin, scores[1], limits[1], second),
        agreement=agreement,
        kappa=1.0 if chance == 1 else (agreement - chance) / (1 - chance),
        rank_correlation=_spearman(*scores),
        only_champion=_named(found[0] - found[1]),
        only_challenger=_named(found[1] - found[0]),
    )


async def compare_live(settings: ProcessSettings, messages: int) -> Live:
    """Compare what is live on the latest predictions of both.

    Args:
        settings: of the process.
        messages: how many of the latest predictions are looked at.

    Raises:
        MotorcadeError: a slot is empty, or no message was scored by both.
        UnreachableError: Kafka or the registry does not answer.
    """
    slots = await live(settings)
    if len(slots) < len(ModelSlot):
        missing = ", ".join(slot.value for slot in ModelSlot if slot not in slots)
        raise MotorcadeError(
            f"There is no {missing}.",
            "motorcade models challenge NAME lets a model score beside the champion.",
        )
    catalogue = load_catalogue(settings.signals)
    number = await schema_id(settings, catalogue, PREDICTIONS_SUBJECT)
    codec = PredictionAvro(catalogue, number, subject_lookup(settings, PREDICTIONS_SUBJECT))
    champion, challenger = slots[ModelSlot.CHAMPION], slots[ModelSlot.CHALLENGER]
    since = max(champion.announced, challenger.announced)
    parts: list[PredictionColumns] = []
    starts = await _last(settings, messages // PARTITIONS + 1)
    async for records in read_all(settings, [PREDICTIONS], starts=starts):
        values = [record.value for record in records if record.timestamp >= since]
        if values:
            columns = codec.decode(values)
            parts.append(columns.take(columns.version == champion.version))
    if not parts:
        raise MotorcadeError(
            "Nothing was scored since both models are live.",
            "Let messages come, then ask again: motorcade models compare.",
        )
    return Live(champion, challenger, compare(PredictionColumns.joined(parts)))


async def _last(settings: ProcessSettings, records: int) -> dict[TopicPartition, int]:
    """Where the last so many records of each partition begin."""
    async with started(consumer(settings), settings) as client:
        wanted = [TopicPartition(PREDICTIONS, number) for number in range(PARTITIONS)]
        ends = await client.end_offsets(wanted)
        return {tp: max(0, end - records) for tp, end in ends.items()}


def _side(vin: Ids, score: Floats, threshold: Floats, above: Bools) -> Side:
    return Side(
        anomalous=float(above.mean()),
        vehicles=len(np.unique(vin[above])),
        threshold=float(threshold[-1]),
        median=float(np.median(score)),
        p99=float(np.quantile(score, 0.99)),
    )


def _spearman(first: Floats, second: Floats) -> float:
    """Spearman's rank correlation; 0 where a side says the same of all."""
    one, other = _ranks(first), _ranks(second)
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _ranks(values: Floats) -> Floats:
    """Ranks, the mean of their places for equal values."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ends: Ints = np.cumsum(count)
    means: Floats = ends - (count - 1) / 2
    return means[place]


def _named(vins: set[bytes]) -> list[str]:
    return [vin.decode() for vin in sorted(vins)[:_NAMED]]
