"""Probabilities of each kind of failure and of any of them, and how far they are from the truth."""

from collections.abc import Sequence

import numpy as np

from motorcade.fleet.arrays import Bools, Floats, Ids
from motorcade.ml.models.base import Examples
from motorcade.ml.models.calibration import Sigmoid, expected_failures, probability

#: Fewer examples that failed, or fewer vehicles that they come from, say too little of one kind.
_FEW_EXAMPLES = 30
_FEW_VEHICLES = 3
_BINS = 10
_AS_THEY_ARE = Sigmoid(1.0, 0.0)


def any_kind(logits: Floats, scalings: Sequence[Sigmoid]) -> Floats:
    """Calibrated log-odds by kind and, last, of any of them, shape (n, kinds + 1).

    That any failure comes is as if the kinds did not know of each other, calibrated again.

    Args:
        logits: (n, kinds) as a network gives them.
        scalings: by kind, then of any kind.
    """
    each = np.column_stack(
        [scaling.log_odds(column) for scaling, column in zip(scalings[:-1], logits.T, strict=True)]
    )
    # Of all kinds together; then the log-odds of 1 - exp(-expected).
    expected = np.clip(expected_failures(each).sum(axis=1), 1e-12, 500.0)
    combined = expected + np.log(-np.expm1(-expected))
    return np.column_stack([each, scalings[-1].log_odds(combined)])


def scalings_of(logits: Floats, failed: Bools, part: Examples) -> list[Sigmoid]:
    """By kind; where a kind failed too seldom, that of all kinds together; last, of any kind.

    Args:
        logits, failed: (n, kinds) as a network gives them, and what came within the horizon.
        part: the examples, of vehicles that did not train.
    """
    kinds, vins = failed.shape[1], part.windows.vin
    happened = failed.any(axis=1)
    if not _enough(happened, vins):
        return [_AS_THEY_ARE] * (kinds + 1)
    together = Sigmoid.fitted(logits.ravel(), failed.ravel(), np.repeat(part.weight, kinds))
    each = [
        Sigmoid.fitted(logits[:, kind], failed[:, kind], part.weight)
        if _enough(failed[:, kind], vins)
        else together
        for kind in range(kinds)
    ]
    combined = any_kind(logits, [*each, _AS_THEY_ARE])[:, -1]
    return [*each, Sigmoid.fitted(combined, happened, part.weight)]


def errors_of(logits: Floats, failed: Bools, part: Examples) -> dict[str, float]:
    """Calibration errors by kind and of any kind, without the scalings and with them.

    With them: fitted on one half of the vehicles and judged on the other. Kinds that failed too
    seldom are left out.
    """
    vins = part.windows.vin
    even = np.unique(vins, return_inverse=True)[1] % 2 == 0
    raw = any_kind(logits, [_AS_THEY_ARE] * (failed.shape[1] + 1))
    scaled = np.empty_like(raw)
    for fitted, judged in ((even, ~even), (~even, even)):
        some = scalings_of(logits[fitted], failed[fitted], part.take(fitted))
        scaled[judged] = any_kind(logits[judged], some)
    outcomes = np.column_stack([failed, failed.any(axis=1)])
    errors: dict[str, float] = {}
    for number, kind in enumerate((*part.kinds, "any")):
        truth = outcomes[:, number]
        if _enough(truth, vins):
            for name, said in (("calibration", scaled), ("uncalibrated", raw)):
                errors[f"{name}_error_{kind}"] = calibration_error(
                    probability(said[:, number]), truth, part.weight
                )
    return errors


def calibration_error(foretold: Floats, failed: Bools, weight: Floats) -> float:
    """Expected calibration error over ten bins of equally many messages.

    Args:
        foretold, failed: (n,) probability, and what came.
        weight: (n,) messages that an example stands for.
    """
    order = np.argsort(foretold, kind="stable")
    total = np.cumsum(weight[order])
    middle = (total - weight[order] / 2) / total[-1]
    bins = np.minimum((_BINS * middle).astype(np.int64), _BINS - 1)
    gaps = np.bincount(bins, weight[order] * (foretold[order] - failed[order]), minlength=_BINS)
    return float(np.abs(gaps).sum() / total[-1])


def _enough(failed: Bools, vins: Ids) -> bool:
    return (
        int(failed.sum()) >= _FEW_EXAMPLES
        and int((~failed).sum()) >= _FEW_EXAMPLES
        and len(np.unique(vins[failed])) >= _FEW_VEHICLES
    )
