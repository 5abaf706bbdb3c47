"""Notebooks as they are committed: run in order, with plots, and without traces of a machine."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from motorcade.stack.commands import app
from motorcade.stack.notebook_runs import changed

NOTEBOOKS = sorted((Path(__file__).parents[3] / "notebooks").glob("*.ipynb"))


def code_cells(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_there_are_four() -> None:
    assert len(NOTEBOOKS) == 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_reader_sees_the_outputs_of_one_run_from_top_to_bottom(path: Path) -> None:
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 5
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_tell_nothing_of_the_machine_that_they_come_from(path: Path) -> None:
    for cell in code_cells(path):
        for output in cell["outputs"]:
            texts = {
                kind: text for kind, text in output.get("data", {}).items() if "image" not in kind
            }
            said = json.dumps([texts, output.get("text")])
            assert not re.search(r"/(root|home|tmp|work|Users|var|opt)/", said)


def test_parameters_change_and_their_comments_stay() -> None:
    source = 'CARS = 120\nHOURS = 6  # of event time\nMODELS = ["pca", "boosted"]'
    assert changed(source, {"HOURS": "0.5", "MODELS": '["pca"]', "EPOCHS": "3"}) == (
        'CARS = 120\nHOURS = 0.5  # of event time\nMODELS = ["pca"]'
    )


def test_a_folder_without_notebooks_is_said(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["notebook", f"--folder={tmp_path}"])
    assert done.exit_code != 0
    assert "There are no notebooks" in str(done.exception)
