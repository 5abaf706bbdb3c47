"""What all benchmarks share: each has its command, and says its options alike."""

from pathlib import Path

import pytest

import bench
from bench import arguments
from motorcade.stack.bench_cli import app

FOLDER = Path(next(iter(bench.__path__)))


def test_every_program_has_a_command_and_every_command_a_program() -> None:
    programs = {path.parent.name for path in FOLDER.glob("*/__main__.py")}
    programs |= {path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text()}
    commands = {str(one.name).replace("-", "_") for one in app.registered_commands}
    assert commands == programs


def test_help_tells_each_default_and_takes_no_shortened_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parser = arguments.parser("growth", "Cost as work grows.\n\n  As it is written.")
    parser.add_argument("--seconds", type=float, default=20, help="of each stage")
    parser.add_argument("--quick", action="store_true", help="small fleets")
    help_ = parser.format_help()
    assert help_.startswith("usage: motorcade bench growth ")
    assert "  As it is written." in help_
    assert "of each stage (20)" in help_
    assert "small fleets\n" in help_
    with pytest.raises(SystemExit):
        parser.parse_args(["--sec", "3"])
    assert "--sec" in capsys.readouterr().err
