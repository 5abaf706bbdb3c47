"""The public demo's two models against ours, on the demo's own car and its own label.

motorcade bench demo-models [--cars 500] [--iterations 14] [--absent 0.02]

Cars drive in process; each is in one part only. A message is positive once `failure_occurred`.
Every model learns from the cars that train and scores every message of the cars that are held out;
nothing is tuned on those. With --absent, that share of the held-out values is missing.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import (  # type: ignore[import-untyped]
    average_precision_score,
    roc_auc_score,
)

from bench import arguments
from motorcade.fleet.arrays import Bools, Floats
from motorcade.fleet.catalogue import load_catalogue, shipped_catalogue
from motorcade.fleet.clock import RunClock
from motorcade.fleet.telemetry import TelemetryColumns
from motorcade.ml.errors import TrainingError
from motorcade.ml.models.base import Examples, FitOptions, TrainingData
from motorcade.ml.models.catalogue import architecture
from motorcade.ml.store import FORMAT, Manifest, Origin
from motorcade.ml.windows import Floats32, Windows, WindowSpec, WindowState
from motorcade.simulator.demo_car import ITERATION_MS, DemoBlock
from motorcade.simulator.population import FleetPlan

CATALOGUE = load_catalogue(shipped_catalogue("demo"))
START_MS = 1_790_000_000_000
SHARES = {"train": 0.5, "validate": 0.1, "calibrate": 0.1, "test": 0.3}


@dataclass(frozen=True)
class Contender:
    """A line of the table."""

    title: str
    architecture: str
    window: WindowSpec
    extra: dict[str, float | str] = field(default_factory=dict)
    #: Windows as the demo's script makes them: of consecutive messages, whichever car sent them.
    across_cars: bool = False


ONE, PAIR = WindowSpec(), WindowSpec(rows=2)
CONTENDERS = (
    Contender("demo autoencoder, as published", "demo-autoencoder", ONE),
    Contender("demo autoencoder, raw inputs", "demo-autoencoder", ONE, {"inputs": "raw"}),
    Contender("demo LSTM, as published", "demo-lstm", PAIR, across_cars=True),
    Contender("demo LSTM, windows per car", "demo-lstm", PAIR),
    Contender("demo LSTM, raw inputs", "demo-lstm", PAIR, {"inputs": "raw"}, across_cars=True),
    Contender("ours: autoencoder", "autoencoder", ONE),
    Contender("ours: LSTM autoencoder", "lstm-autoencoder", WindowSpec(rows=4)),
    Contender("baseline: PCA", "pca", ONE),
    Contender("baseline: Mahalanobis", "mahalanobis", ONE),
)


class Quiet:
    """A watch that says nothing and keeps nothing."""

    def progress(self, phase: str, done: int, total: int, detail: str = "") -> None:
        """See `Watch`."""

    def checkpoint(self, epoch: int, state: Any) -> None:
        """See `Watch`."""

    def resume(self) -> tuple[int, dict[str, NDArray[Any]]] | None:
        """See `Watch`."""
        return None


class Part(NamedTuple):
    """Messages of some cars in the stream's order, and their labels, shape (n,)."""

    columns: TelemetryColumns
    failed: Bools


def drive(first: int, cars: int, iterations: int) -> Part:
    """Cars `first` … that all set off together."""
    clock = RunClock(0, START_MS, 1.0)
    block = DemoBlock(FleetPlan(7, CATALOGUE, clock, car="demo"), np.arange(first, first + cars))
    rows = np.arange(cars)
    samples, times = [], []
    for _ in range(iterations):
        block.step(block.event_ms + ITERATION_MS)
        samples.append(block.sample(rows))
        times.append(np.full(cars, block.event_ms))
    values, time = np.concatenate(samples), np.concatenate(times)
    columns = TelemetryColumns(
        np.tile(block.vins, iterations),
        values,
        np.full(len(time), START_MS),
        np.repeat(np.arange(iterations) + 1, cars),
        time,
        time,
    )
    return Part(columns, values[:, CATALOGUE.column("failure_occurred")] > 0)


