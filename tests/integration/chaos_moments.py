"""The moments at which processes are killed: drawn beforehand from a seed, then struck."""

import asyncio
import contextlib
import itertools
import os
import random
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .chaos_stack import ChaosStack
from .servers import alive

#: Failpoints of each process, and the highest number of the pass that kills it. The first of each
#: are those at which one process would lose, another repeat, a third forget.
FAILPOINTS: Mapping[str, tuple[tuple[str, int], ...]] = {
    "bridge": (("bridge.after-produce", 20), ("bridge.before-produce", 20)),
    "refine": (
        ("refine.before-produce", 8),
        ("refine.after-produce", 8),
        ("refine.between-outputs", 8),
    ),
    "score": (("score.after-produce", 8), ("score.before-produce", 8)),
    "alerts": (
        ("alerts.between-outputs", 8),
        ("alerts.after-produce", 8),
        ("alerts.before-produce", 8),
    ),
    "twin": (("twin.before-commit", 3),),
    # These pass only when an alert comes.
    "dispatch": (
        ("dispatch.after-produce", 1),
        ("dispatch.after-publish", 1),
        ("dispatch.before-produce", 1),
    ),
}
_LONGEST_WAIT_S = 1.5
#: An armed process has to come to its failpoint, the dispatcher through an alert of a worn car.
_REACHED_S = 120.0


@dataclass(frozen=True)
class Moment:
    """A kill: from outside, or by a failpoint "name:n" at its n-th pass."""

    process: str
    wait_s: float
    failpoint: str = ""

    def __str__(self) -> str:
        return self.failpoint or f"{self.process} after {self.wait_s:.2f} s"


def draw(random_: random.Random, count: int) -> list[Moment]:
    """`count` moments of every process, in turn from outside and by a failpoint, interleaved."""
    moments = []
    for process, points in FAILPOINTS.items():
        turn = itertools.cycle(points)
        for number in range(count):
            failpoint = ""
            if number % 2:
                name, most = next(turn)
                failpoint = f"{name}:{random_.randint(1, most)}"
            moments.append(Moment(process, random_.uniform(0, _LONGEST_WAIT_S), failpoint))
    random_.shuffle(moments)
    return moments


async def strike(stack: ChaosStack, moment: Moment) -> int:
    """Kill a process at a moment and wait until it is back and ready; returns the kills it took."""
    name = moment.process
    await asyncio.sleep(moment.wait_s)  # what is drawn, not a synchronisation
    if not moment.failpoint:
        await _restart(stack, name)
        await stack.until_ready(name)
        return 1
    stack.arm(name, moment.failpoint)
    armed = await _restart(stack, name)
    await stack.until(lambda: _is_armed(armed, moment), f"{name} is armed", name)
    stack.arm(name, "")
    if name == "dispatch":
        await stack.wear(1, 20, "coolant_leak")
    await stack.until(lambda: not alive(armed), f"{moment} kills it", name, _REACHED_S)
    await _until_started(stack, name, armed)
    await stack.until_ready(name)
    return 2


async def _restart(stack: ChaosStack, name: str) -> int:
    """SIGKILL; the id of the process that follows."""
    await stack.until(lambda: stack.pid(name) is not None, f"{name} runs", name)
    pid = stack.pid(name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return await _until_started(stack, name, pid)


async def _until_started(stack: ChaosStack, name: str, before: int) -> int:
    await stack.until(lambda: stack.pid(name) not in {None, before}, f"{name} is back", name)
    pid = stack.pid(name)
    assert pid is not None
    return pid


def _is_armed(pid: int, moment: Moment) -> bool:
    """Whether the process has executed its spec; one that is dead already had."""
    if not alive(pid):
        return True
    with contextlib.suppress(OSError):
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return f"MOTORCADE_FAILPOINT={moment.failpoint}".encode() in variables
    return False
