"""A program runs as its spec says."""

import os
import subprocess
import sys
from pathlib import Path

from motorcade.stack.program import Program, command, write_spec


def test_a_program_steps_back_as_far_as_it_says(tmp_path: Path) -> None:
    argv = (sys.executable, "-c", "import os; print(os.nice(0))")
    spec = write_spec(Program("polite", argv, nice=3), tmp_path)
    said = subprocess.run(command(spec), capture_output=True, text=True, check=True, timeout=60)
    assert int(said.stdout) == min(os.nice(0) + 3, 19)
