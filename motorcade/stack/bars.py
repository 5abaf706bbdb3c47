"""Bars of work that has phases, one for each, as training and judging report them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn
from rich.progress import Progress as Bars

if TYPE_CHECKING:
    from motorcade.ml.training.checkpoints import Progress


@contextmanager
def phase_bars(time: ProgressColumn) -> "Iterator[Callable[[Progress], None]]":
    """Draw bars on standard error for as long as the context lasts.

    Args:
        time: the column that tells the time: elapsed or remaining.

    Yields:
        What takes the progress: a phase that is new begins a bar of its own.
    """
    columns = (
        TextColumn("{task.description:10}"),
        BarColumn(),
        MofNCompleteColumn(),
        time,
        TextColumn("{task.fields[detail]}", style="dim"),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def tell(progress: "Progress") -> None:
            if progress.phase not in tasks:
                tasks[progress.phase] = bars.add_task(progress.phase, total=None, detail="")
            bars.update(
                tasks[progress.phase],
                completed=progress.done,
                total=progress.total,
                detail=progress.detail,
            )

        yield tell
