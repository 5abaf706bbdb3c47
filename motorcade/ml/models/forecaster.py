"""A sequence model that foretells: failure within the horizon by kind, and the remaining life.

Both heads share a network over each vehicle's own past. A failure's probability is calibrated on
vehicles that the network never saw. Remaining life is learnt up to a cap, because nothing shows
yet when the end is far; what is cut short before a failure teaches that life lasted so long.
"""

from typing import Any, Literal, NamedTuple, cast, get_args

import msgspec
import numpy as np

from motorcade.fleet.catalogue import Catalogue
from motorcade.ml.engine import tensorflow
from motorcade.ml.errors import TrainingError
from motorcade.ml.features import Scale
from motorcade.ml.models.base import (
    Examples,
    FitOptions,
    Learnt,
    Objective,
    TrainingData,
    Watch,
)
from motorcade.ml.models.calibration import Sigmoid, expected_failures, threshold
from motorcade.ml.models.forecast import OFFSETS, SLOPES, Forecast, outputs_of
from motorcade.ml.models.gradient import descend
from motorcade.ml.models.kinds import any_kind, errors_of, scalings_of
from motorcade.ml.models.outcomes import require_outcomes
from motorcade.ml.models.reconstruction import standardise
from motorcade.ml.models.sequence_network import POOL, Shape, build
from motorcade.ml.store import Manifest, Weights
from motorcade.ml.windows import Floats32, WindowSpec

NAME = "forecaster"
Heads = Literal["auto", "failure", "life", "both"]
#: Of the life's squared error, in units of the cap, beside the failures' cross-entropy: with it
#: both are of one size.
_LIFE_WEIGHT = 4.0
_WEIGHT_DECAY = 1e-4
#: Samples before which nothing is foretold.
_FEWEST = 30
#: Learning rate at the end, as a share of that at the beginning; falls as a cosine.
_LAST_RATE = 0.02


class Targets(NamedTuple):
    """What n windows are to say; float32, as a batch of the network's.

    failed: (n, kinds) 1 where that failure came within the horizon. known: (n,) 0 where the vehicle
    was not watched for the whole horizon. life: (n,) of the cap. exact: (n,) 0 where life is only
    known to have lasted that long.
    """

    windows: Floats32
    failed: Floats32
    known: Floats32
    life: Floats32
    exact: Floats32


