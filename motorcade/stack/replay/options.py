"""What a person asks of `motorcade replay cmapss`."""

from dataclasses import dataclass
from pathlib import Path

from motorcade.fleet.errors import SettingsError

#: Baselines first: they are trained beside every other model. The forecaster is the sequence model.
MODELS = ("life-ridge", "life-trees", "life-kernel", "life-ensemble", "forecaster")
#: Cross-validations of features, learners and settings that led to these defaults, on FD001's
#: training engines alone (docs/benchmark-cmapss.md).
EXPLORED = 202
#: Event time between two flight cycles, ms. Any will do: models see cycles, lives are steps.
STEP_MS = 60_000
_FEWEST_ENGINES = 10


@dataclass(frozen=True)
class ReplayOptions:
    """How a replay is to be.

    Args:
        folder: of the C-MAPSS files.
        subset: such as FD001.
        models: architectures that may become the champion.
        folds: groups of training engines that judge each other.
        engines: the first so many of each part only; None for all.
        seed: of groups and models.
        document, report: files to write.
        keep: a stack that is started goes on.
    """

    folder: Path
    subset: str = "FD001"
    models: tuple[str, ...] = MODELS
    folds: int = 5
    engines: int | None = None
    seed: int = 0
    document: Path | None = None
    report: Path | None = None
    keep: bool = False

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.models) - set(MODELS)):
            raise SettingsError(
                f"--models: {', '.join(unknown)} tells no remaining life.",
                f"There are {', '.join(MODELS)}.",
            )
        if not self.models:
            raise SettingsError("--models names none.", f"There are {', '.join(MODELS)}.")
        if self.folds < 2:
            raise SettingsError("--folds must be at least 2.")
        if self.engines is not None and self.engines < max(_FEWEST_ENGINES, self.folds):
            raise SettingsError(
                f"--engines {self.engines} are too few to judge each other.",
                f"Take at least {max(_FEWEST_ENGINES, self.folds)}.",
            )
