"""`motorcade retrain`: record, train, evaluate, promote, with nobody watching."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from motorcade.fleet.errors import SettingsError
from motorcade.fleet.settings import ProcessSettings
from motorcade.stack.joining import join
from motorcade.stack.shared_options import State, require_writable
from motorcade.stack.train_cli import HORIZON, span_ms

if TYPE_CHECKING:
    from motorcade.ml.retraining.journal import Retraining


def retrain(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="As of `motorcade train`.")
    ],
    once: Annotated[bool, typer.Option("--once", help="Now, once; the default.")] = False,
    every: Annotated[
        float | None, typer.Option(min=0.01, metavar="HOURS", help="Again and again, so often.")
    ] = None,
    on_drift: Annotated[
        bool, typer.Option("--on-drift", help="Whenever the stream has drifted.")
    ] = False,
    look: Annotated[
        float, typer.Option(min=0.05, metavar="MINUTES", help="Between looks at drift.")
    ] = 15.0,
    minutes: Annotated[
        float, typer.Option(min=0.1, help="How much of the stream a look takes in.")
    ] = 1440.0,
    rest: Annotated[
        float,
        typer.Option(min=0, metavar="HOURS", help="Between two retrainings because of drift."),
    ] = 24.0,
    since: Annotated[
        str,
        typer.Option(help="How much of the stream to record, such as 7d; all, when left out."),
    ] = "",
    test_vehicles: Annotated[
        str, typer.Option(metavar="REGEX", help="Vehicles that judge; else a fifth, by a hash.")
    ] = "",
    horizon: Annotated[
        str, typer.Option(help="Event time within which failures are foretold.")
    ] = HORIZON,
    life_cap: Annotated[
        str, typer.Option(help="Remaining life is learnt up to this event time; else it is not.")
    ] = "",
    epochs: Annotated[int | None, typer.Option(min=1, help="Most epochs.")] = None,
    seed: Annotated[int, typer.Option(help="Of split, weights and shuffling.")] = 0,
    minimum_records: Annotated[
        int, typer.Option(min=1, help="Refuse to train on fewer usable records.")
    ] = 1000,
    document: Annotated[
        Path | None, typer.Option("--json", help="Write what one retraining came to here.")
    ] = None,
    state: State = None,
) -> None:
    """Record → train → evaluate → promote, for each model in turn, unattended.

    What Kafka holds is recorded as a data set; each model is trained on it with its baselines; all
    are compared with each other and with the champion on vehicles that taught none of them. What
    is best is the champion afterwards. Nothing better: the old one stays.

    Killed at any moment, the same command goes on from the last finished step. With `--every` and
    `--on-drift` it runs until SIGTERM, logs a line per step, and tells `/metrics` of drift and
    results (MOTORCADE_HTTP_PORT).

    **Examples**

    - `motorcade retrain autoencoder boosted` once, now

    - `motorcade retrain forecaster --every 24 --since 14d`

    - `motorcade retrain autoencoder --on-drift --minutes 1440`

    **Next:** `motorcade models list`; `motorcade models rollback` undoes a promotion.
    """
    if (once, every is not None, on_drift).count(True) > 1:
        raise SettingsError("--once, --every and --on-drift are three ways: choose one.")
    require_writable("--json", document)
    join(state)
    from motorcade.ml.models.catalogue import architecture
    from motorcade.ml.retraining.journal import Plan
    from motorcade.ml.retraining.run import retrain as retrain_once

    for name in models:
        architecture(name)
    plan = Plan(
        models=tuple(models),
        window_ms=span_ms(since, "--since") if since else None,
        test_vehicles=test_vehicles,
        horizon_ms=span_ms(horizon, "--horizon"),
        life_cap_ms=span_ms(life_cap, "--life-cap") if life_cap else None,
        epochs=epochs,
        seed=seed,
        minimum_records=minimum_records,
    )
    settings = ProcessSettings()
    if every is None and not on_drift:
        _result(retrain_once(settings, plan, "asked for", _line), document)
        return
    from motorcade.ml.drift.check import Limits
    from motorcade.ml.retraining.schedule import Every, OnDrift, keep_trained

    keep_trained(
        settings,
        plan,
        Every(_hours_ms(every))
        if every is not None
        else OnDrift(minutes, round(look * 60_000), _hours_ms(rest), Limits()),
    )


def _hours_ms(hours: float) -> int:
    return round(hours * 3_600_000)


def _line(step: str, /, **facts: Any) -> None:
    told = "  ".join(f"{name} {_text(value)}" for name, value in facts.items())
    sys.stderr.write(f"{time.strftime('%H:%M:%S')}  {step:8}  {told}\n")
    sys.stderr.flush()


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _result(done: "Retraining", document: Path | None) -> None:
    if document is not None:
        import msgspec

        text = msgspec.json.format(msgspec.json.encode(done), indent=1)
        document.write_bytes(text + b"\n")
    for one in done.outcomes:
        typer.echo(f"{one.model}:{one.version or '–'}: {one.why}")
    typer.echo(
        f"{done.champion} is the champion now." if done.champion else "The old champion stays."
    )
    typer.echo(f"Next: motorcade models list · motorcade evaluate --dataset {done.dataset}")
