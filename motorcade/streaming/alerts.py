"""Alerts: from predictions to alerts raised and cleared, with each car's state kept in Kafka."""

from collections import Counter as Tally
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated, Any

import numpy as np
from prometheus_client import Counter, Gauge
from pydantic import Field

from motorcade.fleet.alert_rules import (
    Change,
    Evidence,
    Kind,
    Rule,
    advance,
    calm,
    kind_named,
    kind_of,
)
from motorcade.fleet.alert_rules import steps as steps_of
from motorcade.fleet.avro import PREDICTIONS_SUBJECT
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.errors import DecodeError
from motorcade.fleet.messages import Alert, AlertAction, AlertState, decode, encode
from motorcade.fleet.predictions import PredictionAvro, PredictionColumns
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.topics import ALERTS, ALERTS_STATE, PREDICTIONS
from motorcade.runtime.derive import Output, derive
from motorcade.runtime.kafka import Record, read_all
from motorcade.runtime.registry import schema_id, subject_lookup
from motorcade.runtime.service import Service, run
from motorcade.streaming.malformed import Malformed

_ANNOUNCED = Counter("motorcade_alerts_total", "Alerts announced", ["kind", "action"])
_OPEN = Gauge("motorcade_alerts_open", "Alerts open now, in the partitions of this process")
_WATCHED = Gauge("motorcade_alerts_watched", "Cars whose counter is above zero")

#: Largest score that JSON and the Avro float both hold.
_MAX_SCORE = float(np.finfo(np.float32).max)
_NAMED_SIGNALS = 3

#: Yields batches of records of one partition of `alerts.state`, up to its present end.
ReadStates = Callable[[int], AsyncIterator[list[Record]]]


class Settings(ProcessSettings):
    """Settings of the alerts process."""

    #: Level of a car's counter at which an alert is raised.
    alert_raise_at: Annotated[int, Field(ge=1, le=1000)] = 4
    #: Level that the counter never passes, in multiples of `alert_raise_at`.
    alert_ceiling: Annotated[float, Field(ge=1, le=100)] = 2.0
    #: A score above this many thresholds counts double.
    alert_strong: Annotated[float, Field(gt=1)] = 4.0

    @property
    def rule(self) -> Rule:
        ceiling = round(self.alert_raise_at * self.alert_ceiling)
        return Rule(self.alert_raise_at, ceiling, self.alert_strong)


