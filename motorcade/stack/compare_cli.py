"""The command `motorcade compare`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from motorcade.simulator.report import comparison_page
from motorcade.simulator.report.compare import Change, Comparison, Row, compare
from motorcade.simulator.report.document import read

_STYLES = {Change.BETTER: "green", Change.WORSE: "bold red", Change.OTHER: "yellow"}


def compare_runs(
    first: Annotated[Path, typer.Argument(metavar="A.json", help="Document of the one run.")],
    second: Annotated[Path, typer.Argument(metavar="B.json", help="Document of the other run.")],
    report: Annotated[
        Path | None, typer.Option("--report", help="Write the comparison as HTML here.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show also what did not change.")
    ] = False,
) -> None:
    """Two runs of a scenario side by side: ratios, and what got better or worse beyond noise.

    The documents are those of `motorcade load SCENARIO --json FILE`. Noise is what each run's own
    series tell. The exit code is 0 whatever changed; 1 if the runs cannot be compared.

    **Example**

    - `motorcade compare before.json after.json --report comparison.html`
    """
    comparison = compare(read(first), read(second))
    console = Console()
    for line in comparison.differences:
        console.print(f"asked differently: {line}", style="yellow", highlight=False)
    rows = [row for row in comparison.rows if everything or row.change is not Change.SAME]
    if rows:
        console.print(_table(rows))
    console.print(_summary(comparison), highlight=False)
    if report is not None:
        comparison_page.write(comparison, report)
        console.print(f"The comparison with plots: {report}", highlight=False)


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("", "", "A", "B", "B / A", "noise", ""):
        table.add_column(name, justify="right" if name in {"A", "B", "B / A", "noise"} else "left")
    group = ""
    for row in rows:
        table.add_row(
            row.group if row.group != group else "",
            f"{row.name} {row.unit}".strip(),
            comparison_page.figure(row.a),
            comparison_page.figure(row.b),
            "–" if row.ratio is None else f"{row.ratio:.2f}",
            "" if row.noise is None else f"± {row.noise:.0%}",
            Text(row.change.value, style=_STYLES.get(row.change, "")),
        )
        group = row.group
    return table


def _summary(comparison: Comparison) -> str:
    better, worse = (len(comparison.changed(one)) for one in (Change.BETTER, Change.WORSE))
    same = len(comparison.rows) - better - worse
    return f"{better} better, {worse} worse, {same} without a clear difference."
