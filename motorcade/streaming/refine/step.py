"""The derivation telemetry.raw → telemetry, telemetry.dlq, for the loop that keeps it exact."""

from typing import Annotated

import numpy as np
from prometheus_client import Counter, Gauge
from pydantic import Field

from motorcade.fleet.avro import TELEMETRY_SUBJECT
from motorcade.fleet.catalogue import Catalogue, load_catalogue
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryAvro
from motorcade.fleet.topics import DLQ, LATE_HEADER, MQTT_TOPIC_HEADER, RAW, TELEMETRY
from motorcade.runtime.derive import Output, derive
from motorcade.runtime.kafka import Record
from motorcade.runtime.registry import schema_id
from motorcade.runtime.service import Service, run
from motorcade.streaming.refine.dlq_headers import dlq_headers
from motorcade.streaming.refine.identity import Identities, Verdict
from motorcade.streaming.refine.reasons import Refusal, Rule
from motorcade.streaming.refine.rules import Checked, Raw, Rules

_QUARANTINED = Counter("motorcade_refine_quarantined_total", "Messages refused", ["rule"])
_REFINED = Counter("motorcade_refine_refined_total", "Messages that kept to every rule")
_REPEATS = Counter("motorcade_refine_repeats_total", "Exact repeats, counted and suppressed")
_LATE = Counter("motorcade_refine_late_total", "First arrivals after a newer message of the car")
_OUT_OF_RANGE = Counter(
    "motorcade_refine_out_of_range_total", "Values out of physical range", ["signal"]
)
_ABSENT = Counter(
    "motorcade_refine_absent_total", "Messages that parse without this signal", ["signal"]
)
_CARS = Gauge("motorcade_refine_cars", "Cars whose message identities are remembered")

_LATE_HEADERS = ((LATE_HEADER, b"1"),)
_LINGER_S = 0.05


class Settings(ProcessSettings):
    """Settings of refine."""

    #: Event time by which a message may be ahead of the run's clock, in minutes.
    refine_skew_minutes: Annotated[float, Field(ge=0)] = 10.0
    #: Messages of a partition whose content is remembered to tell a repeat from a conflict. As
    #: many are read again after a restart: a repeat from further back is then taken as late.
    refine_history: Annotated[int, Field(ge=1)] = 20_000


class RefineStep:
    """Judges every raw message: refined, quarantined with a reason, or an exact repeat."""

    name = "refine"
    group = "refine"
    source = RAW
    outputs: tuple[str, ...] = (TELEMETRY, DLQ)

    def __init__(
        self, catalogue: Catalogue, rules: Rules, codec: TelemetryAvro, history: int
    ) -> None:
        self.history = history
        self._catalogue = catalogue
        self._rules = rules
        self._codec = codec
        self._identities: dict[int, Identities] = {}

    async def assigned(self, partition: int) -> None:
        """Begin without memory; the loop reads `history` records again to build it."""
        self._identities[partition] = Identities(self.history)

    def revoked(self, partition: int) -> None:
        self._identities.pop(partition, None)

    def process(self, records: list[Record]) -> list[Output]:
        """One output for each record that is not an exact repeat."""
        checked = self._rules.check(_columns_of(records))
        verdicts = self._judge(records, checked)
        refused = checked.refusals
        passing: list[int] = []
        for at, (row, verdict) in enumerate(zip(checked.rows.tolist(), verdicts, strict=True)):
            if verdict is Verdict.FIRST or verdict is Verdict.LATE:
                passing.append(at)
            elif verdict is not Verdict.REPEAT:
                refused[row] = _identity_refusal(checked, at, verdict)
        everything = len(passing) == len(verdicts)
        columns = checked.columns if everything else checked.columns.take(np.array(passing, int))
        values = self._codec.encode(columns) if passing else []
        rows = checked.rows.tolist()
        outputs = []
        for at, value in zip(passing, values, strict=True):
            record = records[rows[at]]
            outputs.append(
                Output(
                    TELEMETRY,
                    record.partition,
                    record.key or b"",
                    value,
                    record.offset,
                    _LATE_HEADERS if verdicts[at] is Verdict.LATE else (),
                )
            )
        outputs += [_dlq(records[row], refused[row]) for row in sorted(refused)]
        self._count(checked, verdicts, len(passing))
        return outputs

    def _judge(self, records: list[Record], checked: Checked) -> list[Verdict]:
        columns = checked.columns
        verdicts = []
        for row, vin, boot, seq in zip(
            checked.rows.tolist(),
            columns.vin.tolist(),
            columns.boot.tolist(),
            columns.seq.tolist(),
            strict=True,
        ):
            record = records[row]
            # Python's own hash of bytes: SipHash under a key of this process, which is as long
            # as it is compared.
            verdicts.append(
                self._identities[record.partition].judge(vin, boot, seq, hash(record.value))
            )
        return verdicts

    def _count(self, checked: Checked, verdicts: list[Verdict], refined: int) -> None:
        _REFINED.inc(refined)
        for refusal in checked.refusals.values():
            _QUARANTINED.labels(refusal.rule).inc()
        for signal, count in checked.out_of_range.items():
            _OUT_OF_RANGE.labels(signal).inc(count)
        for column in np.flatnonzero(checked.absent).tolist():
            _ABSENT.labels(self._catalogue.names[column]).inc(int(checked.absent[column]))
        if refined < len(verdicts):
            _REPEATS.inc(verdicts.count(Verdict.REPEAT))
        if late := verdicts.count(Verdict.LATE):
            _LATE.inc(late)
        _CARS.set(sum(map(len, self._identities.values())))


def _columns_of(records: list[Record]) -> Raw:
    return Raw(
        [record.value or b"" for record in records],
        [record.key or b"" for record in records],
        [_mqtt_topic(record) if record.headers else None for record in records],
        np.array([record.timestamp for record in records], dtype=np.int64),
    )


def _mqtt_topic(record: Record) -> str | None:
    for name, value in record.headers:
        if name == MQTT_TOPIC_HEADER:
            return str(value, "utf-8", "replace")
    return None


def _identity_refusal(checked: Checked, at: int, verdict: Verdict) -> Refusal:
    boot, seq = int(checked.columns.boot[at]), int(checked.columns.seq[at])
    if verdict is Verdict.CONFLICT:
        return Refusal(
            Rule.CONFLICT, f"another message of this car already has boot {boot}, seq {seq}"
        )
    return Refusal(
        Rule.INCOMPARABLE,
        f"boot {boot}, seq {seq} was seen, or may have been, too long ago to compare the content",
    )


def _dlq(record: Record, refusal: Refusal) -> Output:
    return Output(
        DLQ,
        record.partition,
        record.key or b"",
        record.value or b"",
        record.offset,
        dlq_headers(record, refusal),
    )


async def refine(service: Service, settings: Settings) -> None:
    """The body of the process."""
    service.ready("registry", False)
    catalogue = load_catalogue(settings.signals)
    codec = TelemetryAvro(catalogue, await schema_id(settings, catalogue, TELEMETRY_SUBJECT))
    service.ready("registry", True)
    rules = Rules(catalogue, settings.run_clock, round(settings.refine_skew_minutes * 60_000))
    step = RefineStep(catalogue, rules, codec, settings.refine_history)
    await derive(service, step, linger_s=_LINGER_S)


def main(settings: Settings) -> None:
    """Refine until told to stop."""
    run("refine", settings, lambda service: refine(service, settings))
