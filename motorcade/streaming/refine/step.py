"""The derivation telemetry.raw → telemetry, telemetry.dlq, for the loop that keeps it exact."""

from typing import Annotated

import numpy as np
from prometheus_client import Counter, Gauge
from pydantic import Field

from motorcade.fleet.avro import TELEMETRY_SUBJECT
from motorcade.fleet.catalogue import Catalogue, load_catalogue
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.telemetry import TelemetryAvro
from motorcade.fleet.topics import (
    DLQ,
    GENERATED_HEADER,
    LATE_HEADER,
    MQTT_TOPIC_HEADER,
    RAW,
    TELEMETRY,
)
from motorcade.runtime.derive import Output, derive
from motorcade.runtime.kafka import Record
from motorcade.runtime.registry import schema_id, subject_lookup
from motorcade.runtime.service import Service, run
from motorcade.streaming.refine.dlq_headers import dlq_headers
from motorcade.streaming.refine.identity import Identities, Verdict
from motorcade.streaming.refine.reasons import Refusal, Rule
from motorcade.streaming.refine.rules import Checked, Raw, Rules
from motorcade.streaming.refine.samples import Payloads, Samples

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

_LATE_MARK = (LATE_HEADER, b"1")
_NEW = (Verdict.FIRST, Verdict.LATE)
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
        self,
        catalogue: Catalogue,
        payloads: Payloads,
        rules: Rules,
        codec: TelemetryAvro,
        history: int,
    ) -> None:
        self.history = history
        self._catalogue = catalogue
        self._payloads = payloads
        self._rules = rules
        self._codec = codec
        self._identities: dict[int, Identities] = {}

    async def assigned(self, partition: int) -> None:
        """Begin without memory; the loop has `rebuild` build it."""
        self._identities[partition] = Identities(self.history)

    def revoked(self, partition: int) -> None:
        self._identities.pop(partition, None)

    def process(self, records: list[Record]) -> list[Output]:
        """One output for each sample that is not an exact repeat."""
        records, samples, checked, verdicts = self._judged(records)
        refused = checked.refusals
        passing = [at for at, verdict in enumerate(verdicts) if verdict in _NEW]
        columns = checked.columns
        if len(passing) < len(verdicts):
            columns = columns.take(np.array(passing, dtype=np.int64))
            for at, verdict in enumerate(verdicts):
                if verdict not in _NEW and verdict is not Verdict.REPEAT:
                    refused[int(checked.rows[at])] = _identity_refusal(checked, at, verdict)
        values = self._codec.encode(columns) if passing else []
        rows = checked.rows.tolist()
        index = samples.number.tolist()
        outputs = []
        for at, value in zip(passing, values, strict=True):
            row = rows[at]
            record = records[row]
            headers = record.headers and _passed_on(record)
            if verdicts[at] is Verdict.LATE:
                headers = (*headers, _LATE_MARK)
            outputs.append(
                Output(
                    TELEMETRY,
                    record.partition,
                    record.key or b"",
                    value,
                    record.offset,
                    headers,
                    index[row],
                )
            )
        outputs += [
            _dlq(records[row], samples.payloads[row], index[row], refused[row])
            for row in sorted(refused)
        ]
        self._count(checked, verdicts, len(passing))
        return outputs

    def since(self) -> dict[int, int]:
        """Nothing: identities are remembered for as many records as `history` says."""
        return {}

    def rebuild(self, records: list[Record]) -> None:
        """Learn identities of messages that were counted and let through before a restart."""
        if records:
            self._judged(records)

    def _judged(
        self, records: list[Record]
    ) -> tuple[list[Record], Samples, Checked, list[Verdict]]:
        """Every sample with its record, what the rules say, and whether it is new."""
        samples = self._payloads.divide([record.value or b"" for record in records])
        if len(samples.record) > len(records) or samples.number.any():
            records = [records[at] for at in samples.record.tolist()]
        checked = self._rules.check(_columns_of(records, samples))
        return records, samples, checked, self._judge(records, samples, checked)

    def _judge(self, records: list[Record], samples: Samples, checked: Checked) -> list[Verdict]:
        columns, rows = checked.columns, checked.rows
        n = len(rows)
        partitions = np.fromiter((record.partition for record in records), np.int64, len(records))
        # Python's own hash of bytes: SipHash under a key of this process, which is as long as it
        # is compared.
        content = np.fromiter(map(hash, samples.payloads), np.int64, len(records))[rows]
        mine = partitions[rows]
        vins = columns.vin.tolist()
        verdicts: list[Verdict] = [Verdict.FIRST] * n
        for partition in np.unique(mine).tolist():
            here = np.flatnonzero(mine == partition)
            places = here.tolist()
            found = self._identities[partition].judge_all(
                [vins[at] for at in places], columns.boot[here], columns.seq[here], content[here]
            )
            for at, verdict in zip(places, found, strict=True):
                verdicts[at] = verdict
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


def _columns_of(records: list[Record], samples: Samples) -> Raw:
    topics = {}
    for row, record in enumerate(records):
        if record.headers and (topic := _mqtt_topic(record)) is not None:
            topics[row] = topic
    return Raw(
        samples,
        [record.key or b"" for record in records],
        topics,
        np.fromiter((record.timestamp for record in records), np.int64, len(records)),
    )


def _passed_on(record: Record) -> tuple[tuple[str, bytes], ...]:
    return tuple(header for header in record.headers if header[0] == GENERATED_HEADER)


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


def _dlq(record: Record, payload: bytes, index: int, refusal: Refusal) -> Output:
    return Output(
        DLQ,
        record.partition,
        record.key or b"",
        payload,
        record.offset,
        (*dlq_headers(record, refusal), *_passed_on(record)),
        index,
    )


async def refine(service: Service, settings: Settings) -> None:
    """The body of the process."""
    service.ready("registry", False)
    catalogue = load_catalogue(settings.signals)
    codec = TelemetryAvro(catalogue, await schema_id(settings, catalogue, TELEMETRY_SUBJECT))
    service.ready("registry", True)
    payloads = Payloads(catalogue, codec, subject_lookup(settings, TELEMETRY_SUBJECT))
    skew_ms = round(settings.refine_skew_minutes * 60_000)
    rules = Rules(catalogue, payloads, settings.run_clock, skew_ms)
    step = RefineStep(catalogue, payloads, rules, codec, settings.refine_history)
    await derive(service, step, linger_s=_LINGER_S)


def main(settings: Settings) -> None:
    """Refine until told to stop."""
    run("refine", settings, lambda service: refine(service, settings))
