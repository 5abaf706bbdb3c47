"""One uvloop loop in a native thread, beside a program that runs on gevent."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import gevent.monkey
import uvloop

_log = logging.getLogger(__name__)


class LoopThread:
    """An event loop that gevent neither patches nor blocks.

    Under gevent asyncio costs twice as much, and a green loop would wait while Locust spawns. The
    thread is made by the interpreter's own call, which gevent may have replaced; make it after
    any fork. It ends with the process.
    """

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds them weakly
        start: Any = gevent.monkey.get_original("_thread", "start_new_thread")
        start(self._run, ())

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call something on the loop, soon; from any thread."""
        self.loop.call_soon_threadsafe(function, *arguments)

    def spawn(self, work: Coroutine[Any, Any, None], on_failure: Callable[[str], None]) -> None:
        """Run a coroutine on the loop; should it fail, `on_failure` is called with the reason."""

        def begin() -> None:
            task = self.loop.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(done)

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("work on the simulator's loop failed", exc_info=error)
                on_failure(f"{type(error).__name__}: {error}")

        self.call(begin)
