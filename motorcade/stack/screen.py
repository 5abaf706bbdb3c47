"""A run's one screen: stages with their progress, live figures, and what just happened."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

_EVENTS = 8


class LiveFrame:
    """Something that redraws itself on a terminal; where there is none, its owner prints lines."""

    # rich renders once at construction: an owner has its fields before it calls this.
    def __init__(self, console: Console, render: Callable[[], RenderableType]) -> None:
        self.console = console
        self._live = Live(
            console=console, get_renderable=render, refresh_per_second=6, transient=False
        )

    @property
    def live(self) -> bool:
        """Whether it redraws itself."""
        return self.console.is_terminal

    def line(self, line: RenderableType) -> None:
        """Print a line where nothing is redrawn."""
        if not self.live:
            self.console.print(line)

    def __enter__(self) -> Self:
        if self.live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()


@dataclass
class Stage:
    """A step of a run: `done` of `total`, and a word about how it goes."""

    title: str
    total: float = 0.0
    done: float = 0.0
    detail: str = ""
    state: str = "waiting"
    began: float = 0.0
    seconds: float = 0.0
    spinner: Spinner = field(default_factory=lambda: Spinner("dots"))


class Screen(LiveFrame):
    """Shows stages, figures and events; lines instead of a live screen where none is possible."""

    def __init__(self, console: Console) -> None:
        self._stages: list[Stage] = []
        self._figures: dict[str, str] = {}
        self._events: deque[Text] = deque(maxlen=_EVENTS)
        super().__init__(console, self._render)

    def plan(self, *titles: str) -> None:
        """Say beforehand what is going to happen."""
        self._stages = [Stage(title) for title in titles]

    @contextmanager
    def stage(self, position: int) -> Iterator[Stage]:
        """Run a stage; it is shown as failed when its body raises."""
        stage = self._stages[position]
        stage.state, stage.began = "running", time.monotonic()
        self.line(f"… {stage.title}")
        try:
            yield stage
        except BaseException:
            stage.state = "failed"
            raise
        else:
            stage.state = "done"
        finally:
            stage.seconds = time.monotonic() - stage.began
        self.line(f"✓ {stage.title} ({stage.seconds:.0f} s) {stage.detail}")

    def figures(self, figures: dict[str, str]) -> None:
        """Replace the live figures."""
        self._figures = figures

    def event(self, text: str, style: str = "") -> None:
        """Something that a person should see happen."""
        line = Text(f"{time.strftime('%H:%M:%S')}  {text}", style=style)
        self._events.append(line)
        self.line(line)

    def _render(self) -> RenderableType:
        stages = Table.grid(padding=(0, 1))
        for stage in self._stages:
            stages.add_row(*_stage_row(stage))
        parts: list[RenderableType] = [stages]
        if self._figures:
            figures = Table.grid(padding=(0, 3))
            for name, value in self._figures.items():
                figures.add_row(Text(name, style="dim"), value)
            parts += [Text(), figures]
        if self._events:
            parts += [Text(), *self._events]
        return Group(*parts)


def _stage_row(stage: Stage) -> tuple[RenderableType, ...]:
    if stage.state == "waiting":
        return Text("·", style="dim"), Text(stage.title, style="dim"), "", "", ""
    if stage.state == "done":
        return (
            Text("✓", style="green"),
            stage.title,
            "",
            Text(f"{stage.seconds:.0f} s"),
            Text(stage.detail, style="dim"),
        )
    if stage.state == "failed":
        return Text("✗", style="red"), stage.title, "", "", Text(stage.detail)
    elapsed = time.monotonic() - stage.began
    bar: RenderableType = ""
    if stage.total:
        bar = ProgressBar(total=stage.total, completed=min(stage.done, stage.total), width=24)
    return stage.spinner, stage.title, bar, Text(f"{elapsed:.0f} s"), Text(stage.detail)
