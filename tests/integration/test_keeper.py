"""What a load run does to programs: kill, stay down, pause, start again, forget."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from motorcade.stack.errors import StackError
from motorcade.stack.keeper import Keeper, Status
from motorcade.stack.program import Program

_SOON_S = 20
#: Says when it is told to end, so that a kill can be told from a stop.
_SERVER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("told to end", flush=True), sys.exit(0)))
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    one = Keeper(tmp_path)
    one.start()
    one.add(Program("server", (sys.executable, "-c", _SERVER)))
    until(lambda: "started" in one.last_words("server"))
    yield one
    one.shut_down()


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SOON_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def status(keeper: Keeper) -> Status:
    return next(one for one in keeper.statuses() if one.name == "server")


def test_a_killed_program_comes_back_at_once_unless_it_shall_stay_down(keeper: Keeper) -> None:
    first = status(keeper).pid
    assert first is not None
    keeper.kill("server", stay_down=True)
    until(lambda: not psutil.pid_exists(first) and status(keeper).state == "stopped")
    assert "told to end" not in keeper.last_words("server")

    keeper.start_again("server")
    until(lambda: status(keeper).pid is not None)
    second = status(keeper).pid
    keeper.kill("server")
    until(lambda: status(keeper).pid not in {None, second})


def test_a_paused_program_goes_on_where_it_was(keeper: Keeper) -> None:
    pid = status(keeper).pid
    keeper.signal("server", signal.SIGSTOP)
    until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    keeper.signal("server", signal.SIGCONT)
    until(lambda: psutil.Process(pid).status() != psutil.STATUS_STOPPED)
    assert status(keeper).pid == pid


def test_a_program_is_forgotten_and_one_that_does_not_run_cannot_be_hurt(keeper: Keeper) -> None:
    keeper.remove("server")
    assert keeper.statuses() == []
    assert "told to end" in keeper.last_words("server")
    keeper.remove("server")
    with pytest.raises(StackError, match="server does not run"):
        keeper.kill("server")