def windows_of(part: Part, contender: Contender) -> Windows:
    """One per message."""
    columns = part.columns
    if contender.across_cars:
        columns = replace(columns, vin=np.full(len(columns), columns.vin[0]))
    state = WindowState(contender.window, len(CATALOGUE.features))
    return state.push(columns, CATALOGUE.feature_columns)


def examples(part: Part, contender: Contender) -> Examples:
    """What the label alone tells: failed by now, or not."""
    n = len(part.failed)
    return Examples(
        windows_of(part, contender),
        np.full((n, 0), np.inf),
        np.full(n, np.inf),
        part.failed,
        np.ones(n),
        (),
    )


def score(contender: Contender, parts: dict[str, Part], test: Floats32, seed: int) -> Floats:
    """Train, and score windows; NaN where the model cannot."""
    how = architecture(contender.architecture)
    train, validate, calibrate = (
        examples(parts[name], contender) for name in ("train", "validate", "calibrate")
    )
    data = TrainingData(CATALOGUE, train, validate, calibrate, 0, None, seed, contender.window)
    learnt = how.fit(data, FitOptions(seed=seed, extra=contender.extra), Quiet())
    n = len(CATALOGUE.features)
    fields: dict[str, Any] = {
        "mean": [0.0] * n,
        "std": [1.0] * n,
        "learnt": [True] * n,
        "residual": [1.0] * n,
        "threshold": 1.0,
    } | learnt.fields
    manifest = Manifest(
        format=FORMAT,
        name=how.name,
        version=1,
        architecture=how.name,
        created=0,
        catalogue=CATALOGUE.name,
        features=list(CATALOGUE.features),
        minimum_coverage=0.5,
        origin=Origin(ranges=[], schema_ids=[], dataset="", records={}, vehicles={}, seed=seed),
        metrics={},
        libraries={},
        window=contender.window,
        **fields,
    )
    return how.load(manifest, learnt.weights, CATALOGUE).score(test).score


def contests(cars: int, iterations: int, absent: float, seed: int) -> Iterator[list[str]]:
    """A row per contender: title, share scored, ROC-AUC, PR-AUC."""
    parts, first = {}, 0
    for name, share in SHARES.items():
        parts[name] = drive(first, round(share * cars), iterations)
        first += round(share * cars)
    failed = parts["test"].failed
    missing = np.random.default_rng(seed).random(parts["test"].columns.values.shape) < absent
    parts["test"].columns.values[missing] = np.nan
    for contender in CONTENDERS:
        test = windows_of(parts["test"], contender).values
        try:
            scores = score(contender, parts, test, seed)
        except TrainingError as error:
            yield [contender.title, "–", "–", str(error.what)]
            continue
        known = np.isfinite(scores)
        # What is not scored raises no alert: it ranks below everything that is.
        ranked = np.where(known, scores, -1.0)
        yield [
            contender.title,
            f"{known.mean():.0%}",
            f"{roc_auc_score(failed, ranked):.3f}",
            f"{average_precision_score(failed, ranked):.3f}",
        ]
    yield ["(a score by chance)", "", "0.500", f"{failed.mean():.3f}"]


def main() -> None:
    """Print the table."""
    parser = arguments.parser("demo-models", __doc__)
    parser.add_argument("--cars", type=int, default=500, help="cars of the demo")
    parser.add_argument("--iterations", type=int, default=14, help="of 5 s, messages of a car")
    parser.add_argument("--absent", type=float, default=0.0, help="share of values missing")
    parser.add_argument("--seed", type=int, default=0, help="of cars and models")
    given = parser.parse_args()
    table = Table("model", "scored", "ROC-AUC", "PR-AUC")
    progress = Console(stderr=True)
    for row in contests(given.cars, given.iterations, given.absent, given.seed):
        table.add_row(*row)
        progress.print(" · ".join(row))
    Console().print(table)


if __name__ == "__main__":
    main()
