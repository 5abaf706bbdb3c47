"""Whether examples can teach who fails within a horizon; where they cannot, which horizon would."""

import numpy as np

from motorcade.ml.errors import TrainingError
from motorcade.ml.models.base import Examples

_MINUTE_MS = 60_000
_HOUR_MS = 3_600_000


def require_outcomes(part: Examples, horizon_ms: int) -> None:
    """Some vehicles must fail within the horizon, and some are known not to.

    Args:
        part: the examples that are to teach.
        horizon_ms: event time within which failures are to be foretold.

    Raises:
        TrainingError: one of both is missing; says what to do.
    """
    usable = part.known(horizon_ms) & ~part.after_failure
    doomed = usable & (part.next_failure_ms <= horizon_ms)
    hours = f"{horizon_ms / _HOUR_MS:g} h"
    if not (usable & ~doomed).any():
        fits = _fitting(part)
        raise TrainingError(
            f"No vehicle was watched for a whole horizon of {hours} without a failure: none is "
            "known to be healthy.",
            f"Take a shorter one, --horizon={fits} fits these vehicles; or record a longer time."
            if fits
            else "Record cars that do not fail, for a longer time.",
        )
    if not doomed.any():
        raise TrainingError(
            f"Of {int(usable.sum())} examples 0 come within {hours} before a failure.",
            "Record cars that fail, or take a longer --horizon.",
        )


def _fitting(part: Examples) -> str:
    """Half of the longest that a vehicle was watched without a failure, as `--horizon` takes it;
    empty where there was none."""
    watched = part.observed_ms[np.isinf(part.next_failure_ms) & ~part.after_failure]
    minutes = int(watched.max(initial=0) / 2 / _MINUTE_MS)
    if minutes >= 120:
        return f"{minutes // 60}h"
    return f"{minutes}m" if minutes else ""
