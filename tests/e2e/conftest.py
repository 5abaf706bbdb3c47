"""Recordings in the layout of the public data set, made by the tests themselves."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

DRIVES = 3
#: The header as the data set's logger writes it, and plausible values at some second.
RECORDED: dict[str, Callable[[int], float]] = {
    "ENGINE_RUN_TINE ()": lambda s: s,
    "ENGINE_RPM ()": lambda s: 1800 + 600 * math.sin(s / 17),
    "VEHICLE_SPEED ()": lambda s: 50 + 20 * math.sin(s / 17),
    "THROTTLE ()": lambda s: 30 + 10 * math.sin(s / 5),
    "ENGINE_LOAD ()": lambda s: 40 + 15 * math.sin(s / 7),
    "COOLANT_TEMPERATURE ()": lambda s: 88 + math.sin(s / 60),
    "INTAKE_AIR_TEMP ()": lambda _: 31,
    "CONTROL_MODULE_VOLTAGE ()": lambda s: 14 + 0.1 * math.sin(s / 9),
    "FUEL_TANK ()": lambda _: 60,
}


@pytest.fixture(scope="session")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of ten minutes each, one of them with its last line cut off."""
    folder = tmp_path_factory.mktemp("drives")
    for number in range(1, DRIVES + 1):
        lines = [",".join(RECORDED)]
        lines += [
            ",".join(f"{value(second + 100 * number):g}" for value in RECORDED.values())
            for second in range(600)
        ]
        text = "\n".join(lines) + ("\n601,18" if number == 1 else "\n")
        (folder / f"drive{number}.csv").write_text(text)
    return folder
