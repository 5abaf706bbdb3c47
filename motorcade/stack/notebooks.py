"""What the notebooks begin with: the stack that runs here, and cars whose messages it refined."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.topics import DLQ, TELEMETRY
from motorcade.ml.reading.ranges import record_ranges
from motorcade.ml.reading.recording import record_dataset
from motorcade.ml.reading.records import DatasetRecord, DatasetStore
from motorcade.ml.training.checkpoints import Progress
from motorcade.simulator.generate.plan import SetPlan, faults_within
from motorcade.simulator.generate.run import generate
from motorcade.simulator.population import FleetPlan, grid_for
from motorcade.simulator.wear import WearKind
from motorcade.stack.errors import StackError
from motorcade.stack.joining import join
from motorcade.stack.shared_options import folder_of

_HOUR_MS = 3_600_000
#: Refine takes tens of thousands of messages a second: one that takes none for so long is stuck.
_STUCK_S = 60.0
#: Between two updates of a line: a browser need not show more.
_SHOWN_S = 0.2


class Line:
    """A line below a notebook's cell that follows long work; told as training tells its progress.

    It is shown when first told, in the cell that runs then.
    """

    def __init__(self) -> None:
        self._shown: Any = None
        self._at = 0.0

    def __call__(self, progress: Progress) -> None:
        """Show a phase, and how far it is."""
        done = progress.total is not None and progress.done >= progress.total
        now = time.monotonic()
        if self._shown is not None and not done and now - self._at < _SHOWN_S:
            return
        self._at = now
        total = "" if progress.total is None else f" of {progress.total:,}"
        detail = f" · {progress.detail}" if progress.detail else ""
        self._show(f"{progress.phase}: {progress.done:,}{total}{detail}")

    def told(self, phase: str) -> Callable[[int, int], None]:
        """For work that tells (done, total) only."""
        return lambda done, total: self(Progress(phase, done, total))

    def _show(self, text: str) -> None:
        from IPython.display import Pretty, display

        if self._shown is None:
            self._shown = display(Pretty(text), display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._shown.update(Pretty(text))  # type: ignore[no-untyped-call]


def running(state: Path | None = None) -> ProcessSettings:
    """Where everything of the running stack is.

    Args:
        state: its state folder; None: that of MOTORCADE_STATE, or the default one.

    Raises:
        StackError: no stack runs there, and MOTORCADE_KAFKA names no Kafka of your own either.
    """
    if not join(state) and "kafka" not in ProcessSettings().model_fields_set:
        folder_of(state).require()
    return ProcessSettings()


def drive(
    settings: ProcessSettings,
    line: Line,
    *,
    cars: int,
    hours: float,
    interval_s: float,
    wear_share: float,
    wear_minutes: float,
    seed: int,
) -> DatasetRecord:
    """Let simulated cars drive, through refine, and record their messages as a data set.

    The same arguments name the same data set: once it is recorded, it is given as it is.

    Args:
        settings: of the running stack.
        line: follows the work.
        cars: how many.
        hours: of event time, which ends now.
        interval_s: event seconds between two messages of a car.
        wear_share: of the cars, wear until they fail; all kinds of wear in turn.
        wear_minutes: event time from the beginning of wear to the failure.
        seed: another seed makes other cars.

    Raises:
        MotorcadeError: the set cannot be made as asked, Kafka does not answer, or refine is stuck.
    """
    name = f"{cars}-cars-{hours:g}h-{interval_s:g}s-wear{wear_share:g}x{wear_minutes:g}-seed{seed}"
    store = DatasetStore.of(settings)
    if name in (one.name for one in store.list()):
        return store.read(name)
    began = time.time_ns() // 1_000_000
    grid_ms = grid_for(1.0, interval_s)
    catalogue = load_catalogue(settings.signals)
    fleet = FleetPlan(seed, catalogue, settings.run_clock, (), grid_ms)
    begin = settings.run_clock.event_ms(began) - round(hours * _HOUR_MS)
    begin -= begin % grid_ms
    end = begin + round(hours * _HOUR_MS)
    faults = faults_within(
        fleet, cars, round(wear_share * cars), list(WearKind), begin, end, wear_minutes * 60
    )
    plan = SetPlan(fleet, cars, begin, end, round(interval_s * 1000), began, faults)
    line(Progress("driving", 0, plan.most_messages))
    done = generate(
        plan,
        settings,
        "json",
        1,
        lambda count, _: line(Progress("driving", count, plan.most_messages)),
    )
    _until_refined(settings, began, done.messages, line)
    told = line.told("recording")
    return record_dataset(settings, name, since_ms=began, told=told)


def _until_refined(settings: ProcessSettings, since_ms: int, messages: int, line: Line) -> None:
    """Wait until refine has let through, or quarantined, what was sent."""
    seen, moved = -1, time.monotonic()
    while True:
        count = sum(
            one.records
            for topic in (TELEMETRY, DLQ)
            for one in record_ranges(settings, topic, since_ms=since_ms)
        )
        line(Progress("refining", count, max(count, messages)))
        if count >= messages:
            return
        now = time.monotonic()
        if count > seen:
            seen, moved = count, now
        elif now - moved > _STUCK_S:
            raise StackError(
                f"Refine has let through {count:,} of {messages:,} messages, and takes no more.",
                "See why: motorcade status, motorcade logs refine.",
            )
        time.sleep(0.2)
