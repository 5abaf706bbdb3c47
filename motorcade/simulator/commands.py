"""Command lines and environments of the simulator's processes, for whoever starts them."""

import sys
from pathlib import Path

from motorcade.simulator.settings import SimulatorSettings

_LOCUSTFILE = Path(__file__).with_name("locustfile.py")


def master_argv(
    settings: SimulatorSettings, *, autostart: bool = False, headless: bool = False
) -> list[str]:
    """Locust's master with its web UI; `autostart` ramps the declared fleet once workers are there.

    Headless there is no web UI, and with it no control over REST.
    """
    argv = [
        *_locust(settings),
        "--master",
        f"--master-bind-host={settings.master_host}",
        f"--master-bind-port={settings.master_port}",
        f"--expect-workers={settings.workers}",
        f"--users={settings.cars}",
        f"--spawn-rate={settings.ramp_per_s:g}",
    ]
    if headless:
        return [*argv, "--headless", "--only-summary"]
    argv += [f"--web-host={settings.web_host}", f"--web-port={settings.web_port}"]
    return [*argv, "--autostart"] if autostart else argv


def worker_argv(settings: SimulatorSettings) -> list[str]:
    """One of Locust's workers; its number comes with its environment."""
    return [
        *_locust(settings),
        "--worker",
        f"--master-host={settings.master_host}",
        f"--master-port={settings.master_port}",
    ]


def master_env(settings: SimulatorSettings) -> dict[str, str]:
    """What the master reads from its environment."""
    return settings.environment()


def worker_env(settings: SimulatorSettings, index: int) -> dict[str, str]:
    """What worker `index` (0 to workers-1) reads from its environment.

    A worker's work is done by its own event loop, so it runs without gevent's patches, which cost
    latency. The master needs them: it waits for its workers with a blocking sleep.
    """
    worker = settings.model_copy(update={"worker": index})
    return {**worker.environment(), "LOCUST_SKIP_MONKEY_PATCH": "1"}


def _locust(settings: SimulatorSettings) -> list[str]:
    level = settings.log_level.upper()
    return [sys.executable, "-m", "locust", "--locustfile", str(_LOCUSTFILE), f"--loglevel={level}"]
