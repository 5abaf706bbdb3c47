"""Choosing a model of remaining life: vehicles that ran to failure are judged by each other.

Every candidate is fitted several times, each time without some of the vehicles, and tells the
remaining life of those at all moments of their lives that were kept. So what is chosen was judged
as it will be used: by vehicles it never saw, cut short at any moment. The vehicles of the test part
are only counted.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from motorcade.fleet.arrays import Bools, Floats, Ids, Ints
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.errors import TrainingError
from motorcade.ml.history import FEWEST
from motorcade.ml.labels.failures import Failures
from motorcade.ml.labels.split import TEST
from motorcade.ml.models.base import Architecture, Examples, FitOptions, Model, TrainingData
from motorcade.ml.store import Weights
from motorcade.ml.training.assemble import Assembled, assemble
from motorcade.ml.training.checkpoints import Progress
from motorcade.ml.training.learn import Plan, Task, fit
from motorcade.ml.windows import Windows, WindowSpec, WindowState

Tell = Callable[[Progress], None]

#: One of so many groups of vehicles ends the fitting of a model that ends early.
_PARTS = 10


class Candidate(NamedTuple):
    """A model that may become the champion, before it has learnt.

    label: for people. ends_early: it stops when vehicles that do not teach it say so, so some are
    held back from its last fitting, too.
    """

    label: str
    architecture: Architecture
    window: WindowSpec
    how: FitOptions
    ends_early: bool = False


class Judged(NamedTuple):
    """What the validation vehicles say of a candidate.

    error: RMSE of the remaining life, in ms of event time; every vehicle counts the same.
    seconds: that fitting and judging took.
    """

    candidate: Candidate
    error: float
    seconds: float


class Fitted(NamedTuple):
    """A candidate's last model, taught by all vehicles but the test part."""

    judged: Judged
    model: Model
    weights: Weights
    curves: dict[str, list[float]]


class Lives(NamedTuple):
    """Examples of all vehicles that may teach, for each kind of window."""

    catalogue: Catalogue
    plan: Plan
    assembled: Assembled
    examples: Mapping[WindowSpec, Examples]

    @property
    def cap_ms(self) -> int:
        """Remaining life is told up to this."""
        assert self.plan.life_cap_ms is not None
        return self.plan.life_cap_ms


def gather(
    catalogue: Catalogue,
    batches: Iterable[TelemetryColumns],
    failures: Failures,
    part_of: Callable[[bytes], str],
    windows: Sequence[WindowSpec],
    plan: Plan,
) -> Lives:
    """Read a data set once.

    Args:
        catalogue: decides the features.
        batches: the telemetry, each vehicle's messages in order.
        failures: that were reported.
        part_of: the part of a vehicle; all but the test part teach.
        windows: that the candidates need.
        plan: cap, horizon, seed, limits.

    Raises:
        TrainingError: there is too little to learn from, or no cap.
    """
    if not plan.life_cap_ms:
        raise TrainingError("Remaining life needs a cap, up to which it is told.")
    assembled = assemble(
        catalogue,
        batches,
        failures,
        part_of,
        windows,
        horizon_ms=plan.horizon_ms,
        life_cap_ms=plan.life_cap_ms,
        seed=plan.seed,
        limits=plan.limits,
    )
    examples = {
        spec: _joined([data.train, data.validate, data.calibrate])
        for spec, data in assembled.data.items()
    }
    # The parts' own arrays are let go.
    return Lives(catalogue, plan, replace(assembled, data={}), examples)


def judge(lives: Lives, candidate: Candidate, folds: int, tell: Tell) -> Judged:
    """Cross-validate a candidate over the vehicles.

    Args:
        lives: to learn from.
        candidate: to be judged.
        folds: groups of vehicles, each left out once.
        tell: told of the progress.

    Raises:
        TrainingError: fewer vehicles than folds, or the data cannot teach it.
    """
    began = time.monotonic()
    examples = lives.examples[candidate.window]
    fold = folds_of(examples.windows.vin, folds, lives.plan.seed)
    told = np.full(len(examples), np.nan)
    for number in range(folds):
        tell(Progress(candidate.label, number, folds, "cross-validation"))
        out = fold == number
        data = _data(lives, candidate, examples, ~out, out)
        model, _, _ = _fit(lives, candidate, data, tell)
        told[out] = model.score(examples.windows.values[out]).life
    tell(Progress(candidate.label, folds, folds, "cross-validation"))
    error = life_error(told, examples, lives.cap_ms, candidate.window)
    return Judged(candidate, error, time.monotonic() - began)


def last_fit(lives: Lives, judged: Judged, folds: int, tell: Tell) -> Fitted:
    """Fit a judged candidate on all vehicles that may teach.

    Raises:
        TrainingError: the data cannot teach it.
    """
    candidate = judged.candidate
    examples = lives.examples[candidate.window]
    held = folds_of(examples.windows.vin, folds, lives.plan.seed) == 0
    data = _data(lives, candidate, examples, np.ones_like(held), held)
    return Fitted(judged, *_fit(lives, candidate, data, tell))


