"""Plays a scenario inside Locust's master: a greenlet that follows the timeline."""

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

import gevent

from motorcade.fleet.errors import MotorcadeError
from motorcade.simulator.scenarios.model import Scenario
from motorcade.simulator.scenarios.timeline import Happen, Interval, Resize, Timeline

_log = logging.getLogger(__name__)

_STEP_S = 0.1


class Fleet(Protocol):
    """What the player does things with."""

    @property
    def connected(self) -> int:
        """Cars that are connected."""

    def set_interval(self, seconds: float) -> None:
        """Have all cars publish at this interval."""

    def happen(self, body: dict[str, Any]) -> object:
        """Let an event happen to the fleet; raises MotorcadeError when it cannot."""

    def failed(self, what: str) -> None:
        """Something of the scenario could not be done."""


class ScenarioPlayer:
    """Plays one scenario at a time.

    Args:
        runner: Locust's master runner.
        fleet: the master's hold on the cars.
        ended: called, in a greenlet of its own, when a scenario is over.
    """

    def __init__(self, runner: Any, fleet: Fleet, ended: Callable[[], None]) -> None:
        self._runner = runner
        self._fleet = fleet
        self._ended = ended
        self._timeline: Timeline | None = None
        self._playing: Any = None
        self._ramp: Any = None

    @property
    def playing(self) -> Scenario | None:
        """The scenario that is played at this moment."""
        timeline = self._timeline
        return None if timeline is None or not self._playing else timeline.scenario

    @property
    def last(self) -> Scenario | None:
        """The scenario that is played, or was played last."""
        return None if self._timeline is None else self._timeline.scenario

    def play(self, scenario: Scenario) -> None:
        """Begin a scenario.

        Raises:
            MotorcadeError: another one is being played.
        """
        if self.playing is not None:
            raise MotorcadeError(f"{self.playing.name} is being played.", "Stop it first.")
        self._timeline = Timeline(scenario, _wall_ms())
        self._playing = gevent.spawn(self._play, self._timeline)

    def forget(self) -> None:
        """A run without a scenario begins: what was played before is over and done with."""
        self._timeline = None

    def halt(self) -> None:
        """The run was stopped: stop playing."""
        if self._timeline is not None:
            self._timeline.stop(_wall_ms())
        for greenlet in (self._playing, self._ramp):
            if greenlet is not None and greenlet is not gevent.getcurrent():
                greenlet.kill(block=True)
        self._playing = self._ramp = None

    def resize(self, cars: int, per_s: float) -> None:
        """Ramp the fleet to a number of cars; what was being ramped before is given up."""
        if self._ramp is not None:
            self._ramp.kill(block=True)
        self._ramp = gevent.spawn(self._runner.start, cars, per_s)

    def state(self) -> dict[str, Any] | None:
        """Where the scenario stands; None when none was played."""
        return None if self._timeline is None else self._timeline.state(_wall_ms())

    def _play(self, timeline: Timeline) -> None:
        _log.info("scenario %s begins", timeline.scenario.name)
        while not timeline.done:
            for action in timeline.step(_wall_ms(), self._fleet.connected):
                match action:
                    case Resize(cars, per_s):
                        self.resize(cars, per_s)
                    case Interval(seconds):
                        self._fleet.set_interval(seconds)
                    case Happen(body):
                        self._happen(body)
            gevent.sleep(_STEP_S)
        _log.info("scenario %s is over", timeline.scenario.name)
        self._playing = None
        gevent.spawn(self._ended)

    def _happen(self, body: dict[str, Any]) -> None:
        try:
            self._fleet.happen(body)
        except MotorcadeError as error:
            _log.error("%s did not happen: %s", body["kind"], error)
            self._fleet.failed(f"{body['kind']} did not happen: {error}")


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
