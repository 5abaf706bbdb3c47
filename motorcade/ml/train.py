"""Training: from recorded ranges of telemetry to a stored and announced model."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import NamedTuple

import msgspec
import numpy as np

from motorcade.fleet import messages
from motorcade.fleet.arrays import Floats, Ids, Ints
from motorcade.fleet.avro import Schema
from motorcade.fleet.catalogue import Catalogue, load_catalogue
from motorcade.fleet.errors import DecodeError
from motorcade.fleet.messages import DiagnosticTroubleCode, ModelAnnouncement
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.fleet.topics import DTC, TELEMETRY
from motorcade.ml import autoencoder
from motorcade.ml.announce import announce
from motorcade.ml.engine import tensorflow
from motorcade.ml.errors import TrainingError
from motorcade.ml.features import Moments, Scale
from motorcade.ml.labels.healthy import Healthy
from motorcade.ml.reading.columnar import ColumnarReader, registry_lookup
from motorcade.ml.reading.ranges import OffsetRange, read_values, record_ranges
from motorcade.ml.reading.tf_data import RangeDataset
from motorcade.ml.store import FORMAT, Manifest, ModelStore, Origin, Weights
from motorcade.ml.training import threshold

#: Vehicles for validation (early stop, spread of residuals) and held back (threshold).
_VALIDATION_SHARE, _HELD_BACK_SHARE = 0.15, 0.15
#: Rows of a part that are kept in memory.
_MOST_ROWS = 300_000


class Request(msgspec.Struct, frozen=True):
    """What to train on and how."""

    name: str = "autoencoder"
    #: Ranges to read; when empty, what `telemetry` took in between `since_ms` and `until_ms`.
    ranges: tuple[OffsetRange, ...] = ()
    since_ms: int | None = None
    until_ms: int | None = None
    #: Event time after a record within which a trouble code makes it unhealthy.
    horizon_ms: int = 24 * 3600 * 1000
    #: Share of the features that a message must carry, to train and to be scored.
    minimum_coverage: float = 0.5
    minimum_records: int = 1000
    minimum_vehicles: int = 10
    epochs: int = 20
    #: Most rows per training step.
    batch: int = 256
    seed: int = 0


class Progress(NamedTuple):
    """How far a phase is; `detail` is for people."""

    phase: str
    done: int
    total: int
    detail: str = ""


class Trained(NamedTuple):
    """A stored and announced model."""

    manifest: Manifest
    announcement: ModelAnnouncement


class Split(NamedTuple):
    """Vehicles by what they are for; no vehicle is in two parts."""

    train: set[bytes]
    validate: set[bytes]
    hold: set[bytes]


class _Part(NamedTuple):
    """Rows of a part: features (n, features), vins (n,), event times (n,)."""

    features: Floats
    vins: Ids
    times: Ints


def train(
    settings: ProcessSettings, request: Request, progress: Callable[[Progress], None]
) -> Trained:
    """Train the autoencoder on recorded telemetry, store it and announce it.

    Raises:
        TrainingError: too few records or vehicles, or features that cannot be learnt.
        RangeError: a range is not in Kafka, or no longer.
        UnreachableError: Kafka or the registry does not answer.
    """
    catalogue = load_catalogue(settings.signals)
    ranges = list(request.ranges) or record_ranges(
        settings, TELEMETRY, since_ms=request.since_ms, until_ms=request.until_ms
    )
    if not ranges:
        raise TrainingError(
            f"The topic {TELEMETRY} holds no records in the time asked for.",
            "Let cars drive first: motorcade demo, or motorcade up and your own fleet.",
        )
    reader = ColumnarReader(settings, ranges, catalogue, registry_lookup(settings))
    codes = _trouble_codes(settings)
    store = ModelStore.of(settings)
    manifest, weights = learn(
        catalogue, reader, len(reader), codes, request, progress, lambda: reader.schemas
    )
    manifest = msgspec.structs.replace(
        manifest,
        version=store.next_version(request.name),
        origin=msgspec.structs.replace(
            manifest.origin,
            ranges=[tuple(one) for one in ranges],
            schema_ids=sorted(reader.schemas),
        ),
    )
    announcement = store.write(manifest, weights, _now_ms())
    progress(Progress("announcing", 0, 1))
    asyncio.run(announce(settings, announcement))
    progress(Progress("announcing", 1, 1, f"{manifest.name} {manifest.version} is live"))
    return Trained(manifest, announcement)


def learn(
    catalogue: Catalogue,
    batches: Iterable[TelemetryColumns],
    total: int,
    codes: Iterable[DiagnosticTroubleCode],
    request: Request,
    progress: Callable[[Progress], None],
    schemas: Callable[[], dict[int, Schema]] = dict,
) -> tuple[Manifest, Weights]:
    """Learn a model from batches of telemetry, which are iterated several times; no I/O of its own.

    Args:
        catalogue: decides the features.
        batches: the same rows in the same order whenever iterated.
        total: rows in all, for the progress.
        codes: trouble codes that were reported.
        request: how to train; its ranges are not used.
        progress: told often.
        schemas: writers' schemas that were met, once the batches have been read.

    Returns:
        A manifest whose version and origin are to be completed, and the weights.

    Raises:
        TrainingError: as `train`.
    """
    healthy = Healthy(codes, request.horizon_ms)
    columns = catalogue.feature_columns

    def usable(batch: TelemetryColumns) -> TelemetryColumns:
        enough = np.isfinite(batch.values[:, columns]).mean(axis=1) >= request.minimum_coverage
        return batch.take(enough & healthy.rows(batch))

    moments = Moments(catalogue)
    for batch in _counted(batches, total, progress):
        kept = usable(batch)
        if len(kept):
            moments.add(kept.vin, kept.values[:, columns])
    _check_schemas(catalogue, schemas())
    rows = moments.rows()
    _check_amount(rows, total, request)
    split = _split(rows, request.seed)
    scale = _scale(catalogue, moments, split, request)

    sizes = {part: sum(rows[v] for v in vins) for part, vins in split._asdict().items()}
    validation = _collect(batches, usable, columns, split.validate, sizes["validate"])
    progress(Progress("preparing", 0, 1, "importing TensorFlow"))
    tensorflow()
    progress(Progress("preparing", 1, 1))
    # A small training set still gets its hundred steps an epoch.
    batch_size = min(request.batch, max(32, sizes["train"] // 100))
    dataset = RangeDataset(
        batches,
        lambda batch: (kept := usable(batch)).values[_among(kept.vin, split.train)][:, columns],
        len(columns),
        size=sizes["train"],
        batch=batch_size,
        seed=request.seed,
    )
    how = autoencoder.Fit(epochs=request.epochs, seed=request.seed)
    weights, history = autoencoder.fit(
        dataset,
        validation.features,
        scale,
        how,
        lambda e: progress(
            Progress("training", e.number, e.of, f"validation loss {e.validation_loss:.4f}")
        ),
    )
    progress(Progress("training", request.epochs, request.epochs))

    held = _collect(batches, usable, columns, split.hold, sizes["hold"])
    residual = autoencoder.spread(weights, scale, catalogue, validation.features)
    manifest = Manifest(
        format=FORMAT,
        name=request.name,
        version=0,
        architecture=autoencoder.ARCHITECTURE,
        created=_now_ms(),
        catalogue=catalogue.name,
        features=list(scale.names),
        mean=scale.mean.tolist(),
        std=scale.std.tolist(),
        learnt=scale.learnt.tolist(),
        residual=residual.tolist(),
        threshold=1.0,
        minimum_coverage=request.minimum_coverage,
        origin=Origin(
            ranges=[],
            schema_ids=[],
            dataset="",
            records=sizes | {"read": total, "unusable": total - sum(rows.values())},
            vehicles={part: len(vins) for part, vins in split._asdict().items()}
            | {"failed": healthy.failed},
            seed=request.seed,
        ),
        metrics={},
        libraries={name: version(name) for name in ("motorcade", "tensorflow-cpu", "numpy")},
        horizon_ms=request.horizon_ms,
    )
    return _calibrated(manifest, weights, catalogue, held, history), weights


def _calibrated(
    manifest: Manifest,
    weights: Weights,
    catalogue: Catalogue,
    held: _Part,
    history: Sequence[autoencoder.Epoch],
) -> Manifest:
    """The manifest with its threshold and what it means on the held-back vehicles."""
    model = autoencoder.Autoencoder(manifest, weights, catalogue)
    values = np.full((len(held.features), len(catalogue.names)), np.nan)
    values[:, catalogue.feature_columns] = held.features
    scores = model.score(values).score
    scored = np.isfinite(scores)
    if not scored.any():
        raise TrainingError(
            "No held-back message carries enough of the learnt features to be scored.",
            "Record more vehicles that send most features.",
        )
    scores, vins, times = scores[scored], held.vins[scored], held.times[scored]
    limit = threshold.choose(scores, vins, times)
    best = min(history, key=lambda epoch: epoch.validation_loss)
    return msgspec.structs.replace(
        manifest,
        threshold=limit,
        metrics={
            "loss": best.loss,
            "validation_loss": best.validation_loss,
            "epochs": float(len(history)),
            "held_back_median": float(np.median(scores)),
            "held_back_above_threshold": float(np.mean(scores > limit)),
            "held_back_peak": float(max(threshold.peaks(scores, vins, times, limit).values())),
        },
    )


def _counted(
    batches: Iterable[TelemetryColumns], total: int, progress: Callable[[Progress], None]
) -> Iterator[TelemetryColumns]:
    done = 0
    progress(Progress("reading", 0, total))
    for batch in batches:
        done += len(batch)
        progress(Progress("reading", done, total))
        yield batch


def _check_schemas(catalogue: Catalogue, schemas: dict[int, Schema]) -> None:
    for number, schema in schemas.items():
        fields = {field["name"] for field in schema["fields"]}
        if missing := [name for name in catalogue.features if name not in fields]:
            raise TrainingError(
                f"The records' schema {number} lacks the feature {', '.join(missing)} of the "
                f"catalogue {catalogue.name!r}.",
                "Train on records that were written with this catalogue, or pass theirs: "
                "--signals FILE.",
            )


def _check_amount(rows: dict[bytes, int], total: int, request: Request) -> None:
    usable = sum(rows.values())
    if usable < request.minimum_records:
        raise TrainingError(
            f"Only {usable} of {total} records can train: at least {request.minimum_records} are "
            f"needed, of healthy vehicles and with {request.minimum_coverage:.0%} of the features.",
            "Let the cars drive longer, or record an earlier time.",
        )
    if len(rows) < request.minimum_vehicles:
        raise TrainingError(
            f"The records are of {len(rows)} vehicle(s): at least {request.minimum_vehicles} are "
            "needed, because some are held back to choose the threshold.",
            "Record more vehicles.",
        )


def _split(rows: dict[bytes, int], seed: int) -> Split:
    """Vehicles in the order of a hash: the same fleet and seed always give the same parts."""
    key = seed.to_bytes(8, "big", signed=True)
    order = sorted(rows, key=lambda vin: hashlib.blake2b(vin, key=key, digest_size=8).digest())
    validate = max(2, round(_VALIDATION_SHARE * len(order)))
    hold = max(2, round(_HELD_BACK_SHARE * len(order)))
    return Split(
        set(order[validate + hold :]), set(order[:validate]), set(order[validate : validate + hold])
    )


def _scale(catalogue: Catalogue, moments: Moments, split: Split, request: Request) -> Scale:
    scale = moments.scale(split.train, max(100, request.minimum_records // 10))
    constant = moments.constant(split.train)
    moving = scale.learnt & ~constant
    if moving.sum() < request.minimum_coverage * len(scale.names):
        names = [n for n, moves in zip(scale.names, moving, strict=True) if not moves]
        raise TrainingError(
            f"{len(names)} of {len(scale.names)} features are absent or constant in the training "
            f"range: {', '.join(names)}.",
            f"A model of the catalogue {catalogue.name!r} needs most of them to vary: let the cars "
            "drive, and check that they send these signals.",
        )
    return scale


def _among(vins: Ids, wanted: set[bytes]) -> np.ndarray:  # type: ignore[type-arg]
    names, row = np.unique(vins, return_inverse=True)
    chosen = np.array([name in wanted for name in names.tolist()], dtype=bool)
    return chosen[row]


def _collect(
    batches: Iterable[TelemetryColumns],
    usable: Callable[[TelemetryColumns], TelemetryColumns],
    columns: Ints,
    vins: set[bytes],
    size: int,
) -> _Part:
    """The rows of some vehicles; evenly thinned when there are more than memory should hold."""
    every = -(-size // _MOST_ROWS)
    parts: list[TelemetryColumns] = []
    seen = 0
    for batch in batches:
        kept = usable(batch)
        kept = kept.take(_among(kept.vin, vins))
        chosen = (np.arange(len(kept)) + seen) % every == 0
        seen += len(kept)
        if chosen.any():
            parts.append(kept.take(chosen))
    return _Part(
        np.concatenate([part.values[:, columns] for part in parts]),
        np.concatenate([part.vin for part in parts]),
        np.concatenate([part.time for part in parts]),
    )


def _trouble_codes(settings: ProcessSettings) -> list[DiagnosticTroubleCode]:
    codes = []
    for values in read_values(settings, record_ranges(settings, DTC)):
        for value in values:
            try:
                codes.append(messages.decode(DiagnosticTroubleCode, value))
            except DecodeError:
                # What a car sent is not validated before this topic; it names no car here.
                continue
    return codes


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