def life_error(told: Floats, examples: Examples, cap_ms: int, window: WindowSpec) -> float:
    """RMSE of remaining life in ms, of examples whose life is known; every vehicle counts the same.

    Args:
        told: (n,) remaining life, ms; NaN: not told.
        examples: that it was told of.
        cap_ms: lives are compared up to this.
        window: a boot's first samples, which no model scores, are left out.

    Raises:
        TrainingError: nothing can be compared.
    """
    true = np.minimum(examples.next_failure_ms, cap_ms)
    known = np.isfinite(examples.next_failure_ms) | (examples.observed_ms >= cap_ms)
    enough = examples.windows.filled >= min(FEWEST, window.rows)
    rows = np.flatnonzero(known & enough & ~examples.after_failure & np.isfinite(told))
    if not len(rows):
        raise TrainingError("No example says how good the remaining life is that was told.")
    _, vehicle = np.unique(examples.windows.vin[rows], return_inverse=True)
    squares = (np.clip(told[rows], 0, cap_ms) - true[rows]) ** 2 * examples.weight[rows]
    of_vehicle = np.bincount(vehicle, squares) / np.bincount(vehicle, examples.weight[rows])
    return float(np.sqrt(of_vehicle.mean()))


def folds_of(vins: Ids, folds: int, seed: int) -> Ints:
    """The fold of each row, shape (n,): vehicles are ranked by a hash, and dealt out.

    Raises:
        TrainingError: there are fewer vehicles than folds.
    """
    names, row = np.unique(vins, return_inverse=True)
    if len(names) < folds:
        raise TrainingError(
            f"{len(names)} vehicles that ran to failure cannot be divided into {folds} groups.",
            "Record more of them, or take fewer --folds.",
        )
    key = seed.to_bytes(8, "big", signed=True)
    drawn = [hashlib.blake2b(name, key=key, digest_size=8).digest() for name in names.tolist()]
    rank = np.empty(len(names), dtype=np.int64)
    rank[sorted(range(len(names)), key=drawn.__getitem__)] = np.arange(len(names))
    fold: Ints = (rank % folds)[row]
    return fold


def last_windows(
    catalogue: Catalogue,
    batches: Iterable[TelemetryColumns],
    part_of: Callable[[bytes], str],
    windows: Sequence[WindowSpec],
) -> dict[WindowSpec, Windows]:
    """The window that ends in each test vehicle's last message, for each kind of window.

    Raises:
        TrainingError: there is no test vehicle.
    """
    features = catalogue.feature_columns
    states = {spec: WindowState(spec, len(features)) for spec in windows}
    last: dict[WindowSpec, dict[bytes, Windows]] = {spec: {} for spec in windows}
    for batch in batches:
        mine = np.array([part_of(vin) == TEST for vin in batch.vin.tolist()], dtype=bool)
        columns = batch.take(mine)
        if not len(columns):
            continue
        # The last row of each vehicle in this batch.
        _, back = np.unique(columns.vin[::-1], return_index=True)
        keep = np.zeros(len(columns), dtype=bool)
        keep[len(columns) - 1 - back] = True
        for spec, state in states.items():
            found = state.push(columns, features, keep)
            for position, name in enumerate(found.vin.tolist()):
                last[spec][name] = found.take(np.array([position]))
    if not all(last.values()):
        raise TrainingError("The data set holds no test vehicle.", "Record it with test vehicles.")
    return {
        spec: Windows.joined([found[name] for name in sorted(found)])
        for spec, found in last.items()
    }


class Quiet:
    """A `Watch` that passes progress on, and keeps nothing: fits of a minute begin anew."""

    def __init__(self, label: str, tell: Tell) -> None:
        self._label = label
        self._tell = tell

    def progress(self, phase: str, done: int, total: int, detail: str = "") -> None:
        """See `Watch`."""
        self._tell(Progress(f"{self._label} {phase}", done, total, detail))

    def checkpoint(self, epoch: int, state: Mapping[str, NDArray[Any]]) -> None:
        """See `Watch`."""

    def resume(self) -> tuple[int, dict[str, NDArray[Any]]] | None:
        """See `Watch`."""
        return None


def _data(
    lives: Lives, candidate: Candidate, examples: Examples, taught: Bools, others: Bools
) -> TrainingData:
    """What a candidate is given: examples that teach it, and others, which most make no use of.

    What ends a fitting early must not be what judges it: a tenth of the vehicles that could teach.
    """
    if candidate.ends_early:
        vins = examples.windows.vin
        tenth = folds_of(vins, min(_PARTS, len(np.unique(vins))), lives.plan.seed + 1) == 0
        taught, others = taught & ~tenth, taught & tenth
    plan = lives.plan
    rest = examples.take(others)
    return TrainingData(
        lives.catalogue,
        examples.take(taught),
        rest,
        rest,
        plan.horizon_ms,
        plan.life_cap_ms,
        plan.seed,
        candidate.window,
    )


def _fit(
    lives: Lives, candidate: Candidate, data: TrainingData, tell: Tell
) -> tuple[Model, Weights, dict[str, list[float]]]:
    assembled = replace(lives.assembled, data={candidate.window: data})
    watch = Quiet(candidate.label, tell)
    task = Task(candidate.architecture, candidate.window, candidate.how, watch)
    learnt, model = fit(task, assembled, lives.plan, lives.catalogue)
    return model, learnt.weights, learnt.curves


def _joined(parts: Sequence[Examples]) -> Examples:
    return Examples(
        Windows.joined([part.windows for part in parts]),
        np.concatenate([part.failure_ms for part in parts]),
        np.concatenate([part.observed_ms for part in parts]),
        np.concatenate([part.after_failure for part in parts]),
        np.concatenate([part.weight for part in parts]),
        parts[0].kinds,
    )
