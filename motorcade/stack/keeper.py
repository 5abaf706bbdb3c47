"""Keeps programs running: a supervisord of the stack's own, talked to over its Unix socket."""

import contextlib
import hashlib
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport

from motorcade.stack.errors import StackError
from motorcade.stack.program import Program, command, write_spec

#: A program that ends sooner than this after its start is started again with growing delays
#: (1 s, 2 s, 3 s, …); one that ran longer at once.
_STARTED_S = 5
_RETRIES = 10

#: Longest path of a Unix socket on Linux, less the suffix that supervisord adds while it binds.
_SOCKET_PATH_MAX = 90

_SUPERVISORD = """\
[supervisord]
nodaemon=true
silent=true
logfile={folder}/supervisord.log
logfile_maxbytes=0
pidfile={folder}/supervisord.pid
childlogdir={folder}/logs
{user}
[unix_http_server]
file={socket}
chmod=0700
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[include]
files={folder}/programs/*.ini
"""

_PROGRAM = """\
[program:{name}]
command={command}
autostart=false
autorestart=true
startsecs={started_s}
startretries={retries}
stopasgroup=true
killasgroup=true
stopwaitsecs={stop_s}
redirect_stderr=true
stdout_logfile={folder}/logs/{name}.log
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=1
"""

#: How supervisord writes a moment, to the second.
LOGGED = "%Y-%m-%d %H:%M:%S"
_EXITED = re.compile(r"^(\S+ \S+) \w+ exited: (\S+) \((.*)\)$")


@dataclass(frozen=True)
class Status:
    """What supervisord knows about a program."""

    name: str
    state: str
    pid: int | None
    uptime_s: int


@dataclass(frozen=True)
class Crash:
    """A program that ended by itself.

    Args:
        name: the program.
        when: local time as supervisord logged it.
        how: "exit status 1" or "terminated by SIGKILL".
    """

    name: str
    when: str
    how: str