class ForecasterArchitecture:
    """Learns failures and remaining life from all that vehicles did before they failed, or did not.

    Settings: heads (auto, failure, life, both; auto takes what the data can teach), and those of
    `Shape` from `recent` on.
    """

    name = NAME
    objective: Objective = "failure"
    window = WindowSpec(rows=30, every_ms=60_000)
    baseline = False

    def fit(self, data: TrainingData, how: FitOptions, watch: Watch) -> Learnt:
        """See `Architecture`."""
        shape = _shape(data, how.extra)
        if shape.kinds:
            require_outcomes(data.train, data.horizon_ms)
        least = min(_FEWEST, data.window.rows)
        # Short windows teach as well; they are not judged, because they will not be scored.
        train = _targets(data.train, data, shape)
        validate = _targets(_filled(data.validate, least), data, shape)
        scale = Scale.learnt_from(train.windows[:, -1], data.catalogue)
        watch.progress("preparing", 0, 1, "importing TensorFlow")
        keras = tensorflow().keras
        watch.progress("preparing", 1, 1)
        keras.utils.set_random_seed(how.seed)
        network = build(shape)
        steps = -(-len(train.windows) // how.batch)
        found = descend(
            network,
            _loss(network, shape, scale, training=True),
            train,
            validate,
            how,
            watch,
            optimizer=keras.optimizers.AdamW(
                keras.optimizers.schedules.CosineDecay(
                    how.learning_rate, steps * how.epochs, alpha=_LAST_RATE
                ),
                weight_decay=_WEIGHT_DECAY,
            ),
            judged_by=_loss(network, shape, scale, training=False),
        )
        weights, metrics = dict(found.weights), dict(found.metrics)
        if shape.kinds:
            scalings, limit, errors = _judged(
                found.weights, shape, scale, _filled(data.calibrate, least), data.horizon_ms
            )
            weights[SLOPES] = np.array([one.slope for one in scalings])
            weights[OFFSETS] = np.array([one.offset for one in scalings])
            metrics |= errors
        fields: dict[str, Any] = {
            "mean": scale.mean.tolist(),
            "std": scale.std.tolist(),
            "learnt": scale.learnt.tolist(),
            "minimum_filled": least,
            "kinds": list(data.train.kinds) if shape.kinds else [],
            "life_cap_ms": data.life_cap_ms if shape.life else None,
            "extra": {name: float(value) for name, value in msgspec.to_builtins(shape).items()},
        }
        if shape.kinds:
            fields["threshold"] = limit
        else:
            # Life ends within the horizon: what the score of `Forecast` is then.
            cap = float(cast(int, data.life_cap_ms))
            fields["threshold"] = max(0.5, 1 - data.horizon_ms / cap)
        return Learnt(weights, fields, found.curves, metrics)

    def load(self, manifest: Manifest, weights: Weights, catalogue: Catalogue) -> Forecast:
        """See `Architecture`."""
        return Forecast(manifest, weights, catalogue)


def _shape(data: TrainingData, extra: dict[str, float | str]) -> Shape:
    settings = dict(extra)
    heads = str(settings.pop("heads", "auto"))
    if heads not in get_args(Heads):
        raise TrainingError(
            f"The {NAME} has no heads {heads!r}.", f"There are: {', '.join(get_args(Heads))}."
        )
    failures = bool(np.isfinite(data.train.failure_ms).any())
    if not failures:
        raise TrainingError(
            f"No vehicle that trains failed: the {NAME} has nothing to foretell.",
            "Record vehicles that failed, or train an anomaly model.",
        )
    if heads in ("life", "both") and not data.life_cap_ms:
        raise TrainingError(
            "Remaining life needs a cap, up to which it is told.", "Say it: --life-cap."
        )
    free = sorted(set(Shape.__struct_fields__) - set(_DECIDED))
    for name, value in settings.items():
        if name not in free:
            raise TrainingError(
                f"The {NAME} has no setting {name}={value}.",
                f"There are: {', '.join(free)}; and heads: {', '.join(get_args(Heads))}.",
            )
    rows = data.window.rows
    wanted = {
        "pool": min(POOL, rows),
        **settings,
        "rows": rows,
        "features": len(data.catalogue.features),
        "kinds": len(data.train.kinds) if heads != "life" else 0,
        "life": int(heads in ("life", "both") or (heads == "auto" and bool(data.life_cap_ms))),
    }
    try:
        return msgspec.convert(wanted, Shape, strict=False)
    except msgspec.ValidationError as error:
        raise TrainingError(f"The {NAME} cannot be built so: {error}.") from error


_DECIDED = ("rows", "features", "kinds", "life")


def _filled(part: Examples, least: int) -> Examples:
    enough = part.windows.filled >= least
    return part if enough.all() else part.take(enough)


def _targets(part: Examples, data: TrainingData, shape: Shape) -> Targets:
    known = part.known(data.horizon_ms)
    usable = ~part.after_failure & (known | bool(shape.life))
    part = part if usable.all() else part.take(usable)
    cap = float(data.life_cap_ms or data.horizon_ms)
    until = part.next_failure_ms
    seen = np.isfinite(until)
    life = np.where(seen, until, part.observed_ms)
    return Targets(
        part.windows.values,
        (part.failure_ms[:, : shape.kinds] <= data.horizon_ms).astype(np.float32),
        known[usable].astype(np.float32),
        (np.minimum(life, cap) / cap).astype(np.float32),
        (seen | (life >= cap)).astype(np.float32),
    )


def _loss(network: Any, shape: Shape, scale: Scale, *, training: bool) -> Any:
    tf = tensorflow()
    standardised = standardise(tf, scale, tf.float32)

    def loss(windows: Any, failed: Any, known: Any, life: Any, exact: Any) -> tuple[Any, Any]:
        inputs, present = standardised(windows)
        outputs = network([inputs, present], training=training)
        total = tf.zeros(())
        if shape.kinds:
            truth = tf.repeat(failed[:, tf.newaxis], shape.members, axis=1)
            entropy = tf.nn.sigmoid_cross_entropy_with_logits(truth, outputs[:, :, : shape.kinds])
            total += tf.reduce_sum(entropy * known[:, tf.newaxis, tf.newaxis])
        if shape.life:
            # Told too long is wrong anyway; told too short only where the end was seen.
            error = outputs[:, :, -1] - life[:, tf.newaxis]
            wrong = tf.where(exact[:, tf.newaxis] > 0, error, tf.minimum(error, 0.0))
            scale_of_loss = _LIFE_WEIGHT if shape.kinds else 1.0
            total += scale_of_loss * tf.reduce_sum(tf.square(wrong))
        return total / shape.members, tf.cast(tf.shape(windows)[0], tf.float32)

    return loss


def _judged(
    weights: Weights, shape: Shape, scale: Scale, part: Examples, horizon_ms: int
) -> tuple[list[Sigmoid], float, dict[str, float]]:
    """On the calibration vehicles: a scaling for every kind and, last, for a failure of any kind;
    the threshold of the score; the calibration errors."""
    part = part.take(part.known(horizon_ms) & ~part.after_failure)
    if not len(part):
        raise TrainingError(
            "No vehicle was watched for a whole horizon in the part that calibrates.",
            "Record a longer time, or take a shorter --horizon.",
        )
    logits = outputs_of(weights, shape, scale, part.windows.values)[:, : shape.kinds]
    failed = part.failure_ms <= horizon_ms
    scalings = scalings_of(logits, failed, part)
    limit = threshold(any_kind(logits, scalings)[:, -1], part, horizon_ms)
    return scalings, float(expected_failures(np.array(limit))), errors_of(logits, failed, part)


ARCHITECTURE = ForecasterArchitecture()
