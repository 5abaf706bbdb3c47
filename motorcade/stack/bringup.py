"""Starts a whole stack: servers side by side, then topics and schemas, then our processes."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.errors import MotorcadeError, UnreachableError
from motorcade.stack import (
    archives,
    checks,
    processes,
    schemas,
    topics,
)
from motorcade.stack import (
    kafka as kafka_server,
)
from motorcade.stack import (
    plan as planning,
)
from motorcade.stack import (
    registry as registry_server,
)
from motorcade.stack.archives import OnBytes
from motorcade.stack.errors import StackError
from motorcade.stack.options import StackOptions
from motorcade.stack.plan import Plan
from motorcade.stack.settings import StackSettings
from motorcade.stack.state import StackState, StateFolder

Phase = Literal["waiting", "starting", "ready", "failed"]

#: Tens of times what an idle machine takes: a busy one shall still get there.
_READY_S = 180
_POLL_S = 0.1
#: A program that ended this often while it was being started is not going to start.
_CRASHES_AT_START = 2


@dataclass(frozen=True)
class PartUpdate:
    """What a part of the stack is doing.

    Args:
        name: the part: a server, "topics", "schemas", or a process of ours.
        phase: how far it is.
        seconds: how long it has been starting.
        detail: an address, or what it waits for.
    """

    name: str
    phase: Phase
    seconds: float = 0.0
    detail: str = ""


OnUpdate = Callable[[PartUpdate], None]


def _silent(_: PartUpdate) -> None:
    pass


async def start(
    options: StackOptions,
    settings: StackSettings,
    on_update: OnUpdate = _silent,
    on_bytes: OnBytes = lambda _name, _count: None,
) -> StackState:
    """Brings a stack up and returns when every part is truly ready.

    Args:
        options: how it is to be.
        settings: where archives are cached and fetched from.
        on_update: told of every part's progress.
        on_bytes: told of every piece of an archive that arrives.

    Raises:
        MotorcadeError: it cannot be; nothing is left running. Logs of what had started stay in
            the state folder's `logs` until the next start.
    """
    folder = StateFolder(options.state)
    if folder.load() is not None:
        raise StackError(
            f"a stack already runs in {folder.path}.",
            "See it with `motorcade status`, stop it with `motorcade down`, or start another one "
            "with --state.",
        )
    load_catalogue(options.signals)
    checks.require(
        checks.check(
            folder.path,
            cars=options.cars,
            broker_nodes=options.broker_nodes,
            load_workers=options.load_workers,
        )
    )
    checks.raise_descriptor_limit()
    homes = await asyncio.to_thread(
        archives.ensure, planning.needed_archives(options), settings, on_bytes
    )
    had_data = folder.data.exists()
    folder.keeper.shut_down()  # what a stack that crashed may have left
    folder.remove(keep_data=True)
    _make_folders(folder)
    try:
        plan = planning.make(options, folder, homes)
        folder.keeper.start(tied=options.tied)
        folder.save(plan.state)
        await _start_parts(plan, on_update)
    except BaseException as error:
        stop(folder, keep_data=had_data, keep_logs=True)
        if isinstance(error, BaseExceptionGroup):
            raise error.exceptions[0] from None
        raise
    return plan.state


def stop(folder: StateFolder, *, keep_data: bool = False, keep_logs: bool = False) -> None:
    """Stops a stack, our processes before the servers they drain into, and removes its folder."""
    folder.keeper.shut_down(first=tuple(processes.MODULES))
    folder.remove(keep_data=keep_data, keep_logs=keep_logs)


def _make_folders(folder: StateFolder) -> None:
    try:
        folder.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        planning.process_data(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(
            f"the state folder {folder.path} cannot be made: {error.strerror}.",
            "Name another one with --state.",
        ) from error


async def _start_parts(plan: Plan, on_update: OnUpdate) -> None:
    part = _Parts(plan, on_update)
    for name in part.names():
        on_update(PartUpdate(name, "waiting"))
    async with asyncio.TaskGroup() as group:
        broker = group.create_task(part.broker())
        kafka = group.create_task(part.kafka())
        registry = group.create_task(part.registry())
        made = group.create_task(part.after([kafka], part.topics))
        registered = group.create_task(part.after([registry], part.schemas))
        for name in plan.options.processes:
            needs = [made, registered, broker]
            group.create_task(part.after(needs, partial(part.process, name)))


@dataclass(frozen=True)
class _Parts:
    """The parts of one plan, each a coroutine that returns when the part is ready."""

    plan: Plan
    on_update: OnUpdate

    def names(self) -> list[str]:
        servers = ("kafka", "registry", self.plan.broker.name)
        return [*servers, "topics", "schemas", *self.plan.options.processes]

    async def after(
        self, needs: list[asyncio.Task[None]], start: Callable[[], Awaitable[None]]
    ) -> None:
        if needs:
            await asyncio.wait(needs)
        if any(need.cancelled() or need.exception() for need in needs):
            return  # the task group ends with what made it fail
        await start()

    async def kafka(self) -> None:
        bootstrap, access = self.plan.state.kafka, self.plan.kafka_access
        with self._reported("kafka", bootstrap):
            if self.plan.kafka is None:
                await self._external(
                    lambda: kafka_server.ready(bootstrap, access), f"Kafka at {bootstrap}"
                )
                return
            await self.plan.kafka.prepare()
            self.plan.folder.keeper.add(self.plan.kafka.program())
            await self._until_ready(["kafka"], lambda: kafka_server.ready(bootstrap))

    async def registry(self) -> None:
        registry = self.plan.registry
        with self._reported("registry", registry.url):
            self.plan.folder.keeper.add(registry.program())
            await self._until_ready(["registry"], lambda: registry_server.ready(registry.url))

    async def broker(self) -> None:
        broker = self.plan.broker
        with self._reported(broker.name, ", ".join(self.plan.state.brokers)):
            programs = broker.programs()
            for program in programs:
                self.plan.folder.keeper.add(program)
            if programs:
                await self._until_ready([program.name for program in programs], broker.ready)
            else:
                addresses = ", ".join(self.plan.state.brokers)
                await self._external(broker.ready, f"the MQTT broker at {addresses}")

    async def topics(self) -> None:
        with self._reported("topics"):
            await topics.create(self.plan.state.kafka, access=self.plan.kafka_access)

    async def schemas(self) -> None:
        with self._reported("schemas"):
            catalogue = load_catalogue(self.plan.state.signals)
            await schemas.register(self.plan.state.registry_url, catalogue)

    async def process(self, name: str) -> None:
        port = self.plan.state.http[name]
        missing = ["start"]

        async def ready() -> bool:
            missing[:] = await processes.waiting_for(port)
            return not missing

        with self._reported(name, f"http://127.0.0.1:{port}/metrics"):
            folder = self.plan.folder
            environment = planning.environment(self.plan.state, folder, name)
            data = planning.process_data(folder)
            folder.keeper.add(processes.program(name, environment, data))
            await self._until_ready([name], ready, missing)

    async def _until_ready(
        self,
        names: list[str],
        ready: Callable[[], Awaitable[bool]],
        missing: list[str] | None = None,
    ) -> None:
        keeper = self.plan.folder.keeper
        deadline = time.monotonic() + _READY_S
        while not await ready():
            for name in names:
                ends = [crash for crash in keeper.restarts() if crash.name == name]
                if len(ends) >= _CRASHES_AT_START or keeper.given_up(name):
                    raise StackError(
                        f"{name} does not start ({ends[-1].how if ends else 'it ends at once'}). "
                        f"It said: {keeper.last_words(name, 1) or 'nothing'}",
                        f"Its log is {keeper.log_path(name)}.",
                    )
            if time.monotonic() > deadline:
                waits = f"; it waits for {', '.join(missing)}" if missing else ""
                raise StackError(
                    f"{', '.join(names)} is not ready after {_READY_S} s{waits}.",
                    f"Its log is {keeper.log_path(names[0])}.",
                )
            await asyncio.sleep(_POLL_S)

    async def _external(self, ready: Callable[[], Awaitable[bool]], what: str) -> None:
        for _ in range(3):
            if await ready():
                return
            await asyncio.sleep(1)
        raise UnreachableError(
            f"{what} does not carry a message.",
            "Check the address and the credentials, and that it may be reached from here.",
        )

    @contextlib.contextmanager
    def _reported(self, name: str, detail: str = "") -> Iterator[None]:
        began = time.monotonic()
        self.on_update(PartUpdate(name, "starting", 0.0, detail))
        try:
            yield
        except MotorcadeError:
            self.on_update(PartUpdate(name, "failed", time.monotonic() - began, detail))
            raise
        self.on_update(PartUpdate(name, "ready", time.monotonic() - began, detail))
