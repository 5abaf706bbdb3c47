"""The training command reads moments as people write them."""

import subprocess
import sys

import pytest

from motorcade.fleet.errors import SettingsError
from motorcade.ml.models.catalogue import ARCHITECTURES
from motorcade.ml.retraining.journal import Plan
from motorcade.ml.training.run import Request
from motorcade.stack.train_cli import HORIZON, _settings, app, moment_ms, span_ms

NOW_MS = 1_770_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOW_MS - 90_000),
        ("10m", NOW_MS - 600_000),
        ("1.5h", NOW_MS - 5_400_000),
        ("1d", NOW_MS - 86_400_000),
        ("2026-02-02T02:40:00+00:00", NOW_MS),
        ("", None),
    ],
)
def test_a_moment_is_a_time_ago_or_an_iso_time(text: str, expected: int | None) -> None:
    assert moment_ms(text, NOW_MS, "--since") == expected


def test_what_is_neither_is_refused_with_the_options_name() -> None:
    with pytest.raises(SettingsError, match="--since='yesterday' is neither"):
        moment_ms("yesterday", NOW_MS, "--since")


def test_only_training_and_scoring_import_tensorflow() -> None:
    code = (
        "import sys, motorcade.stack.train_cli, motorcade.ml.scoring.process,"
        " motorcade.ml.training.run;"
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_commands_and_code_have_one_horizon() -> None:
    horizon_ms = span_ms(HORIZON, "--horizon")
    assert horizon_ms == Request().horizon_ms == Plan(("pca",)).horizon_ms


def test_every_architecture_has_its_command() -> None:
    assert {command.name for command in app.registered_commands} == set(ARCHITECTURES)


def test_a_setting_is_a_number_where_it_is_one() -> None:
    assert _settings(["learning_rate=1e-3", "loss=huber"]) == {
        "learning_rate": 0.001,
        "loss": "huber",
    }
    with pytest.raises(SettingsError, match="--set='depth' is not NAME=VALUE"):
        _settings(["depth"])
