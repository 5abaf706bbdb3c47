"""Somebody's own Kafka that asks for a login, TLS or a certificate."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from motorcade.fleet.errors import MotorcadeError, UnreachableError
from motorcade.fleet.settings import ProcessSettings
from motorcade.fleet.topics import Topic
from motorcade.ml.reading.ranges import OffsetRange, range_client, values_of
from motorcade.runtime.kafka import admin, partitions_of, producer, read_all, started
from motorcade.runtime.kafka import consumer as consumer_of
from motorcade.runtime.kafka_access import KafkaAccess, KafkaRefused
from motorcade.simulator.audit.verdict import Outcome, Scope
from motorcade.stack import kafka as kafka_server
from motorcade.stack import topics
from motorcade.stack.settings import StackSettings

from .guarded_kafka import GUEST, PASSWORD, GuardedKafka, guarded
from .servers import BrokerServer
from .test_load_external import CARS, TEMPLATE, Run, somebodys_bridge

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def theirs(
    stack_settings: StackSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GuardedKafka]:
    """Their Kafka."""
    with guarded(stack_settings, tmp_path_factory.mktemp("theirs")) as found:
        yield found


@pytest.fixture(
    params=["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "SCRAM without TLS", "a certificate"]
)
def allowed(theirs: GuardedKafka, request: pytest.FixtureRequest) -> ProcessSettings:
    """Settings with which one gets in."""
    ca = theirs.security.ca
    if request.param == "a certificate":
        return ProcessSettings(kafka=theirs.mutual, kafka_ca=ca, kafka_cert=theirs.certificate)
    if request.param == "SCRAM without TLS":
        return ProcessSettings(kafka=theirs.bare, kafka_credentials=theirs.credentials())
    mechanism = "" if request.param == "SCRAM-SHA-512" else request.param
    return ProcessSettings(
        kafka=theirs.login, kafka_ca=ca, kafka_credentials=theirs.credentials(mechanism)
    )


async def test_topics_are_made_written_and_read_by_both_clients_with_what_kafka_asks_for(
    allowed: ProcessSettings, unique: str
) -> None:
    access = KafkaAccess.of(allowed)
    assert await kafka_server.ready(allowed.kafka, access)
    assert await topics.create(allowed.kafka, [Topic(unique, 1)], access=access) == [unique]
    async with started(producer(allowed), allowed) as client:
        await client.send_and_wait(unique, b"one", key=b"k")
    found = [r.value async for batch in read_all(allowed, [unique]) for r in batch]
    with range_client(allowed) as client:
        [by_range] = values_of(client, OffsetRange(unique, 0, 0, 1), batch=10)
    asking = admin(allowed)
    await asking.start()
    try:
        assert unique in await asking.list_topics()
    finally:
        await asking.close()
    assert found == by_range.values == [b"one"]


def _refused(theirs: GuardedKafka) -> dict[str, tuple[ProcessSettings, str]]:
    ca = theirs.security.ca
    wrong = theirs.credentials(password="wrong")
    right = theirs.credentials()
    other = Path(theirs.security.server)  # no authority
    return {
        "a wrong password": (
            ProcessSettings(kafka=theirs.login, kafka_ca=ca, kafka_credentials=wrong),
            rf"refuses the login of 'fleet' by SCRAM-SHA-512\. .*{wrong}",
        ),
        "a mechanism that is not taken": (
            ProcessSettings(kafka=theirs.bare, kafka_credentials=theirs.credentials("PLAIN")),
            r"takes no login by PLAIN\. Set mechanism in ",
        ),
        "an authority that did not sign": (
            ProcessSettings(kafka=theirs.login, kafka_ca=other, kafka_credentials=right),
            r"No TLS with Kafka at .*(certificate|issuer).*kafka_ca",
        ),
        "no certificate": (
            ProcessSettings(kafka=theirs.mutual, kafka_ca=ca),
            r"No TLS with Kafka at .*CERTIFICATE.*kafka_cert",
        ),
        "a login where none is asked for": (
            ProcessSettings(kafka=theirs.plain, kafka_credentials=right),
            r"asks for no login at this port\. Leave the credentials",
        ),
        "no TLS": (
            ProcessSettings(kafka=theirs.login),
            r"closes the connection\. Its port may ask for TLS \(kafka_ca\)",
        ),
        "no login": (
            ProcessSettings(kafka=theirs.bare),
            r"closes the connection\. .*login \(kafka_credentials\)",
        ),
        "TLS where none is spoken": (
            ProcessSettings(kafka=theirs.plain, kafka_ca=ca),
            r"closes the connection\. .*or for none of them",
        ),
    }


@pytest.mark.parametrize(
    "case",
    [
        "a wrong password",
        "a mechanism that is not taken",
        "an authority that did not sign",
        "no certificate",
        "a login where none is asked for",
        "no TLS",
        "no login",
        "TLS where none is spoken",
    ],
)
async def test_why_kafka_lets_nobody_in_is_said_at_once(theirs: GuardedKafka, case: str) -> None:
    settings, words = _refused(theirs)[case]
    began = time.monotonic()
    with pytest.raises(MotorcadeError, match=words) as refused:
        async with started(consumer_of(settings), settings):
            pass
    stays = "closes the connection" not in words
    assert isinstance(refused.value, KafkaRefused if stays else UnreachableError)
    assert PASSWORD not in str(refused.value)
    access = KafkaAccess.of(settings)
    if access.asked:  # the other client would try until its time is over
        with pytest.raises(MotorcadeError, match=words):
            await topics.create(settings.kafka, [Topic("never", 1)], access=access)
        with pytest.raises(MotorcadeError, match=words), range_client(settings):
            pass
    assert time.monotonic() - began < 15


async def test_a_login_without_rights_is_told_so_and_for_what(
    theirs: GuardedKafka, unique: str
) -> None:
    settings = ProcessSettings(
        kafka=theirs.login,
        kafka_ca=theirs.security.ca,
        kafka_credentials=theirs.credentials(user=GUEST),
    )
    await topics.create(theirs.plain, [Topic(unique, 1)])
    with pytest.raises(KafkaRefused, match=rf"does not allow what is asked: .*{unique}"):
        async with started(consumer_of(settings), settings) as client:
            await partitions_of(client, unique)
    with pytest.raises(KafkaRefused, match="does not allow what is asked"):
        async with started(producer(settings), settings) as client:
            await client.send_and_wait(unique, b"one")


def _external(theirs: GuardedKafka, credentials: Path) -> tuple[str, ...]:
    return (
        f"target.kafka={theirs.login}",
        f"target.kafka_ca={theirs.security.ca}",
        f"target.kafka_credentials={credentials}",
    )


async def test_a_load_run_is_audited_in_a_kafka_with_login_and_tls_whose_password_stays_unseen(
    mosquitto: BrokerServer, theirs: GuardedKafka, tmp_path: Path, unique: str
) -> None:
    template = tmp_path / "payload.json"
    template.write_text(TEMPLATE)
    run = Run(
        "steady",
        tmp_path,
        mosquitto,
        "stages.0.seconds=2s",
        *_external(theirs, theirs.credentials()),
        f"target.kafka_topic={unique}",
        "target.topic=plant/{vin}/data",
        f"target.payload_template={template}",
        "target.vin_at=$.head.vehicle",
        "target.seq_at=$.head.n",
    )
    async with somebodys_bridge(mosquitto, theirs.plain, unique, loses=0):
        finished = await run.finish()
    verdict = finished.verdict
    assert verdict.scope is Scope.RAW
    assert verdict.outcome is Outcome.PASS, verdict.checks
    assert verdict.accounts.raw == verdict.accounts.sent > CARS
    assert any(len(s.kafka.latencies_ms) for s in finished.samples if s.kafka)
    assert PASSWORD not in run.words.getvalue()


def test_a_load_run_with_a_wrong_password_ends_with_one_line_before_any_car_connects(
    mosquitto: BrokerServer, theirs: GuardedKafka, tmp_path: Path
) -> None:
    wrong = theirs.credentials(password="wrong")
    changes = (
        "target.stack=external",
        f"target.broker_url=mqtt://{mosquitto.host}:{mosquitto.port}",
        *_external(theirs, wrong),
        "fleet.cars=20",
        "stages.0.seconds=3s",
    )
    said = subprocess.run(
        [sys.executable, "-m", "motorcade.stack.cli", "load", "steady"]
        + [part for change in changes for part in ("--set", change)]
        + ["--state", str(tmp_path / "state")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode == 1
    assert said.stderr.startswith(f"Error: Kafka at {theirs.login} refuses the login of 'fleet'")
    assert str(wrong) in said.stderr
    assert said.stderr.count("\n") == 1
    assert "wrong" not in said.stderr.replace(str(wrong), "")
    assert not (tmp_path / "state" / "load").exists()


def test_a_process_with_a_wrong_password_ends_with_its_reason(
    theirs: GuardedKafka, tmp_path: Path
) -> None:
    wrong = theirs.credentials(password="wrong")
    said = subprocess.run(
        [sys.executable, "-m", "motorcade.stack.cli", "bridge"],
        env={
            "MOTORCADE_KAFKA": theirs.login,
            "MOTORCADE_KAFKA_CA": str(theirs.security.ca),
            "MOTORCADE_KAFKA_CREDENTIALS": str(wrong),
            "MOTORCADE_DATA_DIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode == 1, said.stderr
    assert "refuses the login of 'fleet' by SCRAM-SHA-512" in said.stderr
    assert "Traceback" not in said.stderr
