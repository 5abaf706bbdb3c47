"""A stack comes up, is watched, and goes without a trace, also when it is torn down by force."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from motorcade.stack import archives, bringup
from motorcade.stack.brokers.mosquitto import find
from motorcade.stack.options import StackOptions
from motorcade.stack.processes import MODULES
from motorcade.stack.settings import StackSettings
from motorcade.stack.state import StateFolder

from .servers import alive, run_async

pytestmark = pytest.mark.skipif(find() is None, reason="mosquitto is not installed")


def until(true: Callable[[], bool], timeout_s: float = 30) -> None:
    """Polls until something is true."""
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.1)


def start(folder: Path, settings: StackSettings, *, broker: str = "mosquitto") -> StateFolder:
    """Servers only: Kafka, registry and broker."""
    options = StackOptions(state=folder, broker=broker, processes=())
    run_async(bringup.start(options, settings))
    return StateFolder(folder)


def pids(folder: StateFolder) -> dict[str, int]:
    found = {one.name: one.pid for one in folder.keeper.statuses() if one.pid}
    supervisord = int((folder.path / "supervisord.pid").read_text())
    return {**found, "supervisord": supervisord}


def motorcade(
    *arguments: str, limit_s: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "motorcade.stack.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=limit_s,
        env={**os.environ, **environment},
        check=False,
    )


def processes_of(folder: Path) -> list[str]:
    """Command lines that name the folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "pid"]):
        words = process.info["cmdline"] or []
        if any(str(folder) in word for word in words):
            found.append(" ".join(words))
    return found


@pytest.fixture(scope="module")
def running(
    stack_settings: StackSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StateFolder]:
    folder = start(tmp_path_factory.mktemp("stack") / "state", stack_settings)
    yield folder
    bringup.stop(folder)


def test_every_server_runs_and_is_ready(running: StateFolder) -> None:
    said = motorcade("status", "--json", "--state", str(running.path))
    assert said.returncode == 0, said.stderr
    report = json.loads(said.stdout)
    assert {part["name"] for part in report["parts"]} == {"kafka", "registry", "mosquitto-1"}
    assert report["healthy"]
    assert report["broker_drops"] in {0, None}  # None: unchanged since a minute


def test_a_second_up_says_that_a_stack_runs(running: StateFolder) -> None:
    said = motorcade("up", "--state", str(running.path))
    assert said.returncode == 1
    assert "a stack already runs in" in said.stderr
    assert running.load() is not None


def test_the_log_of_a_part_that_does_not_exist_names_those_that_do(running: StateFolder) -> None:
    said = motorcade("logs", "kafak", "--state", str(running.path))
    assert said.returncode == 1
    assert "kafka, mosquitto-1, registry" in said.stderr


def test_a_killed_server_is_started_again_and_reported(running: StateFolder) -> None:
    before = pids(running)["registry"]
    os.kill(before, signal.SIGKILL)
    until(lambda: pids(running).get("registry", before) != before)
    ends = [crash for crash in running.keeper.restarts() if crash.name == "registry"]
    assert [crash.how for crash in ends] == ["terminated by SIGKILL"]


def test_servers_may_open_every_file_they_are_allowed_to(running: StateFolder) -> None:
    soft, hard = psutil.Process(pids(running)["mosquitto-1"]).rlimit(psutil.RLIMIT_NOFILE)
    assert soft == hard


def test_down_leaves_no_process_and_kept_data_is_taken_up_until_a_killed_supervisor_takes_all(
    running: StateFolder, stack_settings: StackSettings
) -> None:
    before = pids(running)
    first = running.require()
    assert len(before) == 4
    assert motorcade("down", "--keep-data", "--state", str(running.path)).returncode == 0
    assert not any(alive(pid) for pid in before.values())
    assert [entry.name for entry in running.path.iterdir()] == ["data"]

    folder = start(running.path, stack_settings)
    assert folder.require().kafka != first.kafka
    again = pids(folder)
    os.kill(again["supervisord"], signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in again.values()))
    assert folder.stale
    said = motorcade("status", "--state", str(folder.path))
    assert said.returncode == 1
    assert "has died" in said.stderr
    assert motorcade("down", "--state", str(folder.path)).returncode == 0
    assert not folder.path.exists()


