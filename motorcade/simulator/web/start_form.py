"""The form that starts a run in Locust's web UI: a scenario, and numbers to replace its own.

Locust sends the form to /swarm; without a scenario its own start goes on as ever. A running
scenario's cars and interval can be changed there too; what workers were started with cannot.
"""

from collections.abc import Callable
from typing import Any

from flask import Response, jsonify, request
from locust import events
from pydantic import ValidationError

from motorcade.fleet.errors import MotorcadeError, SettingsError
from motorcade.simulator.master_control import MasterControl
from motorcade.simulator.scenarios.document import ScenarioError
from motorcade.simulator.scenarios.load import load_scenario, names
from motorcade.simulator.scenarios.model import Scenario
from motorcade.simulator.scenarios.request import CHANGES, FIELDS, NONE, asked
from motorcade.simulator.scenarios.times import seconds
from motorcade.simulator.settings import SimulatorSettings

#: Fields that may change while cars run.
_LIVE = ("scenario_cars", "scenario_ramp", "scenario_interval")
_SWARM = ".swarm"


def add_fields(parser: Any) -> None:
    """Add the form's fields: Locust shows arguments of its command line as such."""
    try:
        own = SimulatorSettings().scenario
        chosen = NONE if own is None else load_scenario(str(own)).name
    except (ValidationError, MotorcadeError):  # the process says so when it begins, see locustfile
        chosen = NONE
    choices = [NONE, *sorted({*names(), chosen} - {NONE})]
    parser.add_argument(
        "--scenario",
        choices=choices,
        default=chosen,
        help=f"{NONE}: the users and the ramp above",
    )
    for name, words in (
        ("cars", "empty: the scenario's own"),
        ("ramp", "connects/s; empty: the scenario's own"),
        ("interval", "between two messages of a car: 5, 500ms; empty: the scenario's own"),
        ("qos", "0 or 1, as the workers were started; empty: the scenario's own"),
        ("set", "anything else: stages.0.seconds=30s; publish.batch=4"),
    ):
        parser.add_argument(f"--scenario-{name}", default="", help=words)


class StartForm:
    """Answers the form.

    Args:
        control: the master's.
        start: Locust's own answer to the form.
    """

    def __init__(self, control: MasterControl, start: Callable[[], Response]) -> None:
        self._control = control
        self._start = start

    def answer(self) -> Response:
        """Start the scenario that the form names, change the one that runs, or let Locust start."""
        try:
            playing = self._control.player.playing
            if playing is not None:
                return _done(self._change(playing))
            scenario = asked(request.form, self._control.settings)
            if scenario is None:
                return self._plain()
            self._control.play(scenario)
            return _done(f"Scenario {scenario.name} begins")
        except MotorcadeError as error:
            return _refused(str(error))

    def _plain(self) -> Response:
        interval = request.form.get("scenario_interval", "")
        if interval:
            self._control.set_interval(_number("scenario_interval", interval))
        if not self._control.running:
            self._control.player.forget()
            if not interval:
                self._control.set_interval(self._control.settings.interval_s)
        return self._start()

    def _change(self, playing: Scenario) -> str:
        form = request.form
        chosen = form.get("scenario", playing.name)
        if chosen != playing.name:
            raise ScenarioError(
                f"{playing.name} is being played.", "Stop it before you start more."
            )
        for field in {*FIELDS, CHANGES} - set(_LIVE):
            if form.get(field):
                raise ScenarioError(
                    f"{field} cannot change while {playing.name} is being played.",
                    "Stop it, and start it with the change.",
                )
        changes = {name: _number(name, form[name]) for name in _LIVE if form.get(name)}
        if not changes:
            raise ScenarioError(
                f"{playing.name} is being played.",
                "Its cars, ramp and interval can be changed in the fields below Custom parameters.",
            )
        return self._control.change(
            cars=changes.get("scenario_cars"),
            per_s=changes.get("scenario_ramp", playing.ramp.per_s),
            interval_s=changes.get("scenario_interval"),
        )


def add_start_form(web_ui: Any, control: MasterControl) -> None:
    """Put scenarios before Locust's own start."""
    views = web_ui.app.view_functions
    [name] = [one for one in views if one.endswith(_SWARM)]
    form = StartForm(control, views[name])
    views[name] = web_ui.auth_required_if_enabled(form.answer)


def _number(field: str, text: str) -> float:
    try:
        value = seconds(text)
    except ValueError as error:
        raise SettingsError(f"{field} is {text!r}; it {error}.") from error
    if not value > 0:
        raise SettingsError(f"{field} is {text!r}; it must be above 0.")
    return value


def _done(message: str) -> Response:
    return jsonify({"success": True, "message": message, "host": ""})


def _refused(message: str) -> Response:
    return jsonify({"success": False, "message": message, "host": ""})


events.init_command_line_parser.add_listener(add_fields)
