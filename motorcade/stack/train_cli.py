"""`motorcade train`: learn a model from recorded telemetry and make it live."""

import json
import re
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import TimeElapsedColumn

from motorcade.fleet.errors import SettingsError
from motorcade.fleet.settings import ProcessSettings
from motorcade.stack.bars import phase_bars

if TYPE_CHECKING:
    from motorcade.ml.training.checkpoints import Progress
    from motorcade.ml.training.run import Request, Trained

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Learn a model from recorded telemetry, straight from Kafka, and make it live.",
)

#: What each model is, for people who have to choose.
_MODELS = {
    "autoencoder": "The anomaly of one message: a small network that reproduces healthy ones.",
    "lstm-autoencoder": "The anomaly of a car's recent past: a network that reproduces windows.",
    "forecaster": "Failure within the horizon, its kind, and remaining life, from windows.",
    "boosted": "Baseline: boosted trees on statistics of windows; failures and remaining life.",
    "pca": "Baseline: principal components, Hotelling's T² and Q.",
    "mahalanobis": "Baseline: distance from the healthy mean.",
    "life-ensemble": "Remaining life from a car's whole boot: the mean of kernel and trees.",
    "life-kernel": "Remaining life from a car's whole boot: kernel ridge regression.",
    "life-trees": "Baseline: remaining life from a car's whole boot by boosted trees.",
    "life-ridge": "Baseline: remaining life from a car's whole boot by ridge regression.",
    "demo-autoencoder": "The public streaming demo's autoencoder, as published.",
    "demo-lstm": "The public streaming demo's LSTM, as published.",
}

#: What `--horizon` is unless it is given, as `ml.labels.failures.HORIZON_MS` is for code.
HORIZON = "2h"

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


Dataset = Annotated[
    str,
    typer.Option(
        help="Name of a recorded data set; without it, what Kafka holds is recorded first, and the "
        "model goes live at once."
    ),
]
Since = Annotated[
    str, typer.Option(help="First record: ingested this long ago (90s, 10m, 2h, 1d), or ISO.")
]
Until = Annotated[
    str, typer.Option(help="Ingest time before which the last record came, likewise.")
]
Horizon = Annotated[
    str,
    typer.Option(
        help="Event time before a trouble code in which a car is not healthy, and within which "
        "failures are foretold."
    ),
]
LifeCap = Annotated[
    str, typer.Option(help="Remaining life is learnt up to this event time; else it is not.")
]
Rows = Annotated[int | None, typer.Option("--window", min=1, help="Samples in a window.")]
Every = Annotated[
    str, typer.Option(help="Event time of one sample; 0s: every message is a sample.")
]
MaxGap = Annotated[str, typer.Option(help="A longer silence begins a new window; event time.")]
Later = Annotated[
    float,
    typer.Option(
        min=0,
        max=0.9,
        help="Share of the event time, at its end, of which training knows nothing: evaluate can "
        "judge by it.",
    ),
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Most epochs; it stops early.")]
Seed = Annotated[int, typer.Option(help="Of the split, the weights and the shuffling.")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="batch, learning_rate, patience, or the model's own."
    ),
]
Promote = Annotated[
    str | None,
    typer.Option(
        help="auto: live if it beats the baselines and the champion on held-out cars; always; "
        "never. Default: auto with --dataset, else always."
    ),
]
MinimumRecords = Annotated[
    int, typer.Option(min=1, help="Refuse to train on fewer usable records.")
]
Reader = Annotated[str, typer.Option(help="columnar or tensorflow-io.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")]
ProgressJson = Annotated[
    bool, typer.Option("--progress-json", help="Print progress as one JSON object a line.")
]


def _model_command(model: str) -> None:
    def command(
        dataset: Dataset = "",
        since: Since = "",
        until: Until = "",
        horizon: Horizon = HORIZON,
        life_cap: LifeCap = "",
        window: Rows = None,
        every: Every = "",
        max_gap: MaxGap = "",
        later: Later = 0.0,
        epochs: Epochs = None,
        seed: Seed = 0,
        settings: Sets = None,
        promote: Promote = None,
        minimum_records: MinimumRecords = 1000,
        reader: Reader = "columnar",
        as_json: AsJson = False,
        progress_json: ProgressJson = False,
    ) -> None:
        from motorcade.ml.training.assemble import Limits
        from motorcade.ml.training.run import Request

        now_ms = time.time_ns() // 1_000_000
        if dataset and (since or until):
            raise SettingsError(
                "--since and --until say what to record; a data set is recorded already.",
                "Leave them out, or leave --dataset out.",
            )
        chosen = promote or ("auto" if dataset else "always")
        if chosen not in ("auto", "always", "never"):
            raise SettingsError(f"--promote={promote!r} is none of auto, always, never.")
        request = Request(
            model=model,
            dataset=dataset,
            since_ms=moment_ms(since, now_ms, "--since"),
            until_ms=moment_ms(until, now_ms, "--until"),
            reader=reader,
            horizon_ms=span_ms(horizon, "--horizon"),
            life_cap_ms=span_ms(life_cap, "--life-cap") if life_cap else None,
            rows=window,
            every_ms=span_ms(every, "--every") if every else None,
            max_gap_ms=span_ms(max_gap, "--max-gap") if max_gap else None,
            later=later,
            epochs=epochs,
            seed=seed,
            settings=_settings(settings or []),
            limits=Limits(records=minimum_records),
            promote=chosen,  # type: ignore[arg-type]  # Typer knows no Literal
        )
        _train(request, as_json=as_json, progress_json=progress_json)

    command.__doc__ = f"""{_MODELS[model]}

    It reads recorded offset ranges of `telemetry` from Kafka, trains on some cars, chooses its
    threshold on others, stores model and manifest, and writes curves and figures to MLflow.
    Interrupted, the same command goes on from the last finished epoch.

    **Examples**

    - `motorcade train {model}` on everything that Kafka holds

    - `motorcade train {model} --dataset week-1` on a recorded data set

    - `motorcade train {model} --since 10m` on the last ten minutes

    **Next:** `motorcade models list`, `motorcade logs score`."""
    app.command(model)(command)