class AlertStep:
    """The derivation `predictions` → `alerts`, `alerts.state`.

    Every change of a car's counter is one record of `alerts.state` with the offset of the
    prediction that made it. So both outputs are a function of `predictions` alone, whatever the
    batches were, and the loop's suppression by source offset is exact after a kill; a state that
    summed up a batch would not be.
    """

    name = "alerts"
    group = "alerts"
    source = PREDICTIONS
    outputs: tuple[str, ...] = (ALERTS, ALERTS_STATE)
    history = 0

    def __init__(
        self, codec: PredictionAvro, rule: Rule, states: ReadStates, malformed: Malformed
    ) -> None:
        self._codec = codec
        self._rule = rule
        self._read_states = states
        self._malformed = malformed
        #: States by partition and car, and the cars of them whose level is above zero.
        self._states: dict[int, dict[bytes, AlertState]] = {}
        self._watched: dict[int, set[bytes]] = {}

    async def assigned(self, partition: int) -> None:
        """Read the partition's states back from Kafka."""
        states: dict[bytes, AlertState] = {}
        async for records in self._read_states(partition):
            for record in records:
                try:
                    states[record.key] = decode(AlertState, record.value)
                except (DecodeError, TypeError) as error:
                    self._malformed(ALERTS_STATE, error, record)
        self._states[partition] = states
        self._watched[partition] = {vin for vin, state in states.items() if state.level}
        self._measure()

    def revoked(self, partition: int) -> None:
        """Forget a partition."""
        self._states.pop(partition, None)
        self._watched.pop(partition, None)
        self._measure()

    def process(self, records: list[Record]) -> list[Output]:
        """Alerts and states of a batch; a record of a car that is calm and stays so costs no step.

        A record that does not decode is counted, reported and passed over.
        """
        columns, records = self._decode(records)
        if columns is None:
            return []
        steps = steps_of(self._rule, columns.score, columns.threshold)
        keys = [record.key for record in records]
        hot = {keys[row] for row in np.flatnonzero(steps > 0).tolist()}
        for watched in self._watched.values():
            hot |= watched
        if not hot:
            return []
        outputs: list[Output] = []
        for row in np.flatnonzero(steps).tolist():
            if keys[row] in hot:
                outputs += self._take(records[row], columns, row, int(steps[row]))
        self._measure()
        return outputs

    def _decode(self, records: list[Record]) -> tuple[PredictionColumns | None, list[Record]]:
        """Columns of the records that decode, and those records."""
        try:
            return self._codec.decode([record.value for record in records]), records
        except (DecodeError, TypeError):
            good = self._good(records)
        return (self._codec.decode([record.value for record in good]) if good else None), good

    def _good(self, records: list[Record]) -> list[Record]:
        """The records that decode, found by halves so that one bad one costs little."""
        try:
            self._codec.decode([record.value for record in records])
        except (DecodeError, TypeError) as error:
            if len(records) == 1:
                self._malformed(PREDICTIONS, error, records[0])
                return []
            middle = len(records) // 2
            return self._good(records[:middle]) + self._good(records[middle:])
        return records

    def _take(
        self, record: Record, columns: PredictionColumns, row: int, step: int
    ) -> list[Output]:
        states = self._states[record.partition]
        state = states.get(record.key) or calm(columns.vin[row].decode())
        evidence = Evidence(int(columns.partition[row]), int(columns.offset[row]))
        kind = partial(self._kind, record)
        change = advance(self._rule, state, record.offset, step, evidence=evidence, kind=kind)
        if change is None:
            return []
        states[record.key] = change.state
        watched = self._watched[record.partition]
        (watched.add if change.state.level else watched.discard)(record.key)
        outputs = [_output(ALERTS_STATE, record, encode(change.state))]
        if change.action is not None:
            alert = self._announce(record, change, change.action, columns, row)
            outputs.append(_output(ALERTS, record, encode(alert)))
        return outputs

    def _announce(
        self,
        record: Record,
        change: Change,
        action: AlertAction,
        columns: PredictionColumns,
        row: int,
    ) -> Alert:
        about = change.alert
        kind = kind_named(about.kind)
        full = self._in_full(record)
        _ANNOUNCED.labels(about.kind, action.value).inc()
        return Alert(
            id=about.open_alert,
            vin=about.vin,
            kind=about.kind,
            action=action,
            severity=kind.severity,
            advice=kind.advice,
            evidence_partition=about.evidence_partition,
            evidence_offset=about.evidence_offset,
            boot=int(columns.boot[row]),
            seq=int(columns.seq[row]),
            time=int(columns.time[row]),
            due=int(columns.due[row]),
            score=min(float(columns.score[row]), _MAX_SCORE),
            threshold=float(columns.threshold[row]),
            model=full["model"],
            version=int(columns.version[row]),
            signals=[part["signal"] for part in full["contributions"][:_NAMED_SIGNALS]],
        )

    def _kind(self, record: Record) -> Kind:
        full = self._in_full(record)
        parts = ((part["signal"], part["share"]) for part in full["contributions"])
        return kind_of(parts, full["kind"])

    def _in_full(self, record: Record) -> dict[str, Any]:
        """A prediction in full; one whose end does not decode has told its score all the same."""
        try:
            return self._codec.decode_one(record.value)
        except DecodeError as error:
            self._malformed(PREDICTIONS, error, record)
            return {"model": "", "kind": "", "contributions": []}

    def _measure(self) -> None:
        tally: Tally[bool] = Tally()
        for partition, watched in self._watched.items():
            states = self._states[partition]
            tally.update(bool(states[vin].open_alert) for vin in watched)
        _OPEN.set(tally[True])
        _WATCHED.set(tally.total())


def _output(topic: str, record: Record, value: bytes) -> Output:
    return Output(topic, record.partition, record.key, value, record.offset)


async def _body(service: Service) -> None:
    settings = service.settings
    assert isinstance(settings, Settings)
    catalogue = load_catalogue(settings.signals)
    number = await schema_id(settings, catalogue, PREDICTIONS_SUBJECT)

    def states(partition: int) -> AsyncIterator[list[Record]]:
        return read_all(settings, [ALERTS_STATE], partitions=[partition])

    codec = PredictionAvro(catalogue, number, subject_lookup(settings, PREDICTIONS_SUBJECT))
    step = AlertStep(codec, settings.rule, states, Malformed(service.log, "alerts"))
    await derive(service, step)


def main(settings: Settings) -> None:
    """Run the alerts process until it is told to stop."""
    run("alerts", settings, _body)


if __name__ == "__main__":
    main(Settings())
