"""Exec wrapper of every child: dies with its parent, has its priority and all files it may open.

Run as `python -m motorcade.stack.child [--death-signal=KILL|TERM] SPEC.json`. It replaces itself
with the program, so nothing of it stays in memory.
"""

import ctypes
import json
import os
import resource
import signal
import sys

#: prctl(2): deliver a signal to this process when the thread that started it ends. It survives
#: exec but is cleared when a process changes its user, so servers run as whoever starts them.
_PR_SET_PDEATHSIG = 1


def _die_with_parent(death_signal: int) -> None:
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, death_signal) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # the parent ended before the request was in place
        sys.exit(1)


def main(arguments: list[str]) -> None:
    """Executes the spec file; returns only by raising."""
    death_signal = signal.SIGKILL
    if arguments[0].startswith("--death-signal="):
        death_signal = signal.Signals[f"SIG{arguments.pop(0).partition('=')[2]}"]
    _die_with_parent(death_signal)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with open(arguments[0], encoding="utf-8") as file:  # noqa: PTH123 - keeps the start cheap
        spec = json.load(file)
    if spec["cwd"]:
        os.chdir(spec["cwd"])
    os.nice(spec["nice"])
    argv = spec["argv"]
    try:
        os.execve(argv[0], argv, {**os.environ, **spec["env"]})  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.exit(f"cannot run {argv[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
