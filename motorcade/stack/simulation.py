"""Starts the simulator on a running stack and talks to its master over HTTP."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from motorcade.fleet.errors import MotorcadeError
from motorcade.simulator.commands import master_argv, master_env, worker_argv, worker_env
from motorcade.simulator.settings import SimulatorSettings
from motorcade.stack.brokers.security import issue_cars
from motorcade.stack.errors import StackError
from motorcade.stack.keeper import LOGGED, Keeper
from motorcade.stack.program import Program

_PREFIX = "locust-"
MASTER = f"{_PREFIX}master"
_WORKER = f"{_PREFIX}worker-{{}}"
#: Workers step back for the broker, the bridge and Kafka: a ramp is as fast as these take it.
_WORKER_NICE = 3
#: Seconds until master and workers must be there: side by side on few cores, one after the other.
_READY_S, _WORKER_READY_S = 60, 10
#: Seconds that a stop may take, and cars that at least stop in each.
_STOP_S, _STOPPED_PER_S = 60, 500
_POLL_S = 0.25
#: Processes that ended this often while they were being started are not going to start.
_CRASHES_AT_START = 3


@dataclass(frozen=True)
class Simulation:
    """The simulator's processes of one run.

    Args:
        settings: what they all read.
        keeper: what keeps them running.
    """

    settings: SimulatorSettings
    keeper: Keeper

    @property
    def web_url(self) -> str:
        """Address of the Locust UI."""
        return f"http://{self.settings.web_host}:{self.settings.web_port}"

    @property
    def programs(self) -> list[str]:
        """Names of the processes, master first."""
        return [MASTER, *(_WORKER.format(n) for n in range(self.settings.workers))]

    async def start(self) -> None:
        """Start master and workers; returns when every worker has come.

        Raises:
            StackError: they are not ready in time; quotes the log.
        """
        settings = self.settings
        settings.run_dir.mkdir(parents=True, exist_ok=True)
        self.remove()  # what a run that was killed may have left
        await asyncio.to_thread(issue_cars, settings)
        self.keeper.add(Program(MASTER, tuple(master_argv(settings)), master_env(settings)))
        for index in range(settings.workers):
            argv = tuple(worker_argv(settings))
            name = _WORKER.format(index)
            self.keeper.add(Program(name, argv, worker_env(settings, index), nice=_WORKER_NICE))
        patience_s = _READY_S + _WORKER_READY_S * settings.workers
        began = time.strftime(LOGGED)
        deadline = time.monotonic() + patience_s
        while not await self._is_ready():
            ends = [crash for crash in self.keeper.restarts() if crash.when >= began]
            if len(ends) >= _CRASHES_AT_START:
                name = ends[-1].name
                raise StackError(
                    f"{name} does not start ({ends[-1].how}). It said: "
                    f"{self.keeper.last_words(name, 1) or 'nothing'}",
                    f"Its log is {self.keeper.log_path(name)}.",
                )
            if time.monotonic() > deadline:
                raise StackError(
                    f"The simulator is not ready after {patience_s} s. It said: "
                    f"{self.keeper.last_words(MASTER, 1)}",
                    f"Its logs: {', '.join(str(self.keeper.log_path(p)) for p in self.programs)}.",
                )
            await asyncio.sleep(_POLL_S)

    def remove(self) -> None:
        """End all processes of a simulator; their logs stay."""
        ours = [one.name for one in self.keeper.statuses() if one.name.startswith(_PREFIX)]
        # Workers first: they end with their master, and would be started again.
        for name in sorted(ours, key=lambda name: name == MASTER):
            self.keeper.remove(name)

    async def ramp(self, cars: int, per_s: float) -> None:
        """Ramp the fleet to a number of cars."""
        form = {"user_count": str(cars), "spawn_rate": f"{per_s:g}"}
        answer = await self._ask("POST", "/swarm", data=form)
        if not answer.get("success"):
            raise StackError(f"Locust did not start the fleet: {answer.get('message')}.")

    async def resize(self, cars: int, per_s: float) -> None:
        """Change the number of cars while a scenario is played."""
        form = {"scenario_cars": str(cars), "scenario_ramp": f"{per_s:g}"}
        answer = await self._ask("POST", "/swarm", data=form)
        if not answer.get("success"):
            raise StackError(f"The fleet was not changed: {answer.get('message')}")

    async def stop_fleet(self) -> None:
        """Stop all cars; returns when each has sent what it held and gone.

        Raises:
            StackError: cars are still there long after.
        """
        await self._ask("POST", "/stop")
        patience_s = _STOP_S + self.settings.cars / _STOPPED_PER_S
        deadline = time.monotonic() + patience_s
        while not (await self.fleet())["stopped"]:
            if time.monotonic() > deadline:
                raise StackError(
                    f"Cars still run {patience_s:.0f} s after the stop.",
                    f"See {self.keeper.log_path(MASTER)}.",
                )
            await asyncio.sleep(_POLL_S)

    async def fleet(self) -> dict[str, Any]:
        """State of the fleet."""
        answer = await self._ask("GET", "/motorcade/fleet")
        assert isinstance(answer, dict)
        return answer

    async def begin(self, event: Mapping[str, Any]) -> None:
        """Let a fleet event begin: {"kind": "pace", "interval_s": 2.0} and the like."""
        await self._ask("POST", "/motorcade/events", json=dict(event))

    async def write_ledgers(self) -> None:
        """Have every worker write its ledger."""
        await self._ask("POST", "/motorcade/ledger")

    async def begin_wear(
        self, count: int, kinds: Sequence[str], duration_s: float, spread_s: float
    ) -> list[dict[str, Any]]:
        """Let wear begin in cars of the master's choice; event-time seconds to the failure."""
        request = {
            "count": count,
            "kinds": list(kinds),
            "duration_s": duration_s,
            "spread_s": spread_s,
        }
        answer = await self._ask("POST", "/motorcade/faults", json=request)
        assert isinstance(answer, list)
        return answer

    async def _is_ready(self) -> bool:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
                session.get(f"{self.web_url}/readyz") as response,
            ):
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
                session.request(method, self.web_url + path, **options) as response,
            ):
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise MotorcadeError(
                f"The simulator does not answer {method} {path}: {error!r}.",
                f"See {self.keeper.log_path(MASTER)}.",
            ) from error
        if response.status >= 400:
            raise MotorcadeError(f"{path}: {answer.get('problem')}", answer.get("remedy", ""))
        return answer
