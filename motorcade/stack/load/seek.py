"""Drives a search for the limit on a running fleet: sets a load, lets it settle, judges it."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from motorcade.simulator.audit.verdict import Check, not_judged
from motorcade.simulator.scenarios.model import Limit, Scenario
from motorcade.stack.load.course import require_going_on, state_of
from motorcade.stack.load.limit import Ending, Phase, Search
from motorcade.stack.load.saturation import GENERATOR, Saturated, saturated
from motorcade.stack.load.watch import Watch
from motorcade.stack.load.window import Window
from motorcade.stack.pipeline import GROUPS
from motorcade.stack.screen import Stage
from motorcade.stack.simulation import Simulation

_POLL_S = 0.25
#: How late the generator may be where the scenario does not say: it is the level that judges it.
_GENERATOR_MS = 1000.0
#: Seconds that a step's cars may take to connect: at least, and as a multiple of what they should.
_CONNECT_S, _CONNECT_TIMES = 5.0, 3.0


@dataclass
class Seeker:
    """Searches.

    Args:
        scenario: has a limit.
        simulation: the fleet, ramped.
        watch: looks at the run, every second, by someone else's doing.
        brokers: the broker's programs.
        tell: shows what was found.
    """

    scenario: Scenario
    simulation: Simulation
    watch: Watch
    brokers: tuple[str, ...]
    tell: Callable[[str], None]
    #: What saturated at the step that broke.
    culprit: Saturated | None = None

    def __post_init__(self) -> None:
        wanted, publish = self._wanted, self.scenario.publish
        per_car = 1 / publish.interval_s
        cars = self.scenario.ramp_cars
        most = wanted.most_per_s
        if wanted.knob == "cars":
            most = min(most, self.scenario.fleet.cars * per_car)
        levels = {n: float(v) for n, v in wanted.service_levels if v is not None}
        generator = self.scenario.thresholds.generator_lag_p99_ms or _GENERATOR_MS
        self.search = Search(
            start=wanted.start_per_s or cars * per_car,
            factor=wanted.factor,
            highest=most,
            levels=levels,
            generator={"generator_lag_p99_ms": generator},
        )

    @property
    def _wanted(self) -> Limit:
        assert self.scenario.limit is not None
        return self.scenario.limit

    async def run(self, stage: Stage) -> None:
        """Hold loads until the search is done.

        Raises:
            StoppedByHandError: somebody stopped the cars.
        """
        while (load := self.search.load) is not None:
            confirming = self.search.phase is Phase.CONFIRM
            seconds = self._wanted.confirm_s if confirming else self._wanted.hold_s
            stage.detail = f"{'confirms' if confirming else 'tries'} {load:,.0f} messages/s"
            stage.total, stage.done = self._wanted.settle_s + seconds, 0.0
            await self._set(load)
            await self._wait(stage, self._wanted.settle_s)
            begins = len(self.watch.samples)
            await self._wait(stage, seconds)
            self._judge(Window(self.watch.samples[begins:], self.scenario.publish.qos), load)
        stage.detail = self.words

    @property
    def words(self) -> str:
        """What the search came to, in a sentence."""
        search = self.search
        confirmed = f"{search.confirmed or 0:,.0f} messages/s"
        return {
            Ending.FOUND: f"holds {confirmed}, confirmed",
            Ending.NOT_REACHED: f"holds {confirmed}, the most that was tried",
            Ending.NOTHING_HELD: "no load was held",
            Ending.GENERATOR: f"the generator fell behind; the target holds {confirmed} or more",
            None: "not over",
        }[search.ending]

    def checks(self) -> Iterator[Check]:
        """The search as checks of the run's verdict, and the levels that no step could observe."""
        ending = self.search.ending
        yield Check(
            "the limit",
            self.words,
            "found, or not reached",
            ending in {Ending.FOUND, Ending.NOT_REACHED},
            generator=ending in {Ending.GENERATOR, None},
        )
        observed = {name for step in self.search.steps for name in step.observed}
        for name, allowed in self.search.levels.items():
            if name not in observed:
                why = "no Kafka" if self.scenario.target.kafka == "none" else "no pipeline of ours"
                if name == "due_to_puback_p99_ms":
                    why = "nothing is acknowledged at QoS 0"
                yield not_judged(f"service level {name}", f"≤ {allowed:g}", why)

    def _judge(self, window: Window, load: float) -> None:
        step = self.search.take(window.observed(load), window.offered, window.uncertain)
        if step.held:
            self.tell(f"{load:,.0f} messages/s: held, {window.offered:,.0f}/s on the wire")
            return
        worst = step.broken[0]
        self.tell(
            f"{load:,.0f} messages/s: {worst.level} is {worst.observed:,.4g}, "
            f"{worst.allowed:g} is allowed"
        )
        if self.search.ending is Ending.GENERATOR:
            self.culprit = Saturated(GENERATOR, (f"{worst.level} is {worst.observed:,.4g}",))
        elif self.culprit is None:
            self.culprit = saturated(window.load(), self.brokers, tuple(GROUPS))
            self.tell(f"saturated: {self.culprit.component}")

    async def _set(self, load: float) -> None:
        """Have the fleet make a load."""
        per_s = self.scenario.ramp.per_s
        if self._wanted.knob == "interval":
            interval_s = self.watch.samples[-1].connected / load
            await self.simulation.begin({"kind": "pace", "interval_s": interval_s})
            return
        cars = max(1, round(load * self.scenario.publish.interval_s))
        await self.simulation.resize(cars, per_s)
        deadline = time.monotonic() + _CONNECT_S + _CONNECT_TIMES * cars / per_s
        while self.watch.samples[-1].connected < cars and time.monotonic() < deadline:
            require_going_on(state_of(self.watch.samples[-1]))
            await asyncio.sleep(_POLL_S)

    async def _wait(self, stage: Stage, seconds: float) -> None:
        began, done = time.monotonic(), stage.done
        looks = len(self.watch.samples)
        # A stretch needs two looks, also when each takes long.
        while time.monotonic() - began < seconds or len(self.watch.samples) < looks + 2:
            require_going_on(state_of(self.watch.samples[-1]))
            stage.done = done + time.monotonic() - began
            await asyncio.sleep(_POLL_S)
