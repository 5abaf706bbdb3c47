"""`motorcade compare` on the documents of two runs."""

from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from motorcade.simulator.report.document import write
from motorcade.stack.commands import app
from tests.unit.simulator.run_document import run_document


def compared(folder: Path, *options: str, **changes: Any) -> str:
    write(run_document(seed=1), folder / "a.json")
    write(run_document(seed=2, **changes), folder / "b.json")
    paths = (str(folder / "a.json"), str(folder / "b.json"))
    result = CliRunner().invoke(app, ["compare", *paths, *options], env={"COLUMNS": "160"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0
    return result.output


def test_what_got_worse_is_shown_with_its_ratio_and_equal_figures_are_not(tmp_path: Path) -> None:
    said = compared(tmp_path, cpu=1.5)
    (bridge,) = (line for line in said.splitlines() if "bridge" in line)
    assert "1.50" in bridge
    assert "worse" in bridge
    assert "mosquitto" not in said
    assert "0 better, 2 worse" in said


def test_all_figures_are_shown_when_asked_for_and_a_page_is_written(tmp_path: Path) -> None:
    page = tmp_path / "comparison.html"
    said = compared(tmp_path, "--all", "--report", str(page))
    assert "mosquitto" in said
    assert "0 better, 0 worse" in said
    assert page.read_text().startswith("<!doctype html>")
