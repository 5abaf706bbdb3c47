"""From the columns of a data set to what architectures learn from: one reading, bounded memory."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from motorcade.fleet.arrays import Floats, Ids, Ints
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.errors import TrainingError
from motorcade.ml.labels.failures import Failures
from motorcade.ml.models.base import Examples, TrainingData
from motorcade.ml.windows import Windows, WindowSpec, WindowState

#: Parts that fitting sees, and how much of the limit each may hold.
PARTS = {"train": 1.0, "validate": 0.25, "calibrate": 0.25}
#: Share of a part's examples that those near failures may be.
_NEAR = 0.5


class Limits(msgspec.Struct, frozen=True):
    """What examples there must be, and how many there may be.

    Windows of a part are thinned beyond `windows`, or beyond `bytes` of their values.
    """

    windows: int = 150_000
    bytes: int = 400 << 20
    #: Share of the features that a message must carry to be an example.
    coverage: float = 0.5
    records: int = 1000
    vehicles: int = 10


@dataclass
class _Sample:
    """Examples of one kind, thinned evenly whenever they are too many.

    Which examples stay is decided by a number drawn from each message's identity, so it does not
    depend on how batches are cut.
    """

    limit: int
    share: float = 1.0
    windows: list[Windows] = field(default_factory=list)
    drawn: list[Floats] = field(default_factory=list)
    count: int = 0

    def add(self, windows: Windows, drawn: Floats) -> None:
        self.windows.append(windows)
        self.drawn.append(drawn)
        self.count += len(windows)
        while self.count > self.limit:
            self.share /= 2
            kept = [one < self.share for one in self.drawn]
            self.windows = [w.take(k) for w, k in zip(self.windows, kept, strict=True)]
            self.drawn = [d[k] for d, k in zip(self.drawn, kept, strict=True)]
            self.count = sum(map(len, self.drawn))


class Assembled(msgspec.Struct, frozen=True):
    """What a reading gave: training data for each kind of window, and what was counted.

    records: usable messages by part, and `read` and `unusable`. vehicles: by part, and `failed`.
    calibrating: the vehicles of the part that thresholds are chosen on.
    """

    data: dict[WindowSpec, TrainingData]
    records: dict[str, int]
    vehicles: dict[str, int]
    calibrating: frozenset[bytes]


def assemble(
    catalogue: Catalogue,
    batches: Iterable[TelemetryColumns],
    failures: Failures,
    part_of: Callable[[bytes], str],
    specs: Sequence[WindowSpec],
    *,
    horizon_ms: int,
    life_cap_ms: int | None = None,
    seed: int = 0,
    limits: Limits,
) -> Assembled:
    """Read a data set once and keep what there is to learn from.

    Args:
        catalogue: decides the features.
        batches: the data set's telemetry, each car's messages in order.
        failures: what went wrong, and when.
        part_of: the part of a vehicle; those of no part in `PARTS` are only counted.
        specs: the windows that are wanted.
        horizon_ms: event time before a failure in which a car is not healthy.
        life_cap_ms: remaining life is learnt up to this.
        seed: of the thinning.
        limits: what must be, and what fits.

    Raises:
        TrainingError: too few records, or vehicles, are healthy and carry enough features.
    """
    features = catalogue.feature_columns
    states = {spec: WindowState(spec, len(features)) for spec in specs}
    samples = {
        (spec, part, near): _Sample(max(1, round(_most(spec, len(features), limits) * share * of)))
        for spec in specs
        for part, share in PARTS.items()
        for near, of in ((True, _NEAR), (False, 1 - _NEAR if failures.kinds else 1.0))
    }
    names = list(PARTS)
    last: dict[tuple[bytes, int], int] = {}
    records = dict.fromkeys([*names, "read", "unusable"], 0)
    met: dict[str, set[bytes]] = {name: set() for name in [*names, "test"]}
    healthy_records = 0
    for batch in batches:
        records["read"] += len(batch)
        codes = _codes(batch.vin, part_of, met)
        mine = codes >= 0
        columns = batch.take(mine)
        if not len(columns):
            continue
        codes = codes[mine]
        _remember(last, columns)
        usable = np.isfinite(columns.values[:, features]).mean(axis=1) >= limits.coverage
        records["unusable"] += int((~usable).sum())
        for code, name in enumerate(names):
            records[name] += int((usable & (codes == code)).sum())
        identity = (columns.vin, columns.boot, columns.time)
        near = failures.ahead(*identity).min(axis=1, initial=np.inf) <= horizon_ms
        healthy_records += int((usable & ~near & ~failures.before(*identity)).sum())
        drawn = draws(columns, seed)
        for spec, state in states.items():
            shares = np.array(
                [[samples[spec, name, one].share for one in (False, True)] for name in names]
            )
            keep = usable & (drawn < shares[codes, near.astype(int)])
            windows = state.push(columns, features, keep)
            kept_codes, kept_near, kept_drawn = codes[keep], near[keep], drawn[keep]
            for code, name in enumerate(names):
                for one in (False, True):
                    rows = np.flatnonzero((kept_codes == code) & (kept_near == one))
                    if len(rows):
                        samples[spec, name, one].add(windows.take(rows), kept_drawn[rows])
    _check(records, healthy_records, met, limits)
    data = {}
    for spec in specs:
        parts = {
            name: _examples([samples[spec, name, near] for near in (True, False)], failures, last)
            for name in names
        }
        data[spec] = TrainingData(
            catalogue,
            parts["train"],
            parts["validate"],
            parts["calibrate"],
            horizon_ms,
            life_cap_ms,
            seed,
            spec,
        )
    vehicles = {name: len(found) for name, found in met.items()}
    everyone = set().union(*met.values())
    vehicles["failed"] = len(everyone & failures.vehicles)
    return Assembled(data, records, vehicles, frozenset(met["calibrate"]))


def draws(columns: TelemetryColumns, seed: int) -> Floats:
    """A number in [0, 1) of each message's identity, shape (n,)."""
    padded = np.zeros((len(columns), 24), dtype=np.uint8)
    padded[:, :17] = np.ascontiguousarray(columns.vin).view(np.uint8).reshape(-1, 17)
    words = [*padded.view(np.uint64).T, columns.boot, columns.seq]
    state = np.full(len(columns), seed & (2**64 - 1), dtype=np.uint64)
    for word in words:
        # SplitMix64, Steele, Lea and Flood 2014.
        state = (state ^ word.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    numbers: Floats = (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


def _most(spec: WindowSpec, features: int, limits: Limits) -> int:
    return min(limits.windows, limits.bytes // (4 * spec.rows * features))


def _codes(vins: Ids, part_of: Callable[[bytes], str], met: dict[str, set[bytes]]) -> Ints:
    """The number of each row's part, -1 where it is none that fitting sees."""
    names = list(PARTS)
    unique, row = np.unique(vins, return_inverse=True)
    codes = np.full(len(unique), -1, dtype=np.int64)
    for position, vin in enumerate(unique.tolist()):
        part = part_of(vin)
        met[part].add(vin)
        if part in PARTS:
            codes[position] = names.index(part)
    return codes[row]


def _remember(last: dict[tuple[bytes, int], int], columns: TelemetryColumns) -> None:
    """The latest event time of each car and boot."""
    order = np.lexsort((columns.time, columns.boot, columns.vin))
    vin, boot = columns.vin[order], columns.boot[order]
    ends = np.flatnonzero(np.r_[(vin[1:] != vin[:-1]) | (boot[1:] != boot[:-1]), True])
    for car, one, time in zip(
        vin[ends].tolist(), boot[ends].tolist(), columns.time[order][ends].tolist(), strict=True
    ):
        last[car, one] = max(time, last.get((car, one), time))


def _examples(
    samples: Sequence[_Sample], failures: Failures, last: Mapping[tuple[bytes, int], int]
) -> Examples:
    """The examples of a part in the order of car, boot and time."""
    joined = [windows for sample in samples for windows in sample.windows]
    if not joined:
        raise TrainingError("A part of the data set has no example.", "Record more vehicles.")
    windows = Windows.joined(joined)
    weight = np.concatenate(
        [np.full(sample.count, 1 / sample.share) for sample in samples if sample.windows]
    )
    order = np.lexsort((windows.time, windows.boot, windows.vin))
    windows, weight = windows.take(order), weight[order]
    vin, boot, time = windows.vin, windows.boot, windows.time
    ends = np.fromiter(
        (last[pair] for pair in zip(vin.tolist(), boot.tolist(), strict=True)), np.int64, len(vin)
    )
    return Examples(
        windows,
        failures.ahead(vin, boot, time),
        (ends - time).astype(np.float64),
        failures.before(vin, boot, time),
        weight,
        failures.kinds,
    )


def _check(
    records: dict[str, int], healthy: int, met: Mapping[str, set[bytes]], limits: Limits
) -> None:
    if healthy < limits.records:
        raise TrainingError(
            f"Only {healthy} of {records['read']} records can train: at least {limits.records} are "
            f"needed, of healthy vehicles and with {limits.coverage:.0%} of the features.",
            "Let the cars drive longer, or record an earlier time.",
        )
    vehicles = sum(map(len, met.values()))
    if vehicles < limits.vehicles:
        raise TrainingError(
            f"The records are of {vehicles} vehicle(s): at least {limits.vehicles} are needed, "
            "because some are held back to choose thresholds and to judge.",
            "Record more vehicles.",
        )
