"""Models of remaining life that read a vehicle's whole boot: ridge, kernel, trees, and an average.

They learn from vehicles that ran to failure, and from those that were seen to last longer than the
cap. Each predicts from the columns of `History`; the average of kernel and trees is a model of its
own, because smooth and stepped learners err differently.
"""

from typing import Any

import numpy as np

from motorcade.fleet.catalogue import Catalogue
from motorcade.ml.errors import ModelRefusedError, TrainingError
from motorcade.ml.features import Scale, scale_of
from motorcade.ml.history import FEWEST, History
from motorcade.ml.models.base import (
    Examples,
    FitOptions,
    Learnt,
    Objective,
    Scores,
    TrainingData,
    Watch,
)
from motorcade.ml.models.life_learners import LEARNERS, Predict, Settings
from motorcade.ml.models.quadratic import largest
from motorcade.ml.models.reconstruction import probe, refuse_unless_finite
from motorcade.ml.store import Manifest, Weights
from motorcade.ml.windows import Floats32, WindowSpec


class RemainingLifeArchitecture:
    """Learns the remaining life with some learners, whose mean it tells.

    Settings: see `life_learners.Settings`.

    Args:
        name: of the architecture.
        members: names of the learners.
        baseline: whether others have to beat it.
    """

    objective: Objective = "life"
    #: As many samples as a boot has, within reason: the first ones count.
    window = WindowSpec(rows=400)

    def __init__(self, name: str, members: tuple[str, ...], *, baseline: bool) -> None:
        self.name = name
        self.members = members
        self.baseline = baseline

    def fit(self, data: TrainingData, how: FitOptions, watch: Watch) -> Learnt:
        """See `Architecture`."""
        settings = Settings.of(how)
        cap_ms = data.life_cap_ms
        if not cap_ms:
            raise TrainingError(
                "Remaining life needs a cap, up to which it is told.", "Say it: --life-cap."
            )
        part = _usable(data.train, cap_ms)
        if not np.isfinite(part.next_failure_ms).any():
            raise TrainingError(
                "No vehicle that trains failed: there is no remaining life to learn.",
                "Record vehicles that ran to failure.",
            )
        scale = _moving(Scale.learnt_from(part.windows.values[:, -1], data.catalogue), part)
        history = History(scale, settings.fade, settings.late, settings.early)
        watch.progress("history", 0, 1)
        columns = history.of(part.windows.values)
        watch.progress("history", 1, 1)
        centre = np.average(columns, axis=0, weights=part.weight)
        variance = np.average((columns - centre) ** 2, axis=0, weights=part.weight)
        spread = np.maximum(np.sqrt(variance), 1e-9)
        rows = (columns - centre) / spread
        target = np.minimum(part.next_failure_ms, cap_ms) / cap_ms
        weights: Weights = {"centre": centre, "spread": spread}
        for number, member in enumerate(self.members):
            watch.progress("training", number, len(self.members), member)
            learn = LEARNERS[member].learn
            weights |= learn(rows, target, part.weight, settings, how.seed)
        watch.progress("training", len(self.members), len(self.members))
        fields: dict[str, Any] = {
            "mean": scale.mean.tolist(),
            "std": scale.std.tolist(),
            "learnt": scale.learnt.tolist(),
            "residual": np.ones(len(scale.names)).tolist(),
            "kinds": list(part.kinds) if len(part.kinds) == 1 else [],
            "minimum_filled": min(FEWEST, data.window.rows),
            # Life ends within the horizon: what the score is then.
            "threshold": max(0.5, 1 - data.horizon_ms / cap_ms),
            "extra": {
                "fade": settings.fade,
                "late": float(settings.late),
                "early": float(settings.early),
            },
        }
        return Learnt(weights, fields, {}, {"examples": float(len(part))})

    def load(self, manifest: Manifest, weights: Weights, catalogue: Catalogue) -> "RemainingLife":
        """See `Architecture`."""
        return RemainingLife(manifest, weights, catalogue, self.members)


