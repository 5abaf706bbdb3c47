"""The `motorcade` command as a person runs it, and what it may leave behind: nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

_RUN = str(Path(__file__).parents[2] / "scripts" / "run")
#: Wide enough that no line of a table or an error is broken.
_TERMINAL = {"COLUMNS": "250", "NO_COLOR": "1"}


def start(*arguments: str, output: Path) -> subprocess.Popen[bytes]:
    """Start `scripts/run …`; everything it prints goes to a file."""
    with output.open("wb") as file:
        return subprocess.Popen(
            [_RUN, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_TERMINAL},
        )


def motorcade(*arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run `motorcade …` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "motorcade.stack.cli", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, **_TERMINAL},
        check=False,
    )


def left_running(folder: Path) -> list[str]:
    """Processes that speak of a folder in their command or their environment."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            words = [*process.cmdline(), *process.environ().values()]
            if any(str(folder) in word for word in words):
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
        except psutil.Error:
            continue  # it ended meanwhile
    return found


def end(process: subprocess.Popen[bytes], output: Path, timeout_s: float = 90) -> int:
    """Ctrl-C; the exit code."""
    process.send_signal(signal.SIGINT)
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"Ctrl-C does not end it:\n{output.read_text()[-3000:]}") from None


def until_said(words: str, process: subprocess.Popen[bytes], output: Path, timeout_s: float) -> str:
    """Wait until a program has printed some words; returns all that it printed."""
    deadline = time.monotonic() + timeout_s
    while words not in (said := output.read_text(errors="replace")):
        assert process.poll() is None, f"it ended with {process.returncode}:\n{said[-3000:]}"
        assert time.monotonic() < deadline, f"it never said {words!r}:\n{said[-3000:]}"
        time.sleep(0.1)
    return said
