"""A program to run: what every server and process of the stack is reduced to."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Program:
    """One operating-system process.

    Args:
        name: unique in the stack; names its log file and is what `motorcade logs NAME` takes.
        argv: the command; argv[0] is an absolute path.
        env: variables added to the environment of whoever starts it.
        cwd: working directory; None keeps the starter's.
        stop_s: seconds it is given to end after SIGTERM before it is killed.
        nice: how much it steps back where the machine is full, 0 to 19, above its starter's.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    stop_s: int = 20
    nice: int = 0


def write_spec(program: Program, folder: Path) -> Path:
    """Writes the file that `motorcade.stack.child` executes. Owner only: it may hold secrets."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{program.name}.json"
    path.touch(mode=0o600)
    path.write_text(
        json.dumps(
            {
                "argv": list(program.argv),
                "env": dict(program.env),
                "cwd": str(program.cwd) if program.cwd else None,
                "nice": program.nice,
            },
            indent=1,
        )
    )
    return path


def command(spec: Path, death_signal: str = "KILL") -> list[str]:
    """The command that runs a spec file, tied to the life of the process that starts it."""
    return [
        sys.executable,
        "-m",
        "motorcade.stack.child",
        f"--death-signal={death_signal}",
        str(spec),
    ]