class RemainingLife:
    """A trained model, ready to score; the score is the share of the cap that is used up.

    The signals that it names are those that have moved farthest from the boot's beginning.

    Raises:
        ModelRefusedError: see `Model`.
    """

    def __init__(
        self,
        manifest: Manifest,
        weights: Weights,
        catalogue: Catalogue,
        members: tuple[str, ...],
    ) -> None:
        self.manifest = manifest
        scale = scale_of(manifest)
        scale.columns(catalogue)
        self._history = _history_of(manifest, scale)
        if not manifest.life_cap_ms:
            raise ModelRefusedError("The manifest lacks the cap of the remaining life.")
        self._cap_ms = float(manifest.life_cap_ms)
        width = self._history.columns
        for name in ("centre", "spread"):
            if name not in weights or weights[name].shape != (width,):
                raise ModelRefusedError(f"The weights hold no {name} of {width} columns.")
        self._centre, self._spread = weights["centre"], weights["spread"]
        if not (self._spread > 0).all():
            raise ModelRefusedError("The columns' spread is not positive.")
        self._members: list[Predict] = [LEARNERS[one].load(weights, width) for one in members]
        refuse_unless_finite(manifest, self.score(probe(manifest, scale))[:4])

    @property
    def window(self) -> WindowSpec:
        """The windows that it scores."""
        return self.manifest.window

    def score(self, values: Floats32) -> Scores:
        """See `Model`."""
        columns = self._history.of(values)
        rows = (columns - self._centre) / self._spread
        share = np.mean([predict(rows) for predict in self._members], axis=0)
        life = np.clip(share, 0.0, 1.0) * self._cap_ms
        scale = self._history.scale
        coverage = scale.coverage(np.isfinite(values[:, -1]) & scale.learnt)
        life[coverage < self.manifest.minimum_coverage] = np.nan
        n = len(values)
        kind = np.full(n, 0 if len(self.manifest.kinds) == 1 else -1, dtype=np.int64)
        top, moved = largest(self._history.moved(columns) ** 2)
        unknown = np.full(n, np.nan)
        return Scores(1 - life / self._cap_ms, coverage, top, moved, unknown, life, kind)


def _usable(part: Examples, cap_ms: int) -> Examples:
    """Examples whose remaining life is known up to the cap, with samples enough."""
    seen = np.isfinite(part.next_failure_ms) | (part.observed_ms >= cap_ms)
    enough = part.windows.filled >= min(FEWEST, part.windows.values.shape[1])
    return part.take(seen & enough & ~part.after_failure)


def _moving(scale: Scale, part: Examples) -> Scale:
    """The scale without signals that never move: their spread is rounding."""
    last = part.windows.values[:, -1]
    present = np.isfinite(last)
    low = np.where(present, last, np.inf).min(axis=0)
    high = np.where(present, last, -np.inf).max(axis=0)
    learnt = scale.learnt & (high > low)
    return Scale(scale.names, scale.mean, scale.std, learnt)


def _history_of(manifest: Manifest, scale: Scale) -> History:
    try:
        fade, late, early = (
            float(manifest.extra[name])  # type: ignore[arg-type]
            for name in ("fade", "late", "early")
        )
    except (KeyError, TypeError, ValueError):
        raise ModelRefusedError(
            f"The model {manifest.name} {manifest.version} does not say how it reads a boot."
        ) from None
    if not 0 < fade < 1 or late < 1 or early < 1:
        raise ModelRefusedError("The manifest's reading of a boot is out of range.")
    return History(scale, fade, int(late), int(early))


RIDGE = RemainingLifeArchitecture("life-ridge", ("ridge",), baseline=True)
TREES = RemainingLifeArchitecture("life-trees", ("trees",), baseline=True)
KERNEL = RemainingLifeArchitecture("life-kernel", ("kernel",), baseline=False)
ENSEMBLE = RemainingLifeArchitecture("life-ensemble", ("kernel", "trees"), baseline=False)
