"""The step: one prediction for each telemetry record, scored or with the reason why not."""

from collections import Counter as Tally

import numpy as np
from prometheus_client import Counter

from motorcade.fleet.arrays import Ints
from motorcade.fleet.messages import ModelSlot
from motorcade.fleet.predictions import Contributions, PredictionAvro, PredictionColumns, Words
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.fleet.topics import PREDICTIONS, TELEMETRY
from motorcade.ml.reach import Places
from motorcade.ml.scoring.records import TelemetryRecords
from motorcade.ml.scoring.slot import Judged, Slot
from motorcade.runtime.derive import Output
from motorcade.runtime.kafka import Record

NO_MODEL = "no model is live yet"

_PREDICTIONS = Counter("motorcade_predictions_total", "Predictions by outcome", ["outcome"])
_ANOMALOUS = Counter("motorcade_anomalous_total", "Messages scored above the threshold")
_COMPARED = Counter(
    "motorcade_compared_total",
    "Messages that champion and challenger scored, by which of them found them anomalous",
    ["anomalous_to"],
)
_BY_WHOM = ("neither", "champion", "challenger", "both")
_MINUTE_MS = 60_000.0


class Warming:
    """A model that takes in the past before it goes live; what comes meanwhile waits here."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.backlog: list[tuple[TelemetryColumns, Places]] = []
        #: Partitions came or went: what was read is no longer the past of those that are here.
        self.disturbed = False


class ScoreStep:
    """Derives `predictions` from `telemetry`.

    What is live may be replaced between batches; a batch is scored by one model throughout.
    """

    name = "score"
    group = "score"
    source = TELEMETRY
    outputs: tuple[str, ...] = (PREDICTIONS,)

    def __init__(
        self, records: TelemetryRecords, predictions: PredictionAvro, warm_records: int = 0
    ) -> None:
        """Nothing is live at first.

        Args:
            records, predictions: codecs of source and output.
            warm_records: how many records of a partition a model of windows reads again where no
                commit says since when.
        """
        self._records = records
        self._predictions = predictions
        self._warm_records = warm_records
        self.live: dict[ModelSlot, Slot] = {}
        self.warming: dict[ModelSlot, Warming] = {}
        #: Offset after the last record of each partition that was taken in.
        self.positions: dict[int, int] = {}

    @property
    def history(self) -> int:
        """See `Step`."""
        return 0 if all(slot.stateless for slot in self.live.values()) else self._warm_records

    async def assigned(self, partition: int) -> None:
        """Begin without a past; the loop reads it again."""
        self.revoked(partition)

    def revoked(self, partition: int) -> None:
        """Forget a partition."""
        self.positions.pop(partition, None)
        for slot in self.live.values():
            slot.forget(partition)
        for warming in self.warming.values():
            warming.disturbed = True

    def since(self) -> dict[int, int]:
        """See `Remembering`."""
        found: dict[int, int] = {}
        for slot in self.live.values():
            for partition, offset in slot.since().items():
                found[partition] = min(offset, found.get(partition, offset))
        return found

    def rebuild(self, records: list[Record]) -> None:
        """See `Remembering`."""
        if records:
            columns, places = self.telemetry_of(records)
            self._follow(columns, places)
            for slot in self.live.values():
                slot.take_in(columns, places)

    def telemetry_of(self, records: list[Record]) -> tuple[TelemetryColumns, Places]:
        """What of some records is telemetry, and where it stands."""
        columns, broken = self._records.decode(records)
        telemetry, places, _ = _telemetry_of(columns, _places(records), broken)
        return telemetry, places

    def process(self, records: list[Record]) -> list[Output]:
        """One prediction for each record."""
        n = len(records)
        columns, broken = self._records.decode(records)
        everywhere = _places(records)
        telemetry, places, rows = _telemetry_of(columns, everywhere, broken)
        self._follow(telemetry, places)
        champion = self.live.get(ModelSlot.CHAMPION)
        challenger = self.live.get(ModelSlot.CHALLENGER)
        judged, against = (
            Judged.nothing(n) if slot is None else slot.judge(telemetry, places).among(rows, n)
            for slot in (champion, challenger)
        )
        outcomes, reasons = _outcomes(champion, judged)
        for row, reason in broken.items():
            outcomes[row], reasons[row] = "undecodable", reason
        _count(outcomes, (champion, judged), (challenger, against))
        scores = judged.scores
        predictions = PredictionColumns(
            vin=columns.vin,
            score=scores.score,
            threshold=np.full(n, _threshold(champion)),
            coverage=scores.coverage,
            boot=columns.boot,
            seq=columns.seq,
            time=columns.time,
            due=columns.due,
            partition=everywhere.partition,
            offset=everywhere.offset,
            version=np.full(n, champion.manifest.version if champion else 0),
            probability=scores.probability,
            life=scores.life / _MINUTE_MS,
            challenger_score=against.scores.score,
            challenger_threshold=np.full(n, _threshold(challenger)),
        )
        features = tuple(champion.manifest.features) if champion else ()
        present = ~np.isnan(scores.score)
        values = self._predictions.encode(
            predictions,
            champion.manifest.name if champion else "",
            reasons,
            Contributions(features, scores.top, scores.share, present)
            if champion
            else Contributions.none(n),
            Words(tuple(champion.manifest.kinds), scores.kind) if champion else None,
        )
        return [
            Output(PREDICTIONS, record.partition, record.key or b"", value, record.offset)
            for record, value in zip(records, values, strict=True)
        ]

    def _follow(self, columns: TelemetryColumns, places: Places) -> None:
        """How far each partition is, and what a model that is warming up has to take in yet."""
        if len(columns):
            last = np.r_[np.flatnonzero(np.diff(places.partition)), len(columns) - 1]
            ends = (places.offset[last] + 1).tolist()
            self.positions.update(zip(places.partition[last].tolist(), ends, strict=True))
        for warming in self.warming.values():
            warming.backlog.append((columns, places))


def _places(records: list[Record]) -> Places:
    n = len(records)
    return Places(
        np.fromiter((r.partition for r in records), np.int64, n),
        np.fromiter((r.offset for r in records), np.int64, n),
        np.fromiter((r.timestamp for r in records), np.int64, n),
    )


def _telemetry_of(
    columns: TelemetryColumns, places: Places, broken: dict[int, str]
) -> tuple[TelemetryColumns, Places, Ints]:
    """What of a batch is telemetry: its columns, its places, and the rows where it stands."""
    rows = np.arange(len(columns))
    if not broken:
        return columns, places, rows
    rows = np.delete(rows, list(broken))
    return columns.take(rows), places.take(rows), rows


def _threshold(slot: Slot | None) -> float:
    return np.nan if slot is None else slot.manifest.threshold


def _outcomes(champion: Slot | None, judged: Judged) -> tuple[list[str], list[str]]:
    n = len(judged.filled)
    if champion is None:
        return ["no_model"] * n, [NO_MODEL] * n
    outcomes, reasons = ["scored"] * n, [""] * n
    for row in np.flatnonzero(np.isnan(judged.scores.score)).tolist():
        outcomes[row], reasons[row] = champion.why_not(judged, row)
    return outcomes, reasons


def _count(
    outcomes: list[str],
    champion: tuple[Slot | None, Judged],
    challenger: tuple[Slot | None, Judged],
) -> None:
    for outcome, count in Tally(outcomes).items():
        _PREDICTIONS.labels(outcome).inc(count)
    score, against = champion[1].scores.score, challenger[1].scores.score
    above = score > _threshold(champion[0])
    _ANOMALOUS.inc(int(above.sum()))
    if challenger[0] is None:
        return
    compared = ~np.isnan(score) & ~np.isnan(against)
    whom = above + 2 * (against > _threshold(challenger[0]))
    for label, count in zip(_BY_WHOM, np.bincount(whom[compared], minlength=4), strict=True):
        _COMPARED.labels(label).inc(int(count))
