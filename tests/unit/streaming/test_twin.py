"""The twin: the last word wins, in whatever order it comes, and a person can read it."""

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from rich.console import Console
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect

from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.messages import (
    Alert,
    AlertAction,
    CommandRequest,
    CommandResponse,
    CommandState,
    DiagnosticTroubleCode,
    VehicleStatus,
    encode,
)
from motorcade.fleet.telemetry import TelemetryAvro, TelemetryColumns
from motorcade.fleet.topics import (
    ALERTS,
    COMMANDS,
    COMMANDS_STATUS,
    DTC,
    PREDICTIONS,
    STATUS,
    TELEMETRY,
)
from motorcade.streaming import twin_query, twin_store
from motorcade.streaming.malformed import Malformed
from motorcade.streaming.twin import Intake, Settings
from motorcade.streaming.twin_compare import differences
from motorcade.streaming.twin_fold import Fold
from motorcade.streaming.twin_store import Position, Store, TwinError

from . import predictions
from .predictions import FakeRecord

CATALOGUE = load_catalogue()
AVRO = TelemetryAvro(CATALOGUE, schema_id=2)
CAR, OTHER = "MC9AAT5E7T0000001", "MC9AAT5E9T0000002"
#: As long as a vehicle id in bytes, but none that a database would take for one.
NOT_ASCII, NUL = CAR[:15].encode() + "é".encode(), CAR[:8].encode() + b"\0" + CAR[9:].encode()
#: The middle of every signal's range.
MIDDLE = (CATALOGUE.low + CATALOGUE.high) / 2


class Log:
    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append(fields)


