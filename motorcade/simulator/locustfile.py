"""What Locust loads: one user is one car.

    locust --locustfile motorcade/simulator/locustfile.py --master
    MOTORCADE_WORKER=0 locust --locustfile motorcade/simulator/locustfile.py --worker

Settings come from MOTORCADE_* variables, see `motorcade.simulator.settings`.
"""

import logging
import sys
from typing import Any

from locust import events, runners
from pydantic import ValidationError

from motorcade.fleet.errors import MotorcadeError
from motorcade.simulator.car_user import Car
from motorcade.simulator.master_control import MasterControl
from motorcade.simulator.settings import SimulatorSettings
from motorcade.simulator.web.control_api import control_api
from motorcade.simulator.web.fleet_tabs import add_tabs
from motorcade.simulator.web.start_form import add_start_form
from motorcade.simulator.worker_control import WorkerControl

_log = logging.getLogger(__name__)

# With Locust's own values a worker misses heartbeats while it spawns thousands of users, is taken
# for lost, and the run falls apart. A worker's death is noticed by its process, see MasterControl.
runners.HEARTBEAT_LIVENESS = 60
runners.MASTER_HEARTBEAT_TIMEOUT = 300
#: A missing worker is never forgotten: Locust would start the ramp again without it.
runners.HEARTBEAT_DEAD_INTERNAL = -sys.maxsize
#: The fleet's view is a second old at most, the number of users should not be older.
runners.WORKER_REPORT_INTERVAL = 1.0


def _begin(environment: Any, runner: Any, web_ui: Any, **_: Any) -> None:
    try:
        settings = SimulatorSettings()
        if isinstance(runner, runners.WorkerRunner):
            Car.control = WorkerControl(environment, settings)
        elif isinstance(runner, runners.MasterRunner):
            control = MasterControl(environment, settings)
            environment.host = _target(settings)
            if web_ui is not None:
                web_ui.app.register_blueprint(control_api(control))
                add_tabs(web_ui, control)
                add_start_form(web_ui, control)
        else:
            raise MotorcadeError(
                "The fleet needs a master and workers.",
                "Start Locust with --master, and workers with --worker.",
            )
    except ValidationError as error:
        _give_up(runner, "; ".join(_explain(problem) for problem in error.errors()))
    except MotorcadeError as error:
        _give_up(runner, str(error))


def _target(settings: SimulatorSettings) -> str:
    """What Locust shows as the host."""
    first, *others = settings.brokers
    scheme = "mqtt" if settings.mqtt_ca is None else "mqtts"
    return f"{scheme}://{first}" + (f" and {len(others)} more" if others else "")


def _explain(problem: Any) -> str:
    variable = "MOTORCADE_" + "_".join(str(part) for part in problem["loc"][:1]).upper()
    return f"{variable}={problem['input']!r}: {problem['msg']}"


def _give_up(runner: Any, reason: str) -> None:
    _log.error("The simulator cannot start: %s", reason)
    runner.quit()
    sys.exit(1)


events.init.add_listener(_begin)
