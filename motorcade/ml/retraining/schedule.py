"""When to retrain: every so often, or when the stream has drifted; until told to stop."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter, Gauge

from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.settings import ProcessSettings
from motorcade.ml.drift.check import Drift, Limits, TooLittleError, check
from motorcade.ml.judging.run import live_champion
from motorcade.ml.retraining.journal import Journal, Plan, Retraining
from motorcade.ml.retraining.run import StoppedError, retrain
from motorcade.runtime.service import Service, run

_PSI = Gauge("motorcade_drift_psi", "Population stability index of the last look", ["signal"])
_LIMIT = Gauge("motorcade_drift_psi_limit", "Index above which it is drift", ["signal"])
_DRIFTED = Gauge("motorcade_drift_signals", "Signals that had drifted in the last look")
_RETRAININGS = Counter("motorcade_retrainings_total", "Retrainings that ended", ["result"])
_LAST = Gauge("motorcade_retraining_last_seconds", "When a retraining ended last, since 1970")

#: Pause after a failure, before the next attempt.
_AGAIN_MS = 60_000


@dataclass(frozen=True)
class OnDrift:
    """How the stream is looked at. minutes: of it. every_ms: between looks. rest_ms: after a
    retraining began, so long none begins: where the old champion stays, the stream stays drifted.
    """

    minutes: float
    every_ms: int
    rest_ms: int
    limits: Limits


@dataclass(frozen=True)
class Every:
    """every_ms: between the beginnings of two retrainings."""

    every_ms: int


def due_ms(last: Retraining | None, pause_ms: int, now_ms: int) -> int:
    """When the next retraining may begin: at once after one that was interrupted, or none.

    Args:
        last: the latest of the plan.
        pause_ms: from its beginning on.
        now_ms: wall-clock milliseconds since 1970.
    """
    if last is None or not last.ended:
        return now_ms
    return max(now_ms, last.begun + pause_ms)


def keep_trained(settings: ProcessSettings, plan: Plan, when: Every | OnDrift) -> None:
    """Retrain whenever it is due, until SIGTERM; /metrics tells of drift and results.

    A retraining that fails is logged and tried again later; one that is interrupted, by a signal
    or a Kafka that is away, goes on.
    """

    async def body(service: Service) -> None:
        service.ready("schedule", True)
        while not service.stopping.is_set():
            await _pause(service, await asyncio.to_thread(_turn, service, plan, when))

    run("retrain", settings, body)


def _turn(service: Service, plan: Plan, when: Every | OnDrift) -> int:
    """Do what is due now; returns milliseconds until there may be more to do."""
    again = when.every_ms if isinstance(when, OnDrift) else _AGAIN_MS
    try:
        reason, wait = _due(service, plan, when)
    except TooLittleError as error:
        service.log.info("look", problem=error.what)
        return again
    except MotorcadeError as error:
        service.log.error("look failed", problem=error.what, remedy=error.remedy)
        return again
    if not reason:
        return wait

    def say(step: str, /, **facts: Any) -> None:
        service.log.info(step, **facts)

    try:
        done = retrain(service.settings, plan, reason, say, service.stopping.is_set)
    except StoppedError as error:
        service.log.info("interrupted", remedy=error.remedy)
        return 0
    except MotorcadeError as error:
        service.log.error("retraining failed", problem=error.what, remedy=error.remedy)
        _RETRAININGS.labels("failed").inc()
        return again
    _RETRAININGS.labels("promoted" if done.champion else "kept").inc()
    _LAST.set(done.ended / 1000)
    return 0


def _due(service: Service, plan: Plan, when: Every | OnDrift) -> tuple[str, int]:
    """Why to retrain now, or "" and milliseconds until it may be due."""
    last = Journal.of(service.settings).last(plan)
    if last is not None and not last.ended:
        return last.reason, 0
    now = time.time_ns() // 1_000_000
    if isinstance(when, Every):
        due = due_ms(last, when.every_ms, now)
        return ("", due - now) if due > now else ("schedule", 0)
    found = _reason(service, when)
    return ("", when.every_ms) if due_ms(last, when.rest_ms, now) > now else (found, when.every_ms)


def _reason(service: Service, when: OnDrift) -> str:
    """Look; why to retrain, or "" where nothing has drifted."""
    if live_champion(service.settings) is None:
        return "no model is live"
    found = check(service.settings, when.minutes, lambda _done, _total: None, limits=when.limits)
    _show(found)
    names = ", ".join(one.name for one in found.drifted)
    service.log.info(
        "look",
        drift=names or "none",
        worst=found.signals[0].name,
        psi=round(found.signals[0].psi, 4),
        limit=round(found.signals[0].limit, 4),
        messages=found.messages,
        vehicles=found.vehicles,
    )
    return f"drift of {names}" if names else ""


def _show(found: Drift) -> None:
    for one in found.signals:
        _PSI.labels(one.name).set(one.psi)
        _LIMIT.labels(one.name).set(one.limit)
    _DRIFTED.set(len(found.drifted))


async def _pause(service: Service, milliseconds: int) -> None:
    try:
        await asyncio.wait_for(service.stopping.wait(), milliseconds / 1000)
    except TimeoutError:
        return