def fold(log: Log | None = None) -> Fold:
    return Fold(AVRO, predictions.CODEC, Malformed(log or Log(), "twin"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path}/twin.db")
    yield made
    made.close()


def telemetry(offset: int, boot: int, seq: int, vin: str = CAR, missing: str = "") -> FakeRecord:
    values = MIDDLE.copy()
    values[CATALOGUE.column("speed")] = seq
    if missing:
        values[CATALOGUE.column(missing)] = np.nan
    columns = TelemetryColumns(
        np.array([vin], dtype="S17"), values[None, :], *(np.array([v]) for v in (boot, seq, 5, 6))
    )
    return FakeRecord(TELEMETRY, 0, offset, vin.encode(), AVRO.encode(columns)[0])


def prediction(offset: int, boot: int, score: float, vin: str = CAR) -> FakeRecord:
    value = predictions.encode([vin.encode()], [score], boot=boot)[0]
    return FakeRecord(PREDICTIONS, 0, offset, vin.encode(), value)


def message(topic: str, offset: int, content: Any) -> FakeRecord:
    return FakeRecord(topic, 0, offset, content.vin.encode(), encode(content))


def alert(offset: int, number: int, action: AlertAction, vin: str = CAR) -> FakeRecord:
    content = Alert(
        id=f"alert-{number}", vin=vin, kind="cooling", action=action, severity="critical",
        advice="Stop.", evidence_partition=0, evidence_offset=4, boot=1, seq=2, time=1000 + offset,
        due=4, score=5.0, threshold=1.0, model="autoencoder", version=3, signals=["coolant_temp"],
    )  # fmt: skip
    return message(ALERTS, offset, content)


def response(offset: int, status: CommandState, number: int = 1, vin: str = CAR) -> FakeRecord:
    content = CommandResponse(f"command-{number}", vin, status, time=offset, reason=status.lower())
    return message(COMMANDS_STATUS, offset, content)


def request(offset: int, number: int = 1, vin: str = CAR) -> FakeRecord:
    content = CommandRequest(f"command-{number}", vin, "driver_warning", number, 9, {"kind": "x"})
    return message(COMMANDS, offset, content)


def birth(offset: int, boot: int, connection: int, online: bool, vin: str = CAR) -> FakeRecord:
    content = VehicleStatus(vin, boot, connection, online, "127.0.0.1:1883", f"fw-{offset}")
    return message(STATUS, offset, content)


def trouble(offset: int, boot: int, vin: str = CAR) -> FakeRecord:
    content = DiagnosticTroubleCode(vin, boot, "P0217", "coolant_leak", time=offset, due=1)
    return message(DTC, offset, content)


def write(store: Store, records: list[FakeRecord], log: Log | None = None) -> None:
    into = fold(log)
    for record in records:
        batch: Any = [record]
        into.add(batch)
    store.write(into.take(), {})


def test_the_newest_telemetry_by_boot_and_seq_stays(store: Store) -> None:
    write(store, [telemetry(0, 1, 9), telemetry(1, 2, 1), telemetry(2, 1, 10)])
    (row,) = store.rows(twin_store.vehicle)
    assert (row["boot"], row["seq"]) == (2, 1)


def test_an_absent_signal_is_absent(store: Store) -> None:
    write(store, [telemetry(0, 1, 1, missing="oil_temp")])
    signals = twin_query.show(store, CAR, CATALOGUE)["telemetry"]["signals"]
    assert set(signals) == set(CATALOGUE.names) - {"oil_temp"}
    assert signals["speed"] == 1.0


def test_a_late_will_does_not_bury_a_newer_birth(store: Store) -> None:
    write(store, [birth(0, 1, 1, True), birth(1, 2, 1, True), birth(2, 1, 1, False)])
    (row,) = store.rows(twin_store.connection)
    assert (row["boot"], row["offline"]) == (2, False)


def test_the_will_of_a_connection_ends_it(store: Store) -> None:
    write(store, [birth(0, 1, 1, False), birth(1, 1, 1, True)])
    assert store.rows(twin_store.connection)[0]["offline"] is True


def test_the_first_final_state_of_a_command_stays(store: Store) -> None:
    states = [CommandState.IN_PROGRESS, CommandState.TIMED_OUT, CommandState.SUCCEEDED]
    write(store, [response(offset, state) for offset, state in enumerate(states)])
    assert store.rows(twin_store.command_status)[0]["status"] == "TIMED_OUT"


def test_a_message_that_was_not_scored_says_why(store: Store) -> None:
    write(store, [prediction(0, 1, float("nan"))])
    health = twin_query.show(store, CAR, CATALOGUE)["health"]
    assert health["score"] is None
    assert health["reason"] == "no model is live yet"


EVERYTHING = st.lists(
    st.tuples(
        st.sampled_from(["telemetry", "prediction", "alert", "birth", "command", "answer", "dtc"]),
        st.sampled_from([CAR, OTHER]),
        st.integers(1, 3),
        st.integers(1, 3),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)


def record_of(offset: int, what: str, vin: str, a: int, b: int, flag: bool) -> FakeRecord:
    if what == "telemetry":
        return telemetry(offset, a, b, vin)
    if what == "prediction":
        return prediction(offset, a, float(b), vin)
    if what == "alert":
        return alert(offset, a, AlertAction.RAISED if flag else AlertAction.CLEARED, vin)
    if what == "birth":
        return birth(offset, a, b, flag, vin)
    if what == "command":
        return request(offset, a, vin)
    if what == "answer":
        return response(offset, list(CommandState)[(b + flag) % 5], a, vin)
    return trouble(offset, a, vin)


@settings(max_examples=60)
@given(story=EVERYTHING, seed=st.integers(0, 999))
def test_replays_repeats_and_reorders_end_in_the_same_twin(
    story: list[tuple[str, str, int, int, bool]], seed: int
) -> None:
    records = [record_of(offset, *event) for offset, event in enumerate(story)]
    dice = random.Random(seed)
    shuffled = records + dice.choices(records, k=len(records))
    dice.shuffle(shuffled)
    straight, crooked = Store("sqlite://"), Store("sqlite://")
    write(straight, records)
    while shuffled:
        size = dice.randint(1, 8)
        write(crooked, shuffled[:size])
        shuffled = shuffled[size:]
    assert differences(straight, crooked) == []
    straight.close()
    crooked.close()


def test_postgresql_understands_every_upsert() -> None:
    dialect: type[Dialect] = postgresql.dialect
    for table, order in twin_store.ORDER.items():
        statement = twin_store._upsert(postgresql.insert, table, order)
        text = str(statement.compile(dialect=dialect()))
        assert "ON CONFLICT" in text
        assert "DO UPDATE SET" in text
        assert " WHERE (excluded." in text


def test_two_twins_that_differ_say_where(store: Store) -> None:
    other = Store("sqlite://")
    write(store, [telemetry(0, 1, 1)])
    write(other, [telemetry(0, 1, 1), birth(0, 1, 1, True)])
    (found,) = differences(store, other)
    assert found.startswith(f"connection ('{CAR}',): None is not ")
    other.close()


@pytest.mark.parametrize(
    ("topic", "value"),
    [
        (TELEMETRY, b"{}"),
        (TELEMETRY, b"\0\0\0\0\2short"),
        (TELEMETRY, telemetry(0, 1, 1).value.replace(CAR.encode(), NOT_ASCII)),
        (TELEMETRY, telemetry(0, 1, 1).value.replace(CAR.encode(), NUL)),
        (PREDICTIONS, prediction(0, 1, 2.0).value.replace(CAR.encode(), NOT_ASCII)),
        (PREDICTIONS, b"\0\0\0\0\1"),
        (STATUS, b""),
        (STATUS, b'{"vin": 7}'),
        (STATUS, encode(VehicleStatus(OTHER, 1, 1, True, "a:1"))),
        (STATUS, encode(VehicleStatus(CAR, 1 << 63, 1, True, "a:1"))),
        (STATUS, encode(VehicleStatus(CAR, 1, 1, True, "a:1", "\0"))),
        (DTC, encode(DiagnosticTroubleCode(CAR, 1, "P" * 17, "x", 1, 1))),
        (PREDICTIONS, prediction(0, 1, 2.0).value[:-12]),
        (DTC, b"\xff"),
        (COMMANDS_STATUS, b'{"id":"x","vin":"y","status":"DONE","time":1}'),
        (ALERTS, b"null"),
        (COMMANDS, None),
    ],
)
def test_what_does_not_decode_is_reported_once_and_the_rest_goes_on(
    store: Store, topic: str, value: Any
) -> None:
    log = Log()
    bad = FakeRecord(topic, 0, 7, CAR.encode(), value)
    write(store, [bad, bad, telemetry(8, 1, 1)], log)
    assert [line["offset"] for line in log.lines] == [7]
    assert len(store.rows(twin_store.vehicle)) == 1
    assert store.rows(twin_store.connection) == []


def test_a_bad_record_does_not_take_its_batch_with_it(store: Store) -> None:
    into = fold()
    batch: Any = [telemetry(0, 1, 1), telemetry(1, 1, 2)._replace(value=b"x"), telemetry(2, 1, 3)]
    into.add(batch)
    store.write(into.take(), {Position(TELEMETRY, 0): 3})
    assert store.rows(twin_store.vehicle)[0]["seq"] == 3
    assert store.positions() == {Position(TELEMETRY, 0): 3}


def test_one_car_as_a_person_sees_it(store: Store) -> None:
    records = [telemetry(0, 1, 1), prediction(1, 1, 5.0), birth(2, 1, 1, True), trouble(3, 1)]
    records += [alert(4, 1, AlertAction.RAISED), alert(5, 2, AlertAction.RAISED)]
    records += [alert(6, 1, AlertAction.CLEARED), request(7), response(8, CommandState.SUCCEEDED)]
    write(store, records)
    found = twin_query.show(store, CAR, CATALOGUE)
    assert [entry["id"] for entry in found["alerts"]] == ["alert-2"]
    assert found["command"]["status"] == "SUCCEEDED"
    assert found["health"]["contributions"][0] == {"signal": "coolant_temp", "share": 0.7}
    assert found["connection"]["online"] is True
    assert json.loads(json.dumps(found)) == found
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(twin_query.render(found, CATALOGUE))
    text = console.export_text()
    for expected in (CAR, "online", "critical cooling", "P0217", "SUCCEEDED", "coolant_temp", "°C"):
        assert expected in text


def test_an_unknown_car_is_answered_with_near_ones(store: Store) -> None:
    write(store, [telemetry(0, 1, 1), telemetry(1, 1, 1, OTHER)])
    with pytest.raises(twin_query.UnknownVehicleError, match=CAR):
        twin_query.show(store, "MC9AAT5E7T0000007", CATALOGUE)


def test_an_empty_twin_says_so(store: Store) -> None:
    with pytest.raises(twin_query.UnknownVehicleError, match="none yet"):
        twin_query.show(store, CAR, CATALOGUE)


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////no/such/folder/twin.db", "oracle://x"])
def test_a_database_that_cannot_be_opened_is_named(url: str) -> None:
    with pytest.raises(TwinError, match=r"cannot be opened|does not know"):
        Store(url)


def test_asking_for_a_car_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(TwinError, match="There is no twin"):
        Settings(data_dir=tmp_path).open(create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def old(tmp_path: Path) -> str:
    """A database whose table of telemetry has the columns of another version."""
    url = f"sqlite:///{tmp_path}/twin.db"
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE vehicle (vin VARCHAR(17) PRIMARY KEY, json TEXT)")
        connection.exec_driver_sql("INSERT INTO vehicle VALUES ('x', '{}')")
    engine.dispose()
    return url


def test_a_database_of_another_version_is_refused_in_one_line(old: str, tmp_path: Path) -> None:
    with pytest.raises(TwinError) as refused:
        Settings(data_dir=tmp_path).open()
    said = str(refused.value)
    assert "\n" not in said
    for part in (old, "table vehicle", "json", "record", "motorcade twin rebuild"):
        assert part in said


def test_a_rebuild_heals_a_database_of_another_version(old: str, tmp_path: Path) -> None:
    healed = Settings(data_dir=tmp_path).open(check=False)
    healed.clear()
    write(healed, [telemetry(0, 1, 1)])
    healed.close()
    again = Store(old)
    assert [row["vin"] for row in again.rows(twin_store.vehicle)] == [CAR]
    again.close()


def test_a_table_with_other_keys_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/twin.db"
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE telemetry_schema (id BIGINT, definition TEXT)")
    engine.dispose()
    with pytest.raises(TwinError, match="keys of table telemetry_schema are none"):
        Store(url)


async def test_records_count_once_they_are_written(store: Store, tmp_path: Path) -> None:
    def counted() -> float:
        return REGISTRY.get_sample_value("motorcade_twin_records_total", labels) or 0.0

    labels = {"topic": TELEMETRY}
    intake = Intake(Settings(data_dir=tmp_path), AVRO, fold())
    before = counted()
    batch: Any = [telemetry(0, 1, 1), telemetry(1, 1, 2)]
    await intake.add(batch)
    assert counted() == before
    await intake.write(store, {})
    assert counted() == before + 2
    await intake.write(store, {})
    assert counted() == before + 2
