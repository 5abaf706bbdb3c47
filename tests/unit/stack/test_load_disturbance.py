"""Which restarts a run's own events ask for."""

from types import SimpleNamespace
from typing import Any

from motorcade.simulator.scenarios.events import Drop, Kill
from motorcade.stack.load.disturbance import Disturber


def test_only_a_kill_that_keeps_nothing_down_asks_for_a_restart() -> None:
    keeper: Any = SimpleNamespace(statuses=lambda: [SimpleNamespace(name="bridge")])
    disturber = Disturber(keeper, ("mosquitto-0", "mosquitto-1"), print)

    def kill(what: str, **more: Any) -> Kill:
        return Kill.model_validate({"at": 0, "kind": "kill", "what": what, **more})

    events = [
        kill("bridge"),
        kill("bridge"),
        kill("broker"),
        kill("broker-node", node=2, seconds=15),
        Drop.model_validate({"at": 0, "kind": "drop"}),
    ]
    asked = disturber.asked_restarts(events)
    assert asked == {"bridge": 2, "mosquitto-0": 1, "mosquitto-1": 1}
