"""Training from columns in memory, all parts of it real but Kafka."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.messages import DiagnosticTroubleCode
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.labels.failures import Failures
from motorcade.ml.labels.split import by_vehicle
from motorcade.ml.models.base import Architecture, FitOptions, Watch
from motorcade.ml.training.checkpoints import Progress
from motorcade.ml.training.learn import Candidate, Plan, Task, learn

from .telemetry import CATALOGUE, Batches


class Unwatched:
    """Keeps nothing and tells nobody."""

    def progress(self, phase: str, done: int, total: int, detail: str = "") -> None:
        pass

    def checkpoint(self, epoch: int, state: Mapping[str, NDArray[Any]]) -> None:
        pass

    def resume(self) -> tuple[int, dict[str, NDArray[Any]]] | None:
        return None


def learnt_by(
    architecture: Architecture,
    columns: TelemetryColumns,
    codes: Iterable[DiagnosticTroubleCode] = (),
    *,
    batches: Iterable[TelemetryColumns] | None = None,
    plan: Plan | None = None,
    seed: int = 0,
    watch: Watch | None = None,
    tell: Callable[[Progress], None] = lambda progress: None,
    **how: Any,
) -> Candidate:
    """Train one architecture on `columns`, read from `batches` if those are given."""
    split = by_vehicle(np.unique(columns.vin).tolist(), seed)
    task = Task(
        architecture, architecture.window, FitOptions(seed=seed, **how), watch or Unwatched()
    )
    (found,) = learn(
        CATALOGUE,
        Batches(columns) if batches is None else batches,
        len(columns),
        Failures.of(codes),
        lambda vin: split.part_of[vin],
        [task],
        plan or Plan(seed=seed),
        tell,
    )
    return found
