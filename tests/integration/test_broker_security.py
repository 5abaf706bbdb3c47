"""A broker that asks for TLS, certificates or passwords lets in whom it should, and no more."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from motorcade.fleet import mqtt_topics
from motorcade.fleet.errors import UnreachableError
from motorcade.fleet.vin import generate_vin
from motorcade.runtime.mqtt import Credentials, MqttRefused, MqttSession
from motorcade.runtime.mqtt_options import Access, Tls
from motorcade.simulator.settings import SimulatorSettings
from motorcade.stack.brokers.security import BRIDGE, CARS, Security, issue_cars
from motorcade.stack.settings import StackSettings

from .pipeline import until
from .servers import BrokerServer, start_artemis, start_mosquitto

CAR, OTHER = generate_vin(1, 0), generate_vin(1, 1)
_NOT_AUTHORIZED = 0x87


@pytest.fixture(params=["mutual_tls", "login"])
def secured(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[BrokerServer, Security]]:
    """A mosquitto that asks for certificates, and one that asks for passwords over TLS."""
    security = Security(tmp_path / "identities", tls=True, **{request.param: True})
    server = start_mosquitto(tmp_path, security=security)
    yield server, security
    server.stop()


def access(security: Security, role: str) -> Access:
    """How a role gets in, as a process reads it from its settings."""
    found = {name: Path(path) for name, path in security.environment(role).items()}
    return Access(
        tls=Tls.load(found.get("MQTT_CA"), found.get("MQTT_CERT"), None),
        credentials=Credentials.load(found.get("MQTT_CREDENTIALS")),
    )


async def test_a_car_may_touch_its_own_topics_only(
    secured: tuple[BrokerServer, Security],
) -> None:
    server, security = secured
    endpoint = server.endpoints[0]
    if security.mutual_tls:
        issue_cars(SimulatorSettings(cars=2, seed=1, mqtt_cert=security.certificate(CARS)))
    bridge = MqttSession("bridge-0", endpoint, clean_start=True, **access(security, BRIDGE))
    heard: list[str] = []

    def take(session: MqttSession, packet_id: int, topic: str, *_: object) -> None:
        heard.append(topic)
        session.acknowledge([packet_id], session.generation)

    bridge.on_message = take
    await bridge.connect(10)
    await bridge.subscribe([f"{mqtt_topics.ROOT}/#"])

    car = MqttSession(CAR, endpoint, clean_start=True, **access(security, CARS))
    codes: dict[int, int] = {}
    car.on_puback = lambda _session, packet_id, code: codes.update({packet_id: code})
    await car.connect(10)
    await car.subscribe([mqtt_topics.topic(CAR, mqtt_topics.COMMAND_REQUEST)])
    own = mqtt_topics.topic(CAR, mqtt_topics.TELEMETRY)
    foreign = mqtt_topics.topic(OTHER, mqtt_topics.TELEMETRY)
    refused, taken = car.publish(foreign, b"a lie"), car.publish(own, b"mine")
    await until(lambda: {refused, taken} <= codes.keys(), what="two PUBACKs")
    assert (codes[refused], codes[taken]) == (_NOT_AUTHORIZED, 0)
    await until(lambda: bool(heard))
    assert heard == [own]
    await car.disconnect()
    await bridge.disconnect()
    assert await server.broker.drops() is not None  # the stack itself gets in, too


async def test_who_cannot_show_who_it_is_stays_out(
    secured: tuple[BrokerServer, Security],
) -> None:
    server, security = secured
    stranger = Access(tls=Tls(security.ca), credentials=None)
    session = MqttSession(CAR, server.endpoints[0], clean_start=True, **stranger)
    with pytest.raises((MqttRefused, UnreachableError)):
        await session.connect(10)
    plain = MqttSession(CAR, server.endpoints[0], clean_start=True)
    with pytest.raises((MqttRefused, UnreachableError)):
        await plain.connect(3)


def test_keys_and_passwords_are_their_owners_alone(
    secured: tuple[BrokerServer, Security], tmp_path: Path
) -> None:
    _, security = secured
    files = [path for path in security.folder.rglob("*") if path.is_file()]
    assert files
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    ssl.create_default_context(cafile=str(security.ca))


@pytest.mark.parametrize("asks", [{"mutual_tls": True}, {"login": True}])
async def test_artemis_asks_for_certificates_or_passwords(
    asks: dict[str, bool], tmp_path: Path, stack_settings: StackSettings
) -> None:
    security = Security(tmp_path / "identities", tls=True, **asks)
    server = await asyncio.to_thread(start_artemis, stack_settings, tmp_path, security=security)
    try:
        session = MqttSession(
            "bridge-0", server.endpoints[0], clean_start=True, **access(security, BRIDGE)
        )
        await session.connect(10)
        await session.disconnect()
        assert await server.broker.drops() == 0
        stranger = Access(tls=Tls(security.ca), credentials=None)
        nobody = MqttSession(CAR, server.endpoints[0], clean_start=True, **stranger)
        with pytest.raises((MqttRefused, UnreachableError)):
            await nobody.connect(10)
    finally:
        server.stop()
