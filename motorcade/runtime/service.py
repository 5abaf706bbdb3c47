"""The process shell: logs on one line, /metrics, /healthz, /readyz, graceful stop on SIGTERM."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog
import uvloop
from aiohttp import web
from aiokafka.errors import KafkaError, KafkaTimeoutError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from motorcade.fleet.errors import MotorcadeError, UnreachableError
from motorcade.fleet.settings import ProcessSettings

_GC_THRESHOLDS = (20_000, 20, 20)


class Service:
    """A running process: its settings, its log, what it still waits for, and the wish to stop.

    Attributes:
        stopping: set when the process was asked to stop; the body drains and returns.
    """

    def __init__(self, name: str, settings: ProcessSettings) -> None:
        self.name = name
        self.settings = settings
        self.log: structlog.stdlib.BoundLogger = structlog.get_logger(name)
        self.stopping = asyncio.Event()
        self._parts: dict[str, bool] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    def ready(self, part: str, ok: bool) -> None:
        """Say whether a part is ready; the process is ready once every part named so far is."""
        self._parts[part] = ok

    @property
    def waiting_for(self) -> list[str]:
        """Parts that are not ready; ["start"] before any was named."""
        return [part for part, ok in self._parts.items() if not ok] if self._parts else ["start"]

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something in the background; its failure stops the process with an error."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Stop the process with an error; the first one counts."""
        self._failure = self._failure or error
        self.stopping.set()

    async def close(self) -> None:
        """Cancel background work and raise what made it fail, if anything did."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._failure is not None:
            raise self._failure


def run(name: str, settings: ProcessSettings, body: Callable[[Service], Awaitable[None]]) -> None:
    """Run a process until it is told to stop; exits with one clear line when it fails.

    The exit status is 69 (`os.EX_UNAVAILABLE`) where a server that it needs does not answer, which
    is no fault of its own, and 1 for any other failure.
    """
    _log_to_stderr(settings.log_level)
    try:
        uvloop.run(_serve(name, settings, body))
    except MotorcadeError as error:
        structlog.get_logger(name).error("stopped", problem=error.what, remedy=error.remedy)
        sys.exit(os.EX_UNAVAILABLE if _away(error) else 1)
    except KafkaError as error:
        if not _away(error):
            raise
        structlog.get_logger(name).error("stopped", problem=f"Kafka does not answer: {error}.")
        sys.exit(os.EX_UNAVAILABLE)


def _away(error: BaseException | None) -> bool:
    """Whether a server that is needed did not answer, or was not ready yet."""
    while error is not None:
        if isinstance(error, UnreachableError | KafkaTimeoutError):
            return True
        if isinstance(error, KafkaError) and error.retriable:
            return True
        error = error.__cause__
    return False


async def _serve(
    name: str, settings: ProcessSettings, body: Callable[[Service], Awaitable[None]]
) -> None:
    service = Service(name, settings)
    # What was imported lives as long as the process and need not be looked at again. A batch is
    # thousands of objects without cycles: looking every 700 of them cost a fifth of refine.
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, service.stopping.set)
    runner = await _start_http(service)
    service.log.info("started")
    try:
        await body(service)
        await service.close()
    finally:
        await runner.cleanup()
    service.log.info("drained and stopped")


async def _start_http(service: Service) -> web.AppRunner:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(), headers={"Content-Type": str(CONTENT_TYPE_LATEST)}
        )

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"name": service.name, "alive": True})

    async def readyz(_: web.Request) -> web.Response:
        waiting = service.waiting_for
        return web.json_response(
            {"name": service.name, "ready": not waiting, "waiting_for": waiting},
            status=503 if waiting else 200,
        )

    app = web.Application()
    app.add_routes(
        [web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    settings = service.settings
    try:
        await web.TCPSite(runner, settings.http_host, settings.http_port).start()
    except OSError as error:
        await runner.cleanup()
        raise MotorcadeError(
            f"{service.name} cannot listen on {settings.http_host}:{settings.http_port}: "
            f"{error.strerror}.",
            "Set MOTORCADE_HTTP_PORT to a free port.",
        ) from error
    return runner


def _log_to_stderr(level: str) -> None:
    # aiokafka logs every reconnect attempt; ours say it once, with the endpoint.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            getattr(logging, level.upper(), logging.INFO)
        ),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
