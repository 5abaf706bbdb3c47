"""The audit on a real Kafka: every payload form, garbage, a run on a used stack, other readers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from motorcade.fleet import topics
from motorcade.fleet.avro import PREDICTIONS_SUBJECT, TELEMETRY_SUBJECT
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.predictions import Contributions, PredictionAvro, PredictionColumns
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.source import source_header
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns, TelemetryJson
from motorcade.fleet.topics import partition_of
from motorcade.fleet.vin import generate_vin
from motorcade.runtime.kafka import producer
from motorcade.runtime.kafka import started as kafka_started
from motorcade.runtime.registry import schema_id
from motorcade.simulator import ledger
from motorcade.simulator.audit import partitions, read
from motorcade.simulator.audit.payloads import Places
from motorcade.simulator.audit.run import Extent, Surroundings, audit
from motorcade.simulator.audit.verdict import DUE_TO_KAFKA, DUE_TO_PREDICTION, Outcome, Scope
from motorcade.simulator.ledger import BootColumns, LedgerFile, SpanColumns
from motorcade.simulator.measures import Measures, encode

BOOT = 1_700_000_000_000
MESSAGES = 12
#: Car 0 sends JSON, car 1 JSON batches of four, car 2 Avro, car 3 Avro batches of four; car 4 has
#: bad firmware: its messages 5 and 6 cannot be read.
CARS, GARBAGE = 5, (5, 6)
BATCH = 4
SURROUNDINGS = Surroundings("keeps everything", 0, broker="none")


def vin_of(car: int) -> str:
    return generate_vin(7, car)


class Topics:
    """Writes what the pipeline would have written."""

    def __init__(self, settings: ProcessSettings) -> None:
        self.settings = settings
        self.catalogue = load_catalogue()

    async def begin(self) -> None:
        ids = [
            await schema_id(self.settings, self.catalogue, subject)
            for subject in (TELEMETRY_SUBJECT, PREDICTIONS_SUBJECT)
        ]
        self.json = TelemetryJson(self.catalogue)
        self.avro = TelemetryAvro(self.catalogue, ids[0])
        self.scores = PredictionAvro(self.catalogue, ids[1])

    def columns(self, car: int, boot: int) -> TelemetryColumns:
        seq = np.arange(1, MESSAGES + 1)
        values = np.full((MESSAGES, len(self.catalogue.names)), 1.0)
        due = boot + seq * 100
        vin = np.full(MESSAGES, vin_of(car).encode())
        return TelemetryColumns(vin, values, np.full(MESSAGES, boot), seq, due, due)

    async def write(self, car: int, boot: int = BOOT, *, lost: Sequence[int] = ()) -> None:
        """A car's messages through the whole pipeline, less the lost ones' records in raw."""
        columns = self.columns(car, boot)
        encoder = self.avro if car in {2, 3} else self.json
        payloads = encoder.encode(columns)
        size = BATCH if car in {1, 3} else 1
        key = vin_of(car).encode()
        partition = partition_of(key)
        async with kafka_started(producer(self.settings), self.settings) as client:

            async def put(topic: str, value: bytes, headers: list[tuple[str, bytes]]) -> int:
                sent = await client.send_and_wait(
                    topic, value, key=key, partition=partition, headers=headers
                )
                return int(sent.offset)

            for first in range(0, MESSAGES, size):
                kept = [at for at in range(first, first + size) if at + 1 not in lost]
                if not kept:
                    continue
                bad = car == 4 and first + 1 in GARBAGE
                samples = [payloads[at] for at in kept]
                raw = await put(topics.RAW, b'{"seq":' if bad else together(samples, car), [])
                if bad:
                    rule = ("__connect.errors.class.name", b"not-json")
                    await put(topics.DLQ, b"", [source_header(partition, raw), rule])
                    continue
                for index, at in enumerate(kept):
                    header = source_header(partition, raw, index)
                    value = self.avro.encode(columns.take(np.array([at])))[0]
                    offset = await put(topics.TELEMETRY, value, [header])
                    scored = self.scored(columns.take(np.array([at])), partition, offset)
                    await put(topics.PREDICTIONS, scored, [source_header(partition, offset)])

    def scored(self, columns: TelemetryColumns, partition: int, offset: int) -> bytes:
        one = np.ones(1)
        found = PredictionColumns(
            columns.vin,
            one,
            one,
            one,
            columns.boot,
            columns.seq,
            columns.time,
            columns.due,
            np.array([partition]),
            np.array([offset]),
            np.ones(1, dtype=np.int64),
        )
        return self.scores.encode(found, "autoencoder", [""], Contributions.none(1))[0]


def together(samples: list[bytes], car: int) -> bytes:
    if car == 1:
        return b"[" + b",".join(samples) + b"]"
    return b"".join(samples)


def run_folder(folder: Path, qos: int = 1, boot: int = BOOT) -> Path:
    """What a simulator would have left of a run in which every message was acknowledged."""
    cars = np.arange(CARS)
    every = SpanColumns(cars, np.ones(CARS, dtype=int), np.full(CARS, MESSAGES))
    none = np.zeros(CARS, dtype=np.int64)
    boots = BootColumns(
        np.array([vin_of(car) for car in range(CARS)], dtype="S17"),
        np.full(CARS, boot),
        none,
        none,
        none,
        every,
        every if qos else SpanColumns(none[:0], none[:0], none[:0]),
        SpanColumns(np.array([4]), np.array(GARBAGE[:1]), np.array(GARBAGE[-1:])),
    )
    histograms = {name: encode(one) for name, one in Measures().histograms.items()}
    ledger.write(
        ledger.path_of(folder, 0, 1),
        LedgerFile(0, 1, 2, True, 0.1, {"connects": CARS}, boots, [], histograms),
    )
    (folder / "run.json").write_bytes(msgspec.json.encode({"qos": qos, "problems": []}))
    (folder / "truth.json").write_bytes(b'{"faults": []}')
    return folder


@pytest.fixture
async def written(kafka_topics: str, registry_schemas: str) -> Topics:
    written = Topics(ProcessSettings(kafka=kafka_topics, registry_url=registry_schemas))
    await written.begin()
    return written


@pytest.fixture
async def since(written: Topics) -> dict[tuple[str, int], int]:
    """Where the run begins: tests share a Kafka, so there are others' records before it."""
    await written.write(0, BOOT - 1000)
    return await read.ends(written.settings, [topic.name for topic in topics.TOPICS])


