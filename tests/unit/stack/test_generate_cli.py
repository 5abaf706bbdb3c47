"""What `motorcade generate` refuses, and that it says why."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from motorcade.fleet.errors import MotorcadeError
from motorcade.stack.commands import app

NOWHERE = ("--kafka", "127.0.0.1:1")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--hours", "1"), "No stack runs in"),
        (NOWHERE, "a time to drive in"),
        ((*NOWHERE, "--hours", "1", "--start", "2199-01-01"), "ahead of the run's clock"),
        ((*NOWHERE, "--hours", "1", "--start", "noon"), "'noon' is not a date"),
        ((*NOWHERE, "--hours", "9", "--faults", "1", "--kinds", "rust"), "--kinds rust"),
        ((*NOWHERE, "--hours", "9", "--faults", "9", "--cars", "3"), "9 faults were asked for"),
        ((*NOWHERE, "--hours", "1", "--faults", "1"), "A fault takes 240 min"),
        ((*NOWHERE, "--hours", "9", "--faults", "1", "--car", "demo"), "cars do not wear"),
        ((*NOWHERE, "--hours", "1", "--car", "boat"), "--car boat is not known"),
        ((*NOWHERE, "--hours", "1", "--payload", "xml"), "--payload xml is not known"),
        ((*NOWHERE, "--hours", "1", "--drives", "nowhere"), "nowhere is not a folder"),
        ((*NOWHERE, "--hours", "0.1", "--cars", "2"), "Kafka does not answer at 127.0.0.1:1"),
    ],
)
def test_it_says_why_it_cannot(
    options: tuple[str, ...], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOTORCADE_KAFKA", raising=False)
    arguments = ["generate", "--state", str(tmp_path / "none"), "--processes", "1", *options]
    found = CliRunner().invoke(app, arguments)
    assert isinstance(found.exception, MotorcadeError), found.output
    with pytest.raises(MotorcadeError, match=reason):
        raise found.exception
