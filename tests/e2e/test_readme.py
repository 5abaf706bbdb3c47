"""Every command of the README runs, in the README's own words."""

import asyncio
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from motorcade.fleet.vin import generate_vin
from motorcade.simulator.settings import SimulatorSettings
from motorcade.stack import plan
from motorcade.stack.ports import free_ports
from motorcade.stack.simulation import Simulation
from motorcade.stack.state import StateFolder

from .driven import left_running

ROOT = Path(__file__).parents[2]
CARS = 60
SEED = 1
_BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
#: The commands that need a whole run of their own: test_demo runs the first, and this suite is the
#: second.
ELSEWHERE = ("scripts/run", "scripts/test")

#: What a load run ends with; beside other tests the machine may be too busy for its thresholds.
VERDICTS = (0, 2, 3)
#: Nothing has drifted, or something has.
DRIFT = (0, 2)

pytestmark = pytest.mark.timeout(420)


def commands() -> list[str]:
    """Every command in the README's shell blocks, without its comment."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = [line for block in _BLOCK.findall(text) for line in block.splitlines()]
    found = [line.split("#")[0].strip() for line in lines]
    return [command for command in found if command and command not in ELSEWHERE]


def run(command: str, state: Path) -> subprocess.CompletedProcess[str]:
    """A command as it stands, but for the car's name and for where files are written."""
    command = command.replace("VIN", generate_vin(SEED, 7))
    for name in ("a.json", "a.html", "b.json", "models.html", "drift.json"):
        command = command.replace(name, str(state.parent / name))
    return subprocess.run(
        shlex.split(command),
        cwd=ROOT,
        env={**os.environ, "MOTORCADE_STATE": str(state)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "state"
    run("scripts/run down", tmp_path / "state")


async def drive(folder: StateFolder) -> None:
    """Let a few cars send what a model needs to be learnt from."""
    running = folder.require()
    web, master = free_ports(2)
    values = {
        name.removeprefix("MOTORCADE_").lower(): value
        for name, value in plan.environment(running, folder).items()
    }
    settings = SimulatorSettings.model_validate(
        {
            **values,
            "cars": CARS,
            "interval_s": 0.25,
            "seed": SEED,
            "run_dir": folder.data / "run",
            "web_port": web,
            "master_port": master,
        }
    )
    simulation = Simulation(settings, folder.keeper)
    await simulation.start()
    await simulation.ramp(CARS, 100)
    while (await simulation.fleet())["acked"] < 60 * CARS:
        await asyncio.sleep(0.2)
    await simulation.stop_fleet()


def test_every_command_of_the_readme_runs(state: Path, tmp_path: Path) -> None:
    wanted = commands()
    ran: list[str] = []

    def must_run(command: str, codes: tuple[int, ...] = (0,)) -> None:
        assert command in wanted, f"the README no longer says {command!r}"
        done = run(command, state)
        assert done.returncode in codes, f"{command}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        ran.append(command)

    must_run("scripts/run --help")
    must_run("scripts/run scenarios")
    must_run("scripts/run size --cars 1000000")
    must_run("scripts/run up")
    loads = [command for command in wanted if command.startswith("scripts/run load ")]
    for load in loads:
        must_run(load, VERDICTS)
    must_run("scripts/run compare a.json b.json")
    learning = [command for command in wanted if "week-1" in command]
    for command in [one for one in wanted if one.startswith("scripts/run generate ")] + learning:
        must_run(command)
    must_run("scripts/run models list")
    asyncio.run(drive(StateFolder(state)))
    must_run("scripts/run drift --json drift.json", DRIFT)
    must_run("scripts/run status")
    must_run("scripts/run twin show VIN")
    must_run("scripts/run dlq list")
    must_run("scripts/run logs bridge")
    must_run("scripts/run train autoencoder")
    must_run("scripts/run down")
    assert sorted(ran) == sorted(wanted)
    assert left_running(tmp_path) == []
    assert not state.exists()
