"""A scenario that is asked for while master and workers run: by form or by REST."""

from collections.abc import Mapping
from typing import Any

from motorcade.simulator.scenarios.document import ScenarioError
from motorcade.simulator.scenarios.events import StackEvent
from motorcade.simulator.scenarios.load import load_scenario, names
from motorcade.simulator.scenarios.model import Scenario
from motorcade.simulator.settings import SimulatorSettings

#: The choice of the form that plays none.
NONE = "none"
#: Fields of the form, and the key that each replaces; empty is the scenario's own value.
FIELDS: Mapping[str, str] = {
    "scenario_cars": "fleet.cars",
    "scenario_ramp": "ramp.per_s",
    "scenario_interval": "publish.interval_s",
    "scenario_qos": "publish.qos",
}
#: More replacements, "stages.0.seconds=30s; events=[]".
CHANGES = "scenario_set"
#: What workers were started with and cannot change: section, key, and the setting's name.
_FIXED = (
    ("publish", "qos", "qos"),
    ("publish", "payload", "payload"),
    ("publish", "batch", "batch"),
    ("publish", "topic_alias", "topic_alias"),
    ("publish", "in_flight", "in_flight"),
    ("publish", "buffer", "buffer"),
    ("publish", "messages", "messages"),
    ("fleet", "car", "car"),
    ("fleet", "seed", "seed"),
    ("fleet", "drives", "drives"),
    ("fleet", "signals", "signals"),
    ("mqtt", "session_expiry_s", "session_expiry_s"),
)


def overrides_of(form: Mapping[str, str]) -> list[str]:
    """What a form replaces in the scenario that it names."""
    changes = [f"{key}={form[field]}" for field, key in FIELDS.items() if form.get(field)]
    return changes + [one.strip() for one in form.get(CHANGES, "").split(";") if one.strip()]


def asked(form: Mapping[str, str], settings: SimulatorSettings) -> Scenario | None:
    """The scenario that a form asks for, with its changes; None when it asks for none.

    Without the field `scenario` it is the one that the master was started with, if any.

    Raises:
        ScenarioError: there is none of that name, a change is not understood, or it cannot be
            played by the workers that are there.
    """
    own = None if settings.scenario is None else load_scenario(str(settings.scenario))
    name = form.get("scenario") or (NONE if own is None else own.name)
    if name == NONE:
        return None
    of_runner = own is not None and name == own.name
    if not of_runner and name not in names():  # no file of this machine is read for a web page
        raise ScenarioError(f"There is no scenario {name!r}.", f"There are {', '.join(names())}.")
    source = str(settings.scenario) if of_runner else name
    scenario = load_scenario(source, overrides_of(form))
    fits(scenario, settings, of_runner=of_runner)
    return scenario


def fits(scenario: Scenario, settings: SimulatorSettings, *, of_runner: bool) -> None:
    """Whether the workers that run can play a scenario.

    Args:
        of_runner: `motorcade load` has started the master for it and does what a master cannot.

    Raises:
        ScenarioError: they cannot; tells why, and how it can be played.
    """
    load = f"motorcade load {scenario.name}"
    if scenario.fleet.cars > settings.cars:
        raise ScenarioError(
            f"fleet.cars is {scenario.fleet.cars:,}, but the workers were started for "
            f"{settings.cars:,}.",
            f"Ask for fewer, or start it with `{load}`.",
        )
    for section, key, name in _FIXED:
        part: Any = getattr(scenario, section)
        wanted, given = getattr(part, key), getattr(settings, name)
        if key in part.model_fields_set and wanted != given:
            raise ScenarioError(
                f"{section}.{key} is {wanted}, but the workers were started with {given}, and it "
                "cannot change while they run.",
                f"Start it with `{load} --set {section}.{key}={wanted}`.",
            )
    if of_runner:
        return
    if scenario.limit is not None:
        raise ScenarioError(
            f"{scenario.name} searches for a limit, which needs the whole pipeline in view.",
            f"Start it with `{load}`.",
        )
    if touched := sorted({e.what for e in scenario.events if isinstance(e, StackEvent)}):
        raise ScenarioError(
            f"{scenario.name} kills or stops parts of the stack ({', '.join(touched)}), which "
            "Locust's master cannot.",
            f"Start it with `{load}`.",
        )