def test_a_tied_stack_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "state")
    program = f"""
import pathlib, signal
from motorcade.stack.keeper import Keeper
from motorcade.stack.program import Program
keeper = Keeper(pathlib.Path({str(folder.path)!r}))
keeper.start(tied=True)
keeper.add(Program("sleeper", ("/bin/sleep", "600")))
print("up", flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"up\n"
        until(lambda: psutil.Process(pids(folder)["sleeper"]).name() == "sleep")
        before = pids(folder)
        starter.kill()
    until(lambda: not any(alive(pid) for pid in before.values()))


def test_a_program_that_keeps_crashing_is_slowed_down_and_given_up(tmp_path: Path) -> None:
    from motorcade.stack.keeper import Keeper
    from motorcade.stack.program import Program

    keeper = Keeper(tmp_path / "state")
    keeper.start()
    try:
        keeper.add(Program("broken", ("/bin/false",)))
        until(lambda: len(keeper.restarts()) >= 3)
        moments = [crash.when for crash in keeper.restarts()]
        assert keeper.restarts()[0].how == "exit status 1"
        assert moments == sorted(moments)
        assert len(keeper.restarts()) < 10
    finally:
        keeper.shut_down()


def test_a_port_in_use_is_named_with_its_holder_and_nothing_stays(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        said = motorcade("up", "--kafka-port", str(port), "--state", str(tmp_path / "state"))
    assert said.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use by" in said.stderr
    assert f"(pid {os.getpid()})" in said.stderr
    assert "Traceback" not in said.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--kafka", "127.0.0.1:1"), "Kafka at 127.0.0.1:1 does not carry a message"),
        (
            ("--broker", "external", "--broker-url", "mqtt://127.0.0.1:1"),
            "the MQTT broker at 127.0.0.1:1 does not carry a message",
        ),
    ],
)
def test_an_unreachable_server_is_named_and_nothing_stays(
    tmp_path: Path, option: tuple[str, ...], message: str
) -> None:
    said = motorcade("up", *option, "--state", str(tmp_path / "state"))
    assert said.returncode == 1
    assert message in said.stderr
    assert "Traceback" not in said.stderr
    assert processes_of(tmp_path) == []


def test_a_corrupt_cached_archive_is_named_with_its_remedy_and_nothing_starts(
    stack_settings: StackSettings, tmp_path: Path
) -> None:
    archives.ensure([archives.KAFKA, archives.REGISTRY], stack_settings)
    cache = tmp_path / "cache"
    shutil.copytree(stack_settings.cache_folder, cache, copy_function=os.link, dirs_exist_ok=True)
    damaged = cache / archives.KAFKA.name / archives.KAFKA.locked[0].filename
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged.unlink()  # a hard link: the real cache stays as it is
    damaged.write_bytes(content)
    said = motorcade("up", "--state", str(tmp_path / "state"), MOTORCADE_CACHE=str(cache))
    assert said.returncode == 1
    assert f"the cached archive {damaged} is damaged" in said.stderr
    assert f"rm {damaged}" in said.stderr
    assert "Traceback" not in said.stderr
    assert not (tmp_path / "state").exists()
    assert processes_of(tmp_path / "state") == []


def test_an_interrupted_start_leaves_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    starting = subprocess.Popen(
        [sys.executable, "-m", "motorcade.stack.cli", "up", "--state", str(state)],
        stderr=subprocess.PIPE,
    )
    until((state / "logs" / "registry.log").exists)
    starting.send_signal(signal.SIGINT)
    starting.communicate(timeout=60)
    assert starting.returncode != 0
    until(lambda: processes_of(state) == [])
    assert not (state / "stack.json").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: fleet\nsignals: [", "signals.yaml"),
        ("", "signals.yaml"),
    ],
)
def test_a_malformed_catalogue_is_named_before_anything_starts(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "signals.yaml").write_text(content)
    state = tmp_path / "state"
    said = motorcade("up", "--signals", str(tmp_path / "signals.yaml"), "--state", str(state))
    assert said.returncode == 1
    assert message in said.stderr
    assert "Traceback" not in said.stderr
    assert not state.exists()


def test_an_unknown_option_is_named(tmp_path: Path) -> None:
    said = motorcade("up", "--brokers", "mosquitto", "--state", str(tmp_path / "state"))
    assert said.returncode == 2
    assert "--brokers" in said.stderr
    assert not (tmp_path / "state").exists()


def test_up_starts_every_process_of_ours_and_down_ends_them(tmp_path: Path) -> None:
    state = ("--state", str(tmp_path / "state"))
    said = motorcade("up", "--json", *state, limit_s=300)
    assert said.returncode == 0, said.stderr
    folder = StateFolder(tmp_path / "state")
    try:
        running = json.loads(said.stdout)
        assert set(running["http"]) == set(MODULES)
        report = json.loads(motorcade("status", "--json", *state).stdout)
        assert {part["name"] for part in report["parts"]} >= set(MODULES)
        assert motorcade("dlq", *state, "list", "--json").stdout.strip() == "[]"
        before = pids(folder)
    finally:
        down = motorcade("down", *state)
    assert down.returncode == 0, down.stderr
    assert not any(alive(pid) for pid in before.values())
    assert not folder.path.exists()
    assert not folder.keeper.socket.exists()


async def test_the_stack_carries_a_message_on_artemis_where_mosquitto_is_missing(
    stack_settings: StackSettings, tmp_path: Path
) -> None:
    folder = await asyncio.to_thread(
        lambda: start(tmp_path / "state", stack_settings, broker="artemis")
    )
    try:
        assert folder.require().broker == "artemis"
    finally:
        await asyncio.to_thread(bringup.stop, folder)
