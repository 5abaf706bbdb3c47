"""Where a thread's CPU time goes: functions are watched, and each has its own part of the time."""

import json
import time
from collections.abc import Callable
from typing import Any

from bench.generator.clients.lines import say

_TRIES = 100_000


class Parts:
    """CPU time by part, without what the watching itself costs.

    What a watched function spends in another watched one belongs to that one's part. While the
    context lasts everything is counted; at its end a line `parts JSON` tells the microseconds of
    each part, those of the whole process, and the calls.
    """

    def __init__(self) -> None:
        self._spent: dict[str, int] = {}
        self._calls = 0
        self._inner = 0
        #: What a call adds to what it measures, and beyond that to who calls it, nanoseconds.
        self._within = self._beside = 0
        self._process = 0
        self._gauge()

    def watch(self, owner: type, name: str, part: str) -> None:
        """Count a method of a class to a part, from now on."""
        setattr(owner, name, self._watched(getattr(owner, name), part))

    def __enter__(self) -> None:
        self._spent = dict.fromkeys(self._spent, 0)
        self._calls = 0
        self._process = time.process_time_ns()

    def __exit__(self, *_: object) -> None:
        whole = time.process_time_ns() - self._process - self._calls * (self._within + self._beside)
        microseconds = {part: spent / 1000 for part, spent in self._spent.items()}
        say("parts", json.dumps({"whole": whole / 1000, **microseconds}).replace(" ", ""))

    def _watched(self, whole: Callable[..., Any], part: str) -> Callable[..., Any]:
        self._spent[part] = self._spent.get(part, 0)
        clock = time.thread_time_ns

        def watched(*args: Any, **options: Any) -> Any:
            outer, self._inner = self._inner, 0
            began = clock()
            try:
                return whole(*args, **options)
            finally:
                took = clock() - began
                self._spent[part] += took - self._inner - self._within
                self._inner = outer + took + self._beside
                self._calls += 1

        return watched

    def _gauge(self) -> None:
        """Learn what watching costs, from a function that does nothing."""

        def nothing() -> None:
            pass

        watched, clock = self._watched(nothing, "nothing"), time.thread_time_ns
        began = clock()
        for _ in range(_TRIES):
            watched()
        whole = clock() - began
        within = self._spent.pop("nothing")
        self._within, self._beside = within // _TRIES, (whole - within) // _TRIES
