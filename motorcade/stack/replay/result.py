"""What a benchmark of remaining life found: the champion, what was beside it, every prediction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from motorcade.fleet.arrays import Floats
from motorcade.fleet.errors import MotorcadeError
from motorcade.ml.models.catalogue import architecture
from motorcade.stack.replay.judge import CAP, capped, phm08, rmse
from motorcade.stack.replay.learning import Told
from motorcade.stack.replay.options import EXPLORED

_MEAN = "mean life"


@dataclass(frozen=True)
class Figures:
    """How good one model is, in cycles.

    Args:
        name: of the architecture.
        version: in the model store; None for what is no model.
        validation_rmse: what training engines said that it had not seen; NaN: not asked.
        rmse, phm08: on the official test engines, lives up to the cap.
        rmse_uncapped: on the true lives.
        told: (n,) remaining life of each test engine.
        seconds: of cross-validation.
        baseline: whether others have to beat it.
    """

    name: str
    version: int | None
    validation_rmse: float
    rmse: float
    phm08: float
    rmse_uncapped: float
    told: Floats
    seconds: float
    baseline: bool


@dataclass(frozen=True)
class Result:
    """A whole benchmark.

    Args:
        models: in the order of the validation engines' judgement, the champion first.
        vehicles: ids of the test engines. true: (n,) their cycles left, from the truth's file.
        about: what else belongs into the document.
    """

    subset: str
    models: tuple[Figures, ...]
    vehicles: tuple[str, ...]
    true: Floats
    about: dict[str, Any]

    @property
    def champion(self) -> Figures:
        """The model that the validation engines chose."""
        return self.models[0]

    @property
    def baseline(self) -> Figures:
        """The best of the baselines but the champion, by the validation engines; else the mean."""
        return next(one for one in self.models[1:] if one.baseline)

    def document(self) -> dict[str, Any]:
        """Every figure, for machines."""
        champion, baseline = self.champion, self.baseline
        return {
            "benchmark": f"C-MAPSS {self.subset}",
            "cap": CAP,
            "rmse": champion.rmse,
            "phm08": champion.phm08,
            "baseline_rmse": baseline.rmse,
            "champion": champion.name,
            "baseline": baseline.name,
            "models": [
                {
                    "name": one.name,
                    "version": one.version,
                    "validation_rmse": None
                    if np.isnan(one.validation_rmse)
                    else one.validation_rmse,
                    "rmse": one.rmse,
                    "phm08": one.phm08,
                    "rmse_uncapped": one.rmse_uncapped,
                    "baseline": one.baseline,
                    "seconds": round(one.seconds, 1),
                }
                for one in self.models
            ],
            "configurations_tried": sum(one.version is not None for one in self.models),
            "configurations_explored": EXPLORED,
            **self.about,
            "engines": [
                {"vehicle": vehicle, "true": int(true), "told": round(float(told), 2)}
                for vehicle, true, told in zip(self.vehicles, self.true, champion.told, strict=True)
            ],
        }


def result_of(
    subset: str,
    told: Sequence[Told],
    vehicles: Sequence[str],
    true: Floats,
    mean_life: float,
    about: dict[str, Any],
) -> Result:
    """Compare what models told with the truth; the order of the models is not the truth's doing.

    Args:
        subset: such as FD001.
        told: by each model.
        vehicles: test engines, in the truth's order.
        true: (n,) cycles left of each.
        mean_life: of the training engines, what one would tell who looks at nothing.
        about: what else belongs into the document.

    Raises:
        MotorcadeError: a model told nothing of an engine; names it.
    """
    models = [_figures(one, vehicles, true) for one in told]
    models.sort(key=lambda one: one.validation_rmse)
    nothing = np.full(len(true), mean_life)
    models.append(_of(_MEAN, None, np.nan, nothing, true, 0.0, baseline=True))
    return Result(subset, tuple(models), tuple(vehicles), true, about)


def _figures(told: Told, vehicles: Sequence[str], true: Floats) -> Figures:
    life = dict(zip(told.vehicles, told.life.tolist(), strict=True))
    name = told.judged.candidate.architecture.name
    missing = [one for one in vehicles if not np.isfinite(life.get(one, np.nan))]
    if missing:
        raise MotorcadeError(
            f"The model {name} tells no remaining life of {len(missing)} test engines: "
            f"{missing[0]} is the first."
        )
    return _of(
        name,
        told.version,
        told.validation_rmse,
        np.array([life[one] for one in vehicles]),
        true,
        told.judged.seconds,
        baseline=architecture(name).baseline,
    )


def _of(
    name: str,
    version: int | None,
    validation: float,
    told: Floats,
    true: Floats,
    seconds: float,
    *,
    baseline: bool,
) -> Figures:
    true = true.astype(np.float64)
    return Figures(
        name,
        version,
        validation,
        rmse(told, capped(true)),
        phm08(told, capped(true)),
        rmse(told, true),
        told,
        seconds,
        baseline,
    )
