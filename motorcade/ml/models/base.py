"""What every model and every architecture is: the seam between learning, scoring and judging."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Bools, Floats, Ints
from motorcade.fleet.catalogue import Catalogue
from motorcade.ml.store import Manifest, Weights
from motorcade.ml.windows import Floats32, Windows, WindowSpec

#: Signals that a prediction names.
TOP = 3

Objective = Literal["anomaly", "failure", "life"]


class Scores(NamedTuple):
    """What a model says of n windows.

    score: (n,) float64, anomalous above the manifest's threshold; NaN below its minimum coverage.
    coverage: (n,) share of the learnt features that the last message carried.
    top: (n, TOP) positions in the manifest's features, the largest contribution first.
    share: (n, TOP) of the score.
    probability: (n,) that a failure comes within the horizon, calibrated; NaN: the model does not
    say. life: (n,) remaining life, milliseconds of event time, at most `life_cap_ms`; NaN: the
    model does not say. kind: (n,) position in the manifest's kinds of the most probable failure,
    -1: unknown.
    """

    score: Floats
    coverage: Floats
    top: Ints
    share: Floats
    probability: Floats
    life: Floats
    kind: Ints

    @classmethod
    def of_anomaly(cls, score: Floats, coverage: Floats, top: Ints, share: Floats) -> "Scores":
        """Scores of a model that knows what is normal, and nothing of failures."""
        unknown = np.full(len(score), np.nan)
        kind = np.full(len(score), -1, dtype=np.int64)
        return cls(score, coverage, top, share, unknown, unknown, kind)


class Model(Protocol):
    """A trained model, ready to score. Constructing one raises ModelRefusedError where its features
    are not the catalogue's, its weights do not fit or a probe does not come out finite."""

    manifest: Manifest

    @property
    def window(self) -> WindowSpec:
        """The windows that it scores, the manifest's."""

    def score(self, values: Floats32) -> Scores:
        """Score windows, shape (n, rows, features), in the signals' units, NaN where absent.

        The same window gets the same scores, to the last bit of Avro's float, in any batch.
        """


@dataclass(frozen=True)
class Examples:
    """What one part of a data set gives to learn from: n windows and what came after them.

    failure_ms: (n, kinds) event time to the next failure of each kind in this boot; inf: none seen.
    observed_ms: (n,) event time for which the car was observed after the record.
    after_failure: (n,) whether a failure came before it in this boot.
    weight: (n,) how many messages of the data set an example stands for: examples are thinned to
    fit memory, those far from failures more than those near.
    kinds: trouble codes that were met in the data set, sorted.
    """

    windows: Windows
    failure_ms: Floats
    observed_ms: Floats
    after_failure: Bools
    weight: Floats
    kinds: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def next_failure_ms(self) -> Floats:
        """Event time to the next failure of any kind, shape (n,); inf: none seen."""
        if not self.kinds:
            return np.full(len(self), np.inf)
        soonest: Floats = self.failure_ms.min(axis=1)
        return soonest

    def healthy(self, horizon_ms: float) -> Bools:
        """No failure within the horizon after it, and none before it in this boot; shape (n,)."""
        return (self.next_failure_ms > horizon_ms) & ~self.after_failure

    def known(self, horizon_ms: float) -> Bools:
        """Failed within the horizon, or observed for all of it; shape (n,)."""
        return (self.next_failure_ms <= horizon_ms) | (self.observed_ms >= horizon_ms)

    def take(self, rows: Ints | Bools) -> "Examples":
        """The examples given by index or by boolean mask."""
        return Examples(
            self.windows.take(rows),
            self.failure_ms[rows],
            self.observed_ms[rows],
            self.after_failure[rows],
            self.weight[rows],
            self.kinds,
        )


class TrainingData(NamedTuple):
    """All that fitting may see. No vehicle is in two parts; the test vehicles are in none."""

    catalogue: Catalogue
    train: Examples
    #: For early stopping and for choosing among settings.
    validate: Examples
    #: For thresholds and probabilities.
    calibrate: Examples
    horizon_ms: int
    life_cap_ms: int | None
    seed: int
    #: What the windows are: the architecture's default, or what the caller said.
    window: WindowSpec = WindowSpec()


class FitOptions(msgspec.Struct, frozen=True):
    """How to fit; an architecture ignores what it has no use for.

    `patience` epochs without a better validation loss end it early.
    """

    epochs: int = 20
    batch: int = 256
    learning_rate: float = 2e-3
    patience: int = 4
    seed: int = 0
    #: Settings of the architecture itself, from `--set NAME=VALUE`.
    extra: dict[str, float | str] = {}


class Watch(Protocol):
    """Who is told how fitting goes, and keeps what it needs to go on after an interruption."""

    def progress(self, phase: str, done: int, total: int, detail: str = "") -> None:
        """How far a phase is; `detail` is for people."""

    def checkpoint(self, epoch: int, state: Mapping[str, NDArray[Any]]) -> None:
        """Keep arrays, whole or not at all, instead of what was kept before."""

    def resume(self) -> tuple[int, dict[str, NDArray[Any]]] | None:
        """What an interrupted run of the same training kept last."""


class Learnt(NamedTuple):
    """What fitting gives; training adds version, origin, libraries, and a threshold if none is set.

    weights: arrays that are all a model needs. fields: what the manifest says otherwise than its
    defaults (mean, std, learnt, residual, threshold, kinds, life_cap_ms, extra). curves: by epoch
    or iteration. metrics: figures of the fit.
    """

    weights: Weights
    fields: dict[str, Any]
    curves: dict[str, list[float]]
    metrics: dict[str, float]


class Architecture(Protocol):
    """A way to learn, of which a module holds one instance."""

    #: As in `motorcade train NAME`.
    name: str
    #: What it learns from: healthy examples only, failures, or remaining life.
    objective: Objective
    #: The windows it is made for, unless the caller says otherwise.
    window: WindowSpec
    #: Whether it is trained beside every other, for comparison.
    baseline: bool

    def fit(self, data: TrainingData, how: FitOptions, watch: Watch) -> Learnt:
        """Learn.

        Raises:
            TrainingError: the data cannot teach it; the message says what is missing.
        """

    def load(self, manifest: Manifest, weights: Weights, catalogue: Catalogue) -> Model:
        """A model that was learnt before.

        Raises:
            ModelRefusedError: see `Model`.
        """
