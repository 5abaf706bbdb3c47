"""A live model with the windows of the cars that it scores."""

from typing import NamedTuple

import numpy as np

from motorcade.fleet.arrays import Bools, Ints
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.models.base import TOP, Model, Scores
from motorcade.ml.reach import Places
from motorcade.ml.windows import WindowState


class Judged(NamedTuple):
    """What a model says of n messages: its scores, and the samples in each one's window."""

    scores: Scores
    filled: Ints

    @classmethod
    def nothing(cls, n: int) -> "Judged":
        """Of n messages that were not scored."""
        scores = Scores(
            score=np.full(n, np.nan),
            coverage=np.zeros(n),
            top=np.zeros((n, TOP), dtype=np.int64),
            share=np.zeros((n, TOP)),
            probability=np.full(n, np.nan),
            life=np.full(n, np.nan),
            kind=np.full(n, -1, dtype=np.int64),
        )
        return cls(scores, np.zeros(n, dtype=np.int64))

    def among(self, rows: Ints, n: int) -> "Judged":
        """What was said of these rows of n; of the others nothing was."""
        if len(rows) == n:
            return self
        whole = Judged.nothing(n)
        top = self.scores.top.shape[1]
        whole.scores.score[rows] = self.scores.score
        whole.scores.coverage[rows] = self.scores.coverage
        whole.scores.top[rows, :top] = self.scores.top
        whole.scores.share[rows, :top] = self.scores.share
        whole.scores.probability[rows] = self.scores.probability
        whole.scores.life[rows] = self.scores.life
        whole.scores.kind[rows] = self.scores.kind
        whole.filled[rows] = self.filled
        return whole


class Slot:
    """A model and the recent past of every car.

    A model of single messages has no past: it keeps nothing and pays nothing.

    Args:
        model: ready to score.
        sha256: of its manifest, which tells it from any other.
        catalogue: the fleet's signals.
        silence_ms: see `Reach`.
    """

    def __init__(self, model: Model, sha256: str, catalogue: Catalogue, silence_ms: int) -> None:
        self.model = model
        self.sha256 = sha256
        self.manifest = model.manifest
        self._features = catalogue.feature_columns
        self._windows = WindowState(model.window, len(catalogue.features), silence_ms)

    @property
    def stateless(self) -> bool:
        """Whether a score depends on its message alone."""
        return self.model.window.stateless

    def judge(self, columns: TelemetryColumns, places: Places) -> Judged:
        """Score messages; of one whose window holds too few samples nothing is said."""
        windows = self._windows.push(columns, self._features, places=places)
        scores = self.model.score(windows.values)
        short: Bools = windows.filled < self.manifest.least_filled
        if short.any():
            scores = scores._replace(
                score=np.where(short, np.nan, scores.score),
                probability=np.where(short, np.nan, scores.probability),
                life=np.where(short, np.nan, scores.life),
                kind=np.where(short, -1, scores.kind),
            )
        return Judged(scores, windows.filled)

    def take_in(self, columns: TelemetryColumns, places: Places) -> None:
        """Only remember messages."""
        if not self.stateless:
            nothing = np.zeros(len(columns), dtype=bool)
            self._windows.push(columns, self._features, nothing, places)

    def forget(self, partition: int) -> None:
        """Drop the past of a partition's cars."""
        self._windows.forget_partition(partition)

    def since(self) -> dict[int, int]:
        """By partition, the offset of the first record that any window depends on."""
        return {} if self.stateless else self._windows.since()

    def why_not(self, judged: Judged, row: int) -> tuple[str, str]:
        """Outcome and reason of a message that was not scored."""
        manifest, filled = self.manifest, int(judged.filled[row])
        if filled < manifest.least_filled:
            return "filling", (
                f"the window holds {filled} of {manifest.least_filled} samples, "
                f"{manifest.least_filled - filled} are missing"
            )
        coverage = judged.scores.coverage[row]
        if coverage < manifest.minimum_coverage:
            return "low_coverage", (
                f"coverage {coverage:.2f} is below the model's minimum "
                f"{manifest.minimum_coverage:.2f}"
            )
        return "no_score", "the model gave no score"
