"""Settings that cannot be end in one clear message, a non-zero exit and nothing left running."""

import os
import socket
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from .driven import left_running, motorcade

_CATALOGUE = files("motorcade.fleet") / "signals.yaml"


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """Runs a command that must be refused; returns what it said."""

    def run(*arguments: str, code: int = 1) -> str:
        said = motorcade(*arguments, "--state", str(tmp_path / "state"))
        assert said.returncode == code, said.stdout + said.stderr
        assert "Traceback" not in said.stdout + said.stderr
        assert left_running(tmp_path) == []
        assert not (tmp_path / "state").exists()
        return said.stderr.strip()

    return run


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def _one_line(said: str) -> str:
    lines = said.splitlines()
    assert len(lines) == 1, said
    assert lines[0].startswith("Error:")
    return lines[0]


def test_an_unknown_option_is_named(refused: Callable[..., str]) -> None:
    assert "No such option: --carz" in refused("demo", "--carz=5", code=2)


def test_a_word_where_a_number_belongs_is_named(refused: Callable[..., str]) -> None:
    assert "Invalid value for '--cars'" in refused("demo", "--cars=many", code=2)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--faulty=8", "--faulty 8 cannot be met by 5 cars"),
        ("--interval=0", "--interval must be above 0, not 0"),
        ("--speedup=-1", "--speedup must be above 0, not -1"),
        ("--drives=/nowhere", "--drives /nowhere is not a folder"),
        ("--broker=rabbit", "--broker rabbit is not known"),
        ("--broker=external", "--broker external and --broker-url belong together"),
    ],
)
def test_a_value_that_cannot_be_is_named(
    refused: Callable[..., str], option: str, message: str
) -> None:
    options = {"--cars": "--cars=5", "--faulty": "--faulty=0"}
    options[option.partition("=")[0]] = option
    assert message in _one_line(refused("demo", *options.values()))


def test_a_taken_port_of_the_web_ui_is_named_with_its_holder_before_anything_starts(
    refused: Callable[..., str], taken_port: int
) -> None:
    said = _one_line(refused("demo", f"--web-port={taken_port}"))
    assert f"port {taken_port} on 127.0.0.1 is in use by" in said
    assert f"(pid {os.getpid()})" in said
    assert "another --web-port" in said


def test_a_folder_without_recordings_is_named_before_anything_starts(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    said = _one_line(refused("demo", f"--drives={tmp_path / 'empty'}"))
    assert f"{tmp_path / 'empty'} holds no *.csv" in said


def test_recordings_that_leave_too_few_cars_to_wear_are_named_before_anything_starts(
    refused: Callable[..., str], drives: Path
) -> None:
    said = _one_line(refused("demo", "--cars=5", "--faulty=3", f"--drives={drives}"))
    assert "--faulty 3 cannot be met: 3 of 5 cars replay recordings" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda signals: signals.append(signals[0]), "twice"),
        (lambda signals: signals[0].pop("unit"), "unit"),
    ],
)
def test_a_catalogue_with_a_mistake_is_named_with_the_signal(
    refused: Callable[..., str],
    tmp_path: Path,
    change: Callable[[list[dict[str, Any]]], object],
    message: str,
) -> None:
    catalogue = yaml.safe_load(_CATALOGUE.read_text("utf-8"))
    change(catalogue["signals"])
    path = tmp_path / "signals.yaml"
    path.write_text(yaml.safe_dump(catalogue))
    said = _one_line(refused("up", f"--signals={path}"))
    assert str(path) in said
    assert message in said


def test_a_catalogue_that_is_not_there_is_named(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "signals.yaml"
    assert str(path) in _one_line(refused("up", f"--signals={path}"))


def test_credentials_that_are_not_there_are_named(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "credentials.yaml"
    said = _one_line(
        refused(
            "up",
            "--broker=external",
            "--broker-url=mqtt://127.0.0.1:1",
            f"--broker-credentials={path}",
        )
    )
    assert str(path) in said