async def test_every_form_is_followed_to_its_prediction_and_garbage_to_its_quarantine(
    written: Topics,
    since: dict[tuple[str, int], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for car in range(CARS):
        await written.write(car)
    folder = run_folder(tmp_path)
    verdicts = []
    for few in (10**9, 0):  # in this process, and in others
        monkeypatch.setattr(partitions, "_FEW", few)
        read_of: dict[str, int] = {}

        def on_read(topic: str, count: int, read_of: dict[str, int] = read_of) -> None:
            read_of[topic] = read_of.get(topic, 0) + count

        verdicts.append(
            await audit(
                written.settings,
                folder,
                SURROUNDINGS,
                extent=Extent(since=since),
                on_read=on_read,
            )
        )
        assert read_of[topics.TELEMETRY] == read_of[topics.PREDICTIONS]
        assert read_of[topics.DLQ] == len(GARBAGE)
    assert verdicts[0] == verdicts[1]
    accounts, sent = verdicts[0].accounts, CARS * MESSAGES
    good = sent - len(GARBAGE)
    assert (accounts.sent, accounts.acknowledged, accounts.garbage) == (sent, sent, 2)
    assert (accounts.raw, accounts.refined, accounts.scored) == (good, good, good)
    assert accounts.raw_unidentified == accounts.quarantined_records == 2
    assert accounts.quarantined_by_rule == {"not-json": 2}
    clean = replace(
        accounts, sent=0, acknowledged=0, garbage=0, raw=0, raw_records=0, refined=0, scored=0
    )
    clean = replace(clean, raw_unidentified=0, quarantined_records=0, quarantined_by_rule={})
    assert not any(vars(clean).values())
    assert verdicts[0].latencies[DUE_TO_KAFKA].n == verdicts[0].latencies[DUE_TO_PREDICTION].n


async def test_a_lost_message_is_found_and_named_at_either_qos(
    written: Topics, since: dict[tuple[str, int], int], tmp_path: Path
) -> None:
    boot = BOOT + 5000
    for car in range(CARS):
        await written.write(car, boot, lost=[3, 4] if car == 1 else [])
    extent = Extent(since=since)
    found = await audit(
        written.settings, run_folder(tmp_path / "1", 1, boot), SURROUNDINGS, extent=extent
    )
    assert (found.accounts.lost, found.accounts.acknowledged_missing) == (2, 2)
    assert found.lost_examples == (f"{vin_of(1)} boot {boot} seq 3 to 4",)
    assert found.outcome is Outcome.INVALID  # nothing measured the generator's lag
    lossy = await audit(
        written.settings, run_folder(tmp_path / "0", 0, boot), SURROUNDINGS, extent=extent
    )
    assert (lossy.accounts.lost, lossy.accounts.sent_missing) == (0, 2)


async def test_somebody_elses_kafka_is_read_as_far_as_its_raw_topic_and_none_not_at_all(
    written: Topics, since: dict[tuple[str, int], int], tmp_path: Path
) -> None:
    boot = BOOT + 9000
    await written.write(0, boot)
    folder = run_folder(tmp_path, 1, boot)
    foreign = Extent(Scope.RAW, topics.RAW, Places("key", "$.seq"), since)
    nowhere = ProcessSettings(kafka=written.settings.kafka, registry_url="http://127.0.0.1:9")
    accounts = (await audit(nowhere, folder, SURROUNDINGS, extent=foreign)).accounts
    assert accounts.raw == MESSAGES
    assert accounts.lost == (CARS - 1) * MESSAGES
    assert accounts.refined == accounts.unaccounted == 0
    deaf = ProcessSettings(kafka="127.0.0.1:9", registry_url="http://127.0.0.1:9")
    verdict = await audit(deaf, folder, SURROUNDINGS, extent=Extent(Scope.CARS))
    assert verdict.accounts.sent == CARS * MESSAGES
    assert DUE_TO_KAFKA not in verdict.latencies