for _name in _MODELS:
    _model_command(_name)


def _train(request: "Request", *, as_json: bool, progress_json: bool) -> None:
    from motorcade.ml.training.run import train

    settings = ProcessSettings()
    if progress_json:
        trained = train(settings, request, _print_line)
    else:
        with phase_bars(TimeElapsedColumn()) as show:
            trained = train(settings, request, show)
    _report(trained, settings, as_json=as_json or progress_json)


def span_ms(text: str, option: str) -> int:
    """Milliseconds of "90s", "10m", "2h" or "1d".

    Raises:
        SettingsError: the text is none of these.
    """
    return round(_duration_s(text, option) * 1000)


def _settings(pairs: list[str]) -> dict[str, float | str]:
    """Numbers where they are numbers.

    Raises:
        SettingsError: a pair has no "=".
    """
    found: dict[str, float | str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise SettingsError(f"--set={pair!r} is not NAME=VALUE, such as learning_rate=0.001.")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = value
    return found


def moment_ms(text: str, now_ms: int, option: str) -> int | None:
    """Milliseconds since 1970 of "10m" (ago) or of an ISO time; None for an empty text.

    Raises:
        SettingsError: the text is neither.
    """
    if not text:
        return None
    if _AGO.fullmatch(text):
        return now_ms - round(_duration_s(text, option) * 1000)
    try:
        return round(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except ValueError:
        raise SettingsError(
            f"{option}={text!r} is neither a duration such as 10m nor a time such as "
            "2026-01-31T12:00."
        ) from None


def _duration_s(text: str, option: str) -> float:
    match = _AGO.fullmatch(text)
    if match is None:
        raise SettingsError(f"{option}={text!r} is not a duration such as 90s, 10m, 2h or 1d.")
    return float(match[1]) * _SECONDS[match[2]]


def _print_line(progress: "Progress") -> None:
    sys.stdout.write(json.dumps(progress._asdict()) + "\n")
    sys.stdout.flush()


def _report(trained: "Trained", settings: ProcessSettings, *, as_json: bool) -> None:
    from motorcade.ml.training.calibrate import too_few
    from motorcade.ml.training.tracking import address_of

    manifest = trained.manifest
    folder = settings.data_dir / "models" / manifest.name / str(manifest.version)
    if as_json:
        import msgspec

        document = msgspec.to_builtins(manifest) | {"folder": str(folder)}
        if trained.decision is not None:
            document["decision"] = trained.decision.why
        sys.stdout.write(json.dumps({"trained": document}) + "\n")
        return
    metrics, vehicles = manifest.metrics, manifest.origin.vehicles
    console = Console(stderr=True, soft_wrap=True)
    median = metrics.get("held_back_median")
    healthy = "" if median is None else f" (median of healthy messages {median:.2f})"
    console.print(
        f"[bold]{manifest.name} {manifest.version}[/] is "
        f"{'announced' if trained.announcement else 'stored, not announced'}: threshold "
        f"{manifest.threshold:.2f}{healthy}, chosen on {vehicles['calibrate']} cars that never "
        f"trained it; {vehicles['train']} did."
    )
    console.print(f"Stored in {folder}.")
    console.print(f"Curves: mlflow ui --backend-store-uri {address_of(settings)}")
    notes = [note] if (note := too_few(manifest)) else []
    if trained.decision is not None:
        console.print(trained.decision.why)
        notes += trained.decision.comparison["notes"]
    for note in notes:
        console.print(f"Note: {note}", style="yellow")
    dataset = manifest.origin.dataset
    console.print(
        f"Next: motorcade evaluate {manifest.name} --dataset {dataset} --report report.html · "
        "motorcade models list · motorcade logs score"
    )
