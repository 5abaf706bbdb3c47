"""Our own long-running processes: what each is called, where it lives, how it is run and probed."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import ValidationError

from motorcade.fleet.errors import SettingsError
from motorcade.stack.ports import LOOPBACK
from motorcade.stack.program import Program

#: Module of each process. A module has a `Settings` class, read from MOTORCADE_* variables, and
#: `main(settings)`, which returns after SIGTERM.
MODULES: Mapping[str, str] = {
    "bridge": "motorcade.streaming.bridge",
    "refine": "motorcade.streaming.refine",
    "twin": "motorcade.streaming.twin",
    "score": "motorcade.ml.scoring.process",
    "alerts": "motorcade.streaming.alerts",
    "dispatch": "motorcade.streaming.dispatch",
}

#: How far each process steps back where the cores are full. What carries messages (broker, bridge,
#: Kafka: 0) comes before what works on them, which catches up from Kafka; the twin is asked last.
NICE: Mapping[str, int] = {"refine": 2, "score": 5, "alerts": 5, "dispatch": 5, "twin": 10}


def run(name: str) -> None:
    """Runs a process of ours until SIGTERM, configured by its environment.

    Raises:
        SettingsError: a variable is missing or has a value that cannot be; names it.
    """
    module: Any = importlib.import_module(MODULES[name])
    try:
        settings = module.Settings()
    except ValidationError as error:
        first = error.errors()[0]
        variable = "MOTORCADE_" + "_".join(str(part) for part in first["loc"]).upper()
        raise SettingsError(
            f"{variable}: {first['msg']} (it is {first['input']!r}).",
            f"`motorcade {name} --help` lists the variables.",
        ) from error
    module.main(settings)


def describe(name: str) -> list[tuple[str, str]]:
    """Every variable a process reads, with its default."""
    settings: Any = importlib.import_module(MODULES[name]).Settings
    return [
        (f"MOTORCADE_{field.upper()}", repr(info.get_default(call_default_factory=True)))
        for field, info in settings.model_fields.items()
    ]


def program(name: str, environment: Mapping[str, str], folder: Path) -> Program:
    """The program that runs a process of ours."""
    return Program(
        name=name,
        argv=(sys.executable, "-m", "motorcade.stack.cli", name),
        env=environment,
        cwd=folder,
        stop_s=30,
        nice=NICE.get(name, 0),
    )


async def waiting_for(port: int, patience_s: float = 5.0) -> list[str]:
    """What a process still waits for before it is ready; empty when it is ready."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=patience_s)) as session,
            session.get(f"http://{LOOPBACK}:{port}/readyz") as response,
        ):
            if response.status == 200:
                return []
            document = await response.json()
            return [str(part) for part in document.get("waiting_for", ())] or ["readiness"]
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return ["start"]
