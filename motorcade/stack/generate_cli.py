"""`motorcade generate`: a training set of simulated cars, straight to Kafka at full speed."""

import json
import os
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from motorcade.fleet.catalogue import Catalogue, load_catalogue, shipped_catalogue
from motorcade.fleet.errors import SettingsError
from motorcade.fleet.settings import ProcessSettings
from motorcade.simulator.generate.plan import GenerateError, SetPlan, faults_within, truth
from motorcade.simulator.generate.run import Generated, generate
from motorcade.simulator.population import CarKind, FleetPlan, grid_for, signals_of
from motorcade.simulator.recorded import load_drives
from motorcade.simulator.wear import WearKind
from motorcade.stack.plan import environment
from motorcade.stack.shared_options import State, folder_of, require_writable

_console = Console(stderr=True, soft_wrap=True)
_HOUR_MS = 3_600_000


def generate_set(
    cars: Annotated[int, typer.Option(min=1, help="How many cars drive.")] = 1000,
    hours: Annotated[float, typer.Option(min=0, help="Event time, in hours.")] = 0.0,
    days: Annotated[float, typer.Option(min=0, help="Event time, in days.")] = 0.0,
    interval: Annotated[
        float, typer.Option(min=0.001, help="Event seconds between two messages of a car.")
    ] = 10.0,
    start: Annotated[
        str, typer.Option(help="Event time of the begin, ISO; else so that the set ends now.")
    ] = "",
    faults: Annotated[int, typer.Option(min=0, help="Cars that wear until they fail.")] = 0,
    wear_share: Annotated[
        float, typer.Option(min=0, max=1, help="The same as a share of the cars.")
    ] = 0.0,
    kinds: Annotated[str, typer.Option(help="Kinds of wear, with commas; else all.")] = "",
    wear_minutes: Annotated[
        float, typer.Option(min=0, help="Minutes from onset to failure; else the kind's own.")
    ] = 0.0,
    car: Annotated[str, typer.Option(help="motorcade, or demo: the public demo's car.")] = (
        "motorcade"
    ),
    drives: Annotated[
        Path | None, typer.Option(help="Recorded drives to replay: folder or description.")
    ] = None,
    signals: Annotated[
        Path | None, typer.Option(help="Signal catalogue (YAML); else the stack's.")
    ] = None,
    payload: Annotated[str, typer.Option(help="json or avro.")] = "json",
    seed: Annotated[
        int, typer.Option(help="Of the fleet. A live fleet's is 1: another one is other cars.")
    ] = 1000,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Processes; else one a core.")
    ] = None,
    truth_file: Annotated[
        Path | None, typer.Option("--truth", help="Write onsets and failures here (JSON).")
    ] = None,
    kafka: Annotated[
        str | None, typer.Option(help="Bootstrap servers; else those of the stack that runs.")
    ] = None,
    state: State = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Write simulated cars' messages to `telemetry.raw` at full speed, for training sets.

    They are made as those of a live fleet of the same seed: the same physics, vehicle ids, faults
    and trouble codes. Only the moment at which a car joins differs, and with it the samples; the
    same command writes the same ones each time. Each carries the header `generated: 1`. The
    processes of the stack refine and score them like any other.

    **Examples**

    - `motorcade generate --cars 1000 --days 1 --wear-share 0.3 --truth truth.json`

    - `motorcade generate --car demo --cars 5000 --hours 0.2 --interval 5`

    **Next:** `motorcade train autoencoder`.
    """
    require_writable("--truth", truth_file)
    settings, running = _target(kafka, state)
    kind = _choice(car, ("motorcade", "demo"), "--car")
    fleet = _fleet(settings, kind, signals, drives, seed, interval)
    if running:
        _require_same(fleet.catalogue, load_catalogue(settings.signals))
    plan = _plan(
        fleet=fleet,
        cars=cars,
        span_ms=round((hours + 24 * days) * _HOUR_MS),
        interval_ms=round(interval * 1000),
        start=start,
        faults=faults or round(wear_share * cars),
        kinds=_kinds(kinds),
        duration_s=wear_minutes * 60 or None,
    )
    done = _run(
        plan, settings, _choice(payload, ("json", "avro"), "--payload"), processes or _cores()
    )
    if truth_file is not None:
        truth_file.write_text(json.dumps(truth(plan, done.failures), indent=1) + "\n")
    if as_json:
        sys.stdout.write(json.dumps(_document(plan, done), indent=1) + "\n")


def _target(kafka: str | None, state: Path | None) -> tuple[ProcessSettings, bool]:
    """Where to write: the stack that runs (True), or what options and environment name."""
    folder = folder_of(state)
    running = folder.load()
    if running is not None:
        for name, value in environment(running, folder).items():
            os.environ.setdefault(name, value)
    elif kafka is None and "MOTORCADE_KAFKA" not in os.environ:
        raise SettingsError(
            f"No stack runs in {folder.path}, and no Kafka is named.",
            "Start one with `motorcade up`, or give --kafka HOST:PORT.",
        )
    settings = ProcessSettings(kafka=kafka) if kafka else ProcessSettings()
    return settings, running is not None


def _fleet(
    settings: ProcessSettings,
    car: Any,
    signals: Path | None,
    drives: Path | None,
    seed: int,
    interval_s: float,
) -> FleetPlan:
    kind: CarKind = car
    catalogue = load_catalogue(signals_of(kind, signals or settings.signals))
    recorded = tuple(load_drives(drives, catalogue)) if drives else ()
    # What sends as often at no speed-up has the same grid: physics in the same steps.
    grid_ms = grid_for(1.0, interval_s)
    return FleetPlan(seed, catalogue, settings.run_clock, recorded, grid_ms, kind)


def _require_same(catalogue: Catalogue, running: Catalogue) -> None:
    """The processes that judge the messages must know their signals."""
    if catalogue != running:
        raise GenerateError(
            f"The cars send the signals of catalogue {catalogue.name!r}, but the stack knows "
            f"{running.name!r}: refine would quarantine every message.",
            "Start the stack with the same --signals (motorcade up --signals "
            f"{shipped_catalogue('demo')} for --car demo), or set MOTORCADE_SIGNALS.",
        )


def _plan(
    fleet: FleetPlan,
    cars: int,
    span_ms: int,
    interval_ms: int,
    start: str,
    faults: int,
    kinds: list[WearKind],
    duration_s: float | None,
) -> SetPlan:
    now_ms = time.time_ns() // 1_000_000
    grid = fleet.grid_ms
    begin = _moment_ms(start) if start else fleet.clock.event_ms(now_ms) - span_ms
    begin -= begin % grid
    if begin + span_ms > fleet.clock.event_ms(now_ms):
        raise GenerateError(
            "The set ends ahead of the run's clock: refine would quarantine what is in the future.",
            "Take an earlier --start, or a shorter time.",
        )
    chosen = faults_within(fleet, cars, faults, kinds, begin, begin + span_ms, duration_s)
    return SetPlan(fleet, cars, begin, begin + span_ms, interval_ms, now_ms, chosen)


def _run(plan: SetPlan, settings: ProcessSettings, payload: Any, processes: int) -> Generated:
    busy = psutil.cpu_times()
    with Progress(
        TextColumn("Generating"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=_console,
    ) as bars:
        task = bars.add_task("", total=plan.most_messages, rate="")
        began = time.monotonic()

        def show(count: int, event_ms: int) -> None:
            # Cars that broke down send less: what is left goes by event time.
            share = (event_ms - plan.start_ms) / (plan.end_ms - plan.start_ms)
            total = count if share >= 1 else max(count, round(count / share)) if share else None
            rate = f"{count / (time.monotonic() - began):,.0f}/s"
            bars.update(task, completed=count, total=total or plan.most_messages, rate=rate)

        done = generate(plan, settings, payload, processes, show)
    _tell(plan, done, busy)
    return done


def _tell(plan: SetPlan, done: Generated, before: Any) -> None:
    cpu = done.cpu_us()
    parts = ", ".join(f"{name} {cpu[name]:.1f}" for name in ("physics", "encoding", "kafka client"))
    after = psutil.cpu_times()
    idle = after.idle + after.iowait - before.idle - before.iowait
    busy = sum(after[:7]) - sum(before[:7]) - idle
    share = busy / max(1e-9, busy + idle)
    ours = done.cost.cpu_s / max(1e-9, busy + idle)
    bound = "CPU" if share > 0.85 else "Kafka's answers"
    _console.print(
        f"{done.messages:,} messages of {plan.cars:,} cars in {done.wall_s:.1f} s: "
        f"{done.per_s:,.0f}/s, {done.per_s / done.processes:,.0f}/s for each of "
        f"{done.processes} processes; {len(done.failures):,} failures.\n"
        f"CPU per message: {cpu['all']:.1f} µs ({parts}). The machine was {share:.0%} busy, "
        f"{ours:.0%} with this: bound by {bound}."
    )


def _document(plan: SetPlan, done: Generated) -> dict[str, Any]:
    return {
        **truth(plan, [])["set"],
        "messages": done.messages,
        "failures": len(done.failures),
        "faults": len(plan.faults),
        "wall_s": round(done.wall_s, 3),
        "per_s": round(done.per_s),
        "processes": done.processes,
        "cpu_us_per_message": {name: round(value, 2) for name, value in done.cpu_us().items()},
    }


def _kinds(text: str) -> list[WearKind]:
    if not text:
        return list(WearKind)
    names = [name.strip() for name in text.split(",")]
    return [WearKind(_choice(name, tuple(WearKind), "--kinds")) for name in names]


def _choice(value: str, allowed: tuple[str, ...], option: str) -> str:
    if value not in allowed:
        raise SettingsError(f"{option} {value} is not known.", f"Take one of {', '.join(allowed)}.")
    return value


def _moment_ms(text: str) -> int:
    try:
        return round(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except ValueError:
        raise SettingsError(
            f"--start {text!r} is not a date and time.", "Write such as 2026-05-28T08:00:00+00:00."
        ) from None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
