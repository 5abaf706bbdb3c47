"""What the topics hold after the kills, beside what they must hold: read once, judged by tests."""

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import structlog

from motorcade.fleet import topics
from motorcade.fleet.alert_rules import Evidence as FirstEvidence
from motorcade.fleet.alert_rules import Rule, advance, calm, kind_of
from motorcade.fleet.avro import PREDICTIONS_SUBJECT
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.messages import (
    Alert,
    AlertAction,
    AlertState,
    CommandRequest,
    CommandResponse,
    decode,
)
from motorcade.fleet.predictions import PredictionAvro
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.source import source_of
from motorcade.runtime.kafka import Record, read_all
from motorcade.runtime.registry import schema_id
from motorcade.simulator.audit.faults import FaultAccounts
from motorcade.simulator.audit.reconcile import Accounts
from motorcade.simulator.audit.run import Surroundings, audit
from motorcade.streaming import twin
from motorcade.streaming.twin_compare import differences
from motorcade.streaming.twin_fold import TOPICS
from motorcade.streaming.twin_store import Store

from .chaos_stack import COMMANDS, ChaosStack
from .groups import until_group_has_read

#: An alert's id and what happened to it.
Announced = tuple[str, str]

_DRAIN_S = 120
_END_S = sum(float(seconds) for seconds in COMMANDS.values()) + 30


@dataclass(frozen=True)
class Account:
    """What came of a run.

    accounts, faults: the audit's. announced: every record of `alerts`. replayed: what the pure
    rules announce over `predictions`. states, replayed_states: the last state of each car.
    commands: every record of `commands`. finals: distinct final states by command id, of every
    record of `commands.status`. rubbish: bad payloads that the broker acknowledged. refused:
    payloads in the dead-letter queue. twin: what differs between the twin and one rebuilt.
    """

    accounts: Accounts
    faults: FaultAccounts
    announced: list[Announced]
    replayed: list[Announced]
    states: dict[str, AlertState]
    replayed_states: dict[str, AlertState]
    commands: list[CommandRequest]
    finals: dict[str, set[str]]
    rubbish: set[bytes]
    refused: Counter[bytes]
    twin: list[str]
    twin_cars: int

    @property
    def raised(self) -> list[str]:
        """Ids of raised alerts, one a record."""
        return [alert for alert, action in self.announced if action == AlertAction.RAISED]


async def settle(stack: ChaosStack) -> None:
    """Let every driver be warned, stop the fleet, and wait until nothing is under way."""
    await _until_commands_end(stack.settings)
    await stack.simulation.stop_fleet()
    await stack.simulation.write_ledgers()
    await stack.pipeline.drained(_DRAIN_S)
    await _until_commands_end(stack.settings)
    await stack.pipeline.drained(_DRAIN_S)
    await until_group_has_read(stack.settings, "twin", *TOPICS)


async def take(stack: ChaosStack, rubbish: set[bytes], folder: Path) -> Account:
    """Read everything."""
    settings = stack.settings
    run_dir = stack.simulation.settings.run_dir
    verdict = await audit(settings, run_dir, Surroundings("as the broker says", None))
    replayed, replayed_states = await _replay(settings)
    alerts = [decode(Alert, value) for value in await _values(settings, topics.ALERTS)]
    states = [decode(AlertState, v) for v in await _values(settings, topics.ALERTS_STATE)]
    commands = [decode(CommandRequest, v) for v in await _values(settings, topics.COMMANDS)]
    differing, cars = await _twin(stack, folder)
    return Account(
        accounts=verdict.accounts,
        faults=verdict.faults,
        announced=[(alert.id, str(alert.action)) for alert in alerts],
        replayed=replayed,
        states={state.vin: state for state in states},
        replayed_states=replayed_states,
        commands=commands,
        finals=await _finals(settings),
        rubbish=rubbish,
        refused=Counter(await _values(settings, topics.DLQ)),
        twin=differing,
        twin_cars=cars,
    )


async def _records(settings: ProcessSettings, topic: str) -> list[Record]:
    """A topic in full, in order within each partition."""
    return [record async for batch in read_all(settings, [topic]) for record in batch]


async def _values(settings: ProcessSettings, topic: str) -> list[bytes]:
    return [record.value or b"" for record in await _records(settings, topic)]


async def _finals(settings: ProcessSettings) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for value in await _values(settings, topics.COMMANDS_STATUS):
        response = decode(CommandResponse, value)
        if response.status.final:
            found[response.id].add(str(response.status))
    return dict(found)


async def _until_commands_end(settings: ProcessSettings) -> None:
    """Wait until every alert has a command and every command an end; the tests judge if not."""
    deadline = time.monotonic() + _END_S
    while time.monotonic() < deadline:
        alerts = [decode(Alert, value) for value in await _values(settings, topics.ALERTS)]
        wanted = sum(alert.action is AlertAction.RAISED for alert in alerts)
        commands = [decode(CommandRequest, v) for v in await _values(settings, topics.COMMANDS)]
        finals = await _finals(settings)
        if len(commands) >= wanted and all(command.id in finals for command in commands):
            return
        await asyncio.sleep(0.5)


async def _replay(settings: ProcessSettings) -> tuple[list[Announced], dict[str, AlertState]]:
    """The pure rules over `predictions`, one record after the other, repeats left out."""
    catalogue = load_catalogue(settings.signals)
    codec = PredictionAvro(catalogue, await schema_id(settings, catalogue, PREDICTIONS_SUBJECT))
    announced: list[Announced] = []
    states: dict[str, AlertState] = {}
    newest: dict[int, int] = {}
    rule = Rule()
    for record in await _records(settings, topics.PREDICTIONS):
        source = source_of(record.headers)
        assert source is not None
        if source.offset <= newest.get(source.partition, -1):
            continue
        newest[source.partition] = source.offset
        columns = codec.decode([record.value or b""])
        score, threshold = float(columns.score[0]), float(columns.threshold[0])
        if not np.isfinite(threshold) or np.isnan(score):
            continue
        step = -1 if score <= threshold else 1 + (score > threshold * rule.strong)
        full = codec.decode_one(record.value or b"")
        parts = [(part["signal"], part["share"]) for part in full["contributions"]]
        change = advance(
            rule,
            states.get(vin := columns.vin[0].decode(), calm(vin)),
            record.offset,
            step,
            evidence=FirstEvidence(int(columns.partition[0]), int(columns.offset[0])),
            kind=partial(kind_of, parts, full["kind"]),
        )
        if change is not None:
            states[vin] = change.state
            if change.action is not None:
                announced.append((change.alert.open_alert, str(change.action)))
    return announced, states


async def _twin(stack: ChaosStack, folder: Path) -> tuple[list[str], int]:
    settings = twin.Settings.model_validate(stack.values)
    live = settings.open(create=False)
    rebuilt = Store(f"sqlite:///{folder / 'rebuilt.db'}")
    try:
        await twin.rebuild(settings, rebuilt, structlog.get_logger("rebuilt"))
        return await asyncio.to_thread(differences, live, rebuilt), len(live.vins())
    finally:
        live.close()
        rebuilt.close()