class Keeper:
    """A supervisord and its programs, in one folder.

    Args:
        folder: configuration, socket, logs; created by `start`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        socket = folder / "supervisor.sock"
        if len(str(socket)) > _SOCKET_PATH_MAX:
            digest = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
            socket = Path(tempfile.gettempdir()) / f"motorcade-{digest}.sock"
        self.socket = socket

    # -- supervisord itself ---------------------------------------------------------------------

    def start(self, *, tied: bool = False, timeout_s: float = 20) -> None:
        """Starts supervisord without programs and waits until it answers.

        Args:
            tied: it ends, and all programs with it, when the calling thread ends; otherwise it
                goes on by itself.
            timeout_s: how long it may take.

        Raises:
            StackError: it ended or does not answer; quotes its log.
        """
        for part in ("logs", "programs"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "supervisord.conf"
        configuration.write_text(
            _SUPERVISORD.format(
                folder=_escaped(self.folder),
                socket=_escaped(self.socket),
                # Without it supervisord warns when root runs it.
                user="user=root" if os.geteuid() == 0 else "",
            )
        )
        argv = (sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration))
        supervisord = Program("supervisord", argv)
        run = command(write_spec(supervisord, self.folder), "TERM") if tied else list(argv)
        with (self.folder / "supervisord.out").open("ab") as output:
            process = subprocess.Popen(
                run,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout_s
        while not self.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "supervisord.out").read_text(errors="replace").strip()
                process.kill()
                raise StackError(
                    f"supervisord did not start: {said.splitlines()[-1] if said else 'no answer'}.",
                    f"Its log is {self.folder / 'supervisord.log'}.",
                )
            time.sleep(0.05)

    def answers(self) -> bool:
        """Whether a supervisord answers on the socket."""
        if not self.socket.exists():
            return False
        try:
            return bool(self._rpc().getState()["statename"] == "RUNNING")
        except (OSError, Fault):
            return False

    def shut_down(self, first: Collection[str] = (), timeout_s: float = 60) -> None:
        """Stops every program and supervisord; returns when all are gone.

        What does not end in time is killed.

        Args:
            first: programs that end before the others, because they need them to drain.
            timeout_s: how long each of the two rounds, and supervisord itself, may take.
        """
        processes = self._processes()
        if self.answers():
            names = {one.name for one in self.statuses()}
            for wave in (names & set(first), names - set(first)):
                self._stop_all(wave, timeout_s)
            self._call("shutdown", tolerate=(Faults.SHUTDOWN_STATE,))
        for process in _await_end(processes, timeout_s):
            with contextlib.suppress(psutil.Error):
                process.kill()
        _await_end(processes, 10)
        self.socket.unlink(missing_ok=True)

    def _stop_all(self, names: Collection[str], timeout_s: float) -> None:
        for name in names:
            self._call("stopProcess", name, False, tolerate=(Faults.NOT_RUNNING,))
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and any(
            one.pid for one in self.statuses() if one.name in names
        ):
            time.sleep(0.05)

    def _processes(self) -> list[psutil.Process]:
        """supervisord and all that descends from it."""
        try:
            root = psutil.Process(int((self.folder / "supervisord.pid").read_text()))
            if "supervisor.supervisord" not in root.cmdline():  # the id was given to another
                return []
            return [root, *root.children(recursive=True)]
        except (OSError, ValueError, psutil.Error):
            return []

    # -- programs -------------------------------------------------------------------------------

    def add(self, program: Program) -> None:
        """Makes a program known and starts it; it is kept running from then on.

        Raises:
            StackError: supervisord does not take it.
        """
        spec = write_spec(program, self.folder / "programs")
        (self.folder / "programs" / f"{program.name}.ini").write_text(
            _PROGRAM.format(
                name=program.name,
                command=_escaped(shlex.join(command(spec))),
                folder=_escaped(self.folder),
                started_s=_STARTED_S,
                retries=_RETRIES,
                stop_s=program.stop_s,
            )
        )
        self._call("reloadConfig")
        self._call("addProcessGroup", program.name, tolerate=(Faults.ALREADY_ADDED,))
        self._call("startProcess", program.name, False)

    def stop(self, name: str) -> None:
        """Stops a program; it stays stopped."""
        self._call("stopProcess", name, tolerate=(Faults.NOT_RUNNING,))

    def start_again(self, name: str) -> None:
        """Starts a program that was stopped."""
        self._call("startProcess", name, False, tolerate=(Faults.ALREADY_STARTED,))

    def kill(self, name: str, *, stay_down: bool = False) -> None:
        """SIGKILLs a program, which starts again at once unless it shall stay down."""
        if stay_down:
            # It must not see the SIGTERM that tells supervisord to leave it down.
            self.signal(name, signal.SIGSTOP)
            self._call("stopProcess", name, False, tolerate=(Faults.NOT_RUNNING,))
        self.signal(name, signal.SIGKILL)

    def signal(self, name: str, sign: signal.Signals) -> None:
        """Sends a signal to a program and all that it started.

        Raises:
            StackError: it does not run.
        """
        pid = next((one.pid for one in self.statuses() if one.name == name), None)
        try:
            if pid is None:
                raise ProcessLookupError
            os.killpg(pid, sign)
        except ProcessLookupError:
            raise StackError(
                f"{name} does not run, so it cannot be sent {sign.name}.",
                f"Its log is {self.log_path(name)}.",
            ) from None

    def remove(self, name: str) -> None:
        """Stops a program and forgets it; its log stays."""
        self._call("stopProcess", name, tolerate=(Faults.NOT_RUNNING, Faults.BAD_NAME))
        self._call("removeProcessGroup", name, tolerate=(Faults.BAD_NAME,))
        for kind in ("ini", "json"):
            (self.folder / "programs" / f"{name}.{kind}").unlink(missing_ok=True)

    def statuses(self) -> list[Status]:
        """Every program's state."""
        return [
            Status(
                name=one["name"],
                state=one["statename"].lower(),
                pid=one["pid"] or None,
                uptime_s=max(0, one["now"] - one["start"]) if one["pid"] else 0,
            )
            for one in self._call("getAllProcessInfo")
        ]

    def given_up(self, name: str) -> bool:
        """Whether a program crashed so often that it is not started again."""
        return any(one.name == name and one.state == "fatal" for one in self.statuses())

    def restarts(self) -> list[Crash]:
        """Every end of a program that nobody asked for, oldest first."""
        return crashes((self.folder / "supervisord.log").read_text(errors="replace"))

    def log_path(self, name: str) -> Path:
        """Where a program's output goes."""
        return self.folder / "logs" / f"{name}.log"

    def last_words(self, name: str, lines: int = 15) -> str:
        """The end of a program's log."""
        try:
            with self.log_path(name).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 100_000))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _call(self, method: str, *arguments: Any, tolerate: Collection[int] = ()) -> Any:
        try:
            return getattr(self._rpc(), method)(*arguments)
        except Fault as fault:
            if fault.faultCode in tolerate:
                return None
            raise StackError(
                f"supervisord: {method} {' '.join(map(str, arguments))}: {fault.faultString}.",
                f"Its log is {self.folder / 'supervisord.log'}.",
            ) from fault
        except OSError as error:
            raise StackError(
                f"supervisord in {self.folder} does not answer: {error}.",
                "Clean up with `motorcade down`, then start again.",
            ) from error

    def _rpc(self) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        return ServerProxy("http://127.0.0.1", transport=transport).supervisor


def _await_end(processes: Collection[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Waits until processes have ended; returns those that have not in time.

    One that ended but was not yet taken note of by its parent has ended: that parent may be in no
    hurry, or a container's first process that never does.
    """
    deadline = time.monotonic() + timeout_s
    while (running := [one for one in processes if _runs(one)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return running


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def crashes(log: str) -> list[Crash]:
    """Reads the ends of programs out of a supervisord log; what was stopped on request is none."""
    return [
        Crash(found[2], found[1].partition(",")[0], found[3].partition(";")[0])
        for line in log.splitlines()
        if (found := _EXITED.match(line))
    ]


def _escaped(value: object) -> str:
    """Supervisor expands %(…)s in its configuration."""
    return str(value).replace("%", "%%")
