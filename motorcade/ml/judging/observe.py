"""Every message of the vehicles that judge: what became of the car, and what each model says."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Bools, Floats, Ids, Ints
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.messages import DiagnosticTroubleCode
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.labels.failures import Failures
from motorcade.ml.models.base import Model
from motorcade.ml.store import Manifest
from motorcade.ml.windows import WindowSpec, WindowState

#: Messages that are scored at once.
_ROWS = 8192
#: A longer silence was not driven; as a window's.
_SILENCE_MS = WindowSpec().max_gap_ms


class Failure(NamedTuple):
    """A failure that a car reported: positions of vehicle and kind, boot and event time."""

    vehicle: int
    boot: int
    time: int
    kind: int


@dataclass(frozen=True)
class Streams:
    """The rows of each vehicle: order[ends[v] : ends[v + 1]], in the order of the stream."""

    order: Ints
    ends: Ints

    @classmethod
    def of(cls, vehicle: NDArray[np.int32], vehicles: int) -> "Streams":
        """Of (n,) positions of vehicles."""
        order = np.argsort(vehicle, kind="stable")
        return cls(order, np.searchsorted(vehicle[order], np.arange(vehicles + 1)))

    def __getitem__(self, vehicle: int) -> Ints:
        """The rows of a vehicle."""
        return self.order[self.ends[vehicle] : self.ends[vehicle + 1]]


@dataclass(frozen=True)
class Observed:
    """n messages of some vehicles, each vehicle's in the order of the stream.

    vins: (vehicles,) S17, sorted. vehicle: (n,) positions in them. boot, time: (n,) milliseconds.
    ahead: (n,) milliseconds to the vehicle's next failure, inf if none is known. kind: (n,) the
    position of its kind, -1 for none. after_failure: (n,) whether one came before in the boot.
    left: (n,) milliseconds for which the vehicle was observed afterwards. driven: (n,) milliseconds
    since its message before, 0 after another boot or a long silence.
    kinds: trouble codes with the cars' own word for them. failures: of these vehicles, the first of
    each kind in each boot.
    """

    vins: Ids
    vehicle: NDArray[np.int32]
    boot: Ints
    time: Ints
    ahead: Floats
    kind: NDArray[np.int16]
    after_failure: Bools
    left: Floats
    driven: Floats
    kinds: tuple[str, ...]
    failures: tuple[Failure, ...]

    def __len__(self) -> int:
        return len(self.vehicle)

    def failing(self, within_ms: float) -> Bools:
        """A failure comes within this time, and none came before in the boot; shape (n,)."""
        return (self.ahead <= within_ms) & ~self.after_failure

    def healthy(self, within_ms: float) -> Bools:
        """No failure within this time, and none before in the boot; shape (n,)."""
        return (self.ahead > within_ms) & ~self.after_failure

    def known(self, within_ms: float) -> Bools:
        """A failure came, or the vehicle was observed for this time; shape (n,)."""
        return np.isfinite(self.ahead) | (self.left >= within_ms)

    @cached_property
    def streams(self) -> Streams:
        """The rows of each vehicle."""
        return Streams.of(self.vehicle, len(self.vins))


@dataclass(frozen=True)
class Said:
    """What a model says of n messages.

    score: (n,), NaN where it gives none. probability, life: (n,), NaN where it does not say.
    above: (k,) rows above its threshold, rising; top, share: (k, TOP) their largest contributions,
    as positions in the manifest's features, and shares of the score; kind: (k,) the failure that is
    foretold, as position in the manifest's kinds, -1 for none.
    """

    manifest: Manifest
    score: Floats
    probability: NDArray[np.float32]
    life: NDArray[np.float32]
    above: Ints
    top: NDArray[np.int16]
    share: NDArray[np.float32]
    kind: NDArray[np.int16]


class _Part(NamedTuple):
    score: Floats
    probability: NDArray[np.float32]
    life: NDArray[np.float32]
    above: Ints
    top: NDArray[np.int16]
    share: NDArray[np.float32]
    kind: NDArray[np.int16]


def observe(
    models: Sequence[Model],
    catalogue: Catalogue,
    batches: Iterable[TelemetryColumns],
    codes: Iterable[DiagnosticTroubleCode],
    vins: Collection[bytes],
    told: Callable[[int], None],
    since_ms: int | None = None,
) -> tuple[Observed, list[Said]]:
    """Score every message of some vehicles by several models, in one reading.

    Args:
        models: ready to score.
        catalogue: decides the features.
        batches: telemetry, each vehicle's messages in order; of other vehicles, too.
        codes: trouble codes that were reported.
        vins: the vehicles.
        told: called with the rows read so far, of all vehicles.
        since_ms: event time from which messages judge; those before only fill windows. None: all.

    Returns:
        The messages, and what each model says of them.
    """
    met = list(codes)
    failures = Failures.of(met)
    names = np.array(sorted(vins), dtype="S17")
    features = catalogue.feature_columns
    states = {spec: WindowState(spec, len(features)) for spec in {one.window for one in models}}
    labels: list[tuple[NDArray[np.generic], ...]] = []
    parts: list[list[_Part]] = [[] for _ in models]
    done = 0
    for columns in _gathered(batches, names, told):
        judging = None if since_ms is None else columns.time >= since_ms
        windows = {spec: state.push(columns, features, judging) for spec, state in states.items()}
        if judging is not None:
            columns = columns.take(judging)  # noqa: PLW2901
        identity = columns.vin, columns.boot, columns.time
        ahead = failures.ahead(*identity)
        soonest = ahead.min(axis=1, initial=np.inf)
        # Where no code was ever reported there is no column to choose from.
        next_kind = ahead.argmin(axis=1) if failures.kinds else np.zeros(len(columns), np.int64)
        kind = np.where(np.isfinite(soonest), next_kind, -1).astype(np.int16)
        labels.append(
            (
                np.searchsorted(names, columns.vin).astype(np.int32),
                columns.boot,
                columns.time,
                soonest,
                kind,
                failures.before(*identity),
            )
        )
        for model, found in zip(models, parts, strict=True):
            mine = windows[model.window]
            found.append(_said(model, mine.values, mine.filled, done))
        done += len(columns)
    observed = _observed(names, labels, failures.kinds, met, since_ms or 0)
    return observed, [
        Said(model.manifest, *map(np.concatenate, zip(*found, strict=True)))
        if found
        else Said(model.manifest, *_nothing())
        for model, found in zip(models, parts, strict=True)
    ]


def _gathered(
    batches: Iterable[TelemetryColumns], names: Ids, told: Callable[[int], None]
) -> Iterator[TelemetryColumns]:
    """The rows of some vehicles in batches worth scoring."""
    held: list[TelemetryColumns] = []
    count = read = 0
    wanted = set(names.tolist())
    for batch in batches:
        read += len(batch)
        unique, row = np.unique(batch.vin, return_inverse=True)
        mine = batch.take(np.array([name in wanted for name in unique.tolist()], dtype=bool)[row])
        if len(mine):
            held.append(mine)
            count += len(mine)
        if count >= _ROWS:
            yield TelemetryColumns.joined(held)
            held, count = [], 0
        told(read)
    if held:
        yield TelemetryColumns.joined(held)


def _said(model: Model, values: NDArray[np.float32], filled: Ints, first: int) -> _Part:
    """What a model says of the windows that hold enough samples."""
    n = len(values)
    rows = np.flatnonzero(filled >= model.manifest.least_filled)
    scores = model.score(values if len(rows) == n else values[rows])
    score = np.full(n, np.nan)
    probability, life = (np.full(n, np.nan, dtype=np.float32) for _ in range(2))
    score[rows], probability[rows], life[rows] = scores.score, scores.probability, scores.life
    above = np.flatnonzero(scores.score > model.manifest.threshold)
    return _Part(
        score,
        probability,
        life,
        first + rows[above],
        scores.top[above].astype(np.int16),
        scores.share[above].astype(np.float32),
        scores.kind[above].astype(np.int16),
    )


def _nothing() -> _Part:
    none = np.empty(0, dtype=np.float32)
    whole = np.empty((0, 1))
    short = np.empty(0, dtype=np.int16)
    return _Part(
        np.empty(0),
        none,
        none,
        np.empty(0, dtype=np.int64),
        whole.astype(np.int16),
        whole.astype(np.float32),
        short,
    )


def _observed(
    names: Ids,
    labels: Sequence[tuple[NDArray[np.generic], ...]],
    kinds: tuple[str, ...],
    codes: Sequence[DiagnosticTroubleCode],
    since_ms: int,
) -> Observed:
    if labels:
        vehicle, boot, time, ahead, kind, after = (
            np.concatenate(column) for column in zip(*labels, strict=True)
        )
    else:
        vehicle, kind = np.empty(0, np.int32), np.empty(0, np.int16)
        boot, time = np.empty(0, np.int64), np.empty(0, np.int64)
        ahead, after = np.empty(0), np.empty(0, dtype=bool)
    told = {code.code: code.kind for code in codes}
    last = np.zeros(len(names), dtype=np.int64)
    np.maximum.at(last, vehicle, time)
    return Observed(
        vins=names,
        vehicle=vehicle,
        boot=boot,
        time=time,
        ahead=ahead,
        kind=kind,
        after_failure=after,
        left=(last[vehicle] - time).astype(np.float64),
        driven=_driven(vehicle, boot, time),
        kinds=tuple(f"{code} {told[code]}".strip() for code in kinds),
        failures=_failures(names, kinds, [code for code in codes if code.time >= since_ms]),
    )


def _driven(vehicle: NDArray[np.int32], boot: Ints, time: Ints) -> Floats:
    order = np.argsort(vehicle, kind="stable")
    step = np.diff(time[order], prepend=0).astype(np.float64)
    same = (np.diff(vehicle[order], prepend=-1) == 0) & (np.diff(boot[order], prepend=0) == 0)
    driven = np.empty(len(order))
    driven[order] = np.where(same & (step > 0) & (step <= _SILENCE_MS), step, 0.0)
    return driven


def _failures(
    names: Ids, kinds: tuple[str, ...], codes: Sequence[DiagnosticTroubleCode]
) -> tuple[Failure, ...]:
    place = {name: number for number, name in enumerate(names.tolist())}
    first: dict[tuple[int, int, int], int] = {}
    for code in codes:
        vehicle = place.get(code.vin.encode())
        if vehicle is not None:
            key = vehicle, code.boot, kinds.index(code.code)
            first[key] = min(code.time, first.get(key, code.time))
    return tuple(
        sorted(Failure(vehicle, boot, time, kind) for (vehicle, boot, kind), time in first.items())
    )
