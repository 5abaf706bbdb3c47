"""TLS, certificates, passwords and tokens on a real mosquitto; aliases, tokens and hung brokers."""

import asyncio
import getpass
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jwt
import pytest
import trustme

from motorcade.fleet.errors import UnreachableError
from motorcade.runtime import mqtt_link
from motorcade.runtime.mqtt import (
    Credentials,
    MqttRefused,
    MqttSession,
    MqttUntrusted,
    MqttWindowFull,
    Tls,
)
from motorcade.runtime.mqtt_connection import Connection
from motorcade.runtime.mqtt_credentials import Password
from motorcade.runtime.mqtt_packets import Properties
from motorcade.stack.brokers.mosquitto import find
from motorcade.stack.ports import free_ports
from motorcade.stack.program import Program

from .servers import BrokerServer, launch, pause, resume, wait_ready

VIN = "MC9ABT5E7T0000000"

_CONFIGURATION = """\
per_listener_settings true
user {user}

listener {tls_port} 127.0.0.1
allow_anonymous true
cafile {folder}/ca.pem
certfile {folder}/server.pem
keyfile {folder}/server.key

listener {mutual_port} 127.0.0.1
cafile {folder}/ca.pem
certfile {folder}/server.pem
keyfile {folder}/server.key
require_certificate true
use_identity_as_username true
acl_file {folder}/acl

listener {password_port} 127.0.0.1
allow_anonymous false
password_file {folder}/passwords
"""


@dataclass
class Guarded:
    """A mosquitto that asks who is there, in three ways."""

    folder: Path
    tls: str
    mutual: str
    password: str

    def trust(self, cert: str | None = None) -> Tls:
        found = Tls.load(self.folder / "ca.pem", self.folder / cert if cert else None, None)
        assert found is not None
        return found


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    binary, passwords = find(), shutil.which("mosquitto_passwd")
    if binary is None or passwords is None:
        pytest.skip("mosquitto or mosquitto_passwd is not installed")
    folder = tmp_path_factory.mktemp("guarded")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other-ca.pem")
    server = ca.issue_cert("127.0.0.1", "localhost")
    server.private_key_pem.write_to_path(folder / "server.key")
    server.cert_chain_pems[0].write_to_path(folder / "server.pem")
    ca.issue_cert(common_name=VIN).private_key_and_cert_chain_pem.write_to_path(
        folder / f"{VIN}.pem"
    )
    (folder / "acl").write_text(f"user {VIN}\ntopic readwrite own/{VIN}\n")
    subprocess.run(
        [passwords, "-b", "-c", folder / "passwords", "fleet", "right"],
        check=True,
        capture_output=True,
    )
    ports = free_ports(3)
    (folder / "mosquitto.conf").write_text(
        _CONFIGURATION.format(
            user=getpass.getuser(),
            folder=folder,
            tls_port=ports[0],
            mutual_port=ports[1],
            password_port=ports[2],
        )
    )
    running = launch(
        Program("guarded", (binary, "-c", str(folder / "mosquitto.conf")), cwd=folder), folder
    )
    found = Guarded(folder, *(f"127.0.0.1:{port}" for port in ports))
    wait_ready(lambda: _answers(found), running)
    yield found
    running.stop()


async def _answers(guarded: Guarded) -> bool:
    session = MqttSession("probe", guarded.tls, clean_start=True, tls=guarded.trust())
    try:
        await session.connect(5)
    except UnreachableError:
        return False
    await session.disconnect()
    return True


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_link, "_BACKOFF_BASE_S", 0.05)
    monkeypatch.setattr(mqtt_link, "_BACKOFF_CAP_S", 0.2)


async def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)


async def echo(session: MqttSession, topic: str, payload: bytes) -> list[bytes]:
    """Publishes to a topic of one's own subscription and waits for what comes back."""
    got: list[bytes] = []
    acked: list[int] = []

    def take(s: MqttSession, packet_id: int, _topic: str, data: bytes, _props: Properties) -> None:
        got.append(data)
        s.acknowledge([packet_id], s.generation)

    session.on_message = take
    session.on_puback = lambda _s, _id, code: acked.append(code)
    await session.subscribe([topic])
    session.publish(topic, payload)
    await until(lambda: bool(acked) and (bool(got) or acked[0] >= 0x80))
    return got


async def test_messages_cross_a_tls_connection_also_after_it_was_cut(guarded: Guarded) -> None:
    car = MqttSession("tls-car", guarded.tls, clean_start=True, tls=guarded.trust())
    await car.connect(5)
    large = bytes(range(256)) * 400
    assert await echo(car, "tls/t", large) == [large]
    car.cut()
    await until(lambda: car.connected and car.generation == 2)
    assert await echo(car, "tls/t", b"again") == [b"again"]
    await car.disconnect()


async def test_a_broker_whose_certificate_is_not_trusted_is_not_asked_again(
    guarded: Guarded,
) -> None:
    stranger = Tls.load(guarded.folder / "other-ca.pem", None, None)
    car = MqttSession("car", guarded.tls, clean_start=True, tls=stranger)
    with pytest.raises(MqttUntrusted, match=r"No TLS with the MQTT broker .* certificate"):
        await car.connect(5, retry=True)


async def test_a_broker_of_another_name_is_not_trusted(guarded: Guarded) -> None:
    elsewhere = guarded.tls.replace("127.0.0.1", "127.0.0.2")
    server = await asyncio.start_server(
        lambda r, w: w.close(),
        "127.0.0.2",
        int(elsewhere.rpartition(":")[2]),
        ssl=_server_context(guarded.folder),
    )
    car = MqttSession("car", elsewhere, clean_start=True, tls=guarded.trust())
    with pytest.raises(MqttUntrusted, match=r"127\.0\.0\.2"):
        await car.connect(5)
    server.close()


def _server_context(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context


async def test_with_mutual_tls_a_car_is_who_its_certificate_says(guarded: Guarded) -> None:
    car = MqttSession(VIN, guarded.mutual, clean_start=True, tls=guarded.trust("{vin}.pem"))
    await car.connect(5)
    assert await echo(car, f"own/{VIN}", b"mine") == [b"mine"]
    assert await echo(car, "own/other", b"not mine") == []
    await car.disconnect()


async def test_without_its_certificate_a_car_is_refused_and_told_so(guarded: Guarded) -> None:
    nobody = MqttSession(VIN, guarded.mutual, clean_start=True, tls=guarded.trust())
    with pytest.raises(MqttUntrusted, match="CERTIFICATE_REQUIRED"):
        await nobody.connect(5, retry=True)


async def test_plain_mqtt_on_a_tls_port_and_tls_on_a_plain_one_end_in_a_clear_error(
    guarded: Guarded, mosquitto: BrokerServer
) -> None:
    with pytest.raises(UnreachableError, match=guarded.tls):
        await MqttSession("car", guarded.tls, clean_start=True).connect(5)
    plain = mosquitto.endpoints[0]
    with pytest.raises((UnreachableError, MqttUntrusted), match=plain):
        await MqttSession("car", plain, clean_start=True, tls=guarded.trust()).connect(5)


async def test_the_right_password_opens_and_a_wrong_one_is_refused_for_good(
    guarded: Guarded,
) -> None:
    def car(password: str | None) -> MqttSession:
        credentials = Password("fleet", password) if password else None
        return MqttSession("car", guarded.password, clean_start=True, credentials=credentials)

    right = car("right")
    await right.connect(5)
    assert await echo(right, "password/t", b"x") == [b"x"]
    await right.disconnect()
    for password in ("wrong", None):
        with pytest.raises(MqttRefused, match=r"not authorized \(0x87\)"):
            await car(password).connect(5, retry=True)


class Gate:
    """A server that keeps each CONNECT and answers it with what it is told."""

    def __init__(self, *connacks: bytes) -> None:
        self.connacks = list(connacks)
        self.connects: list[bytes] = []
        self.packets = bytearray()
        self.writer: asyncio.StreamWriter | None = None

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connects.append(await reader.read(4096))
        self.writer = writer
        writer.write(self.connacks.pop(0))
        while data := await reader.read(4096):
            self.packets += data
        writer.close()

    def close(self) -> None:
        self._server.close()
        if self.writer is not None:
            self.writer.close()


def last_texts(connect: bytes) -> tuple[str, str, str]:
    """Client id, user name and password of a CONNECT without a will."""
    at = 2 if connect[1] < 0x80 else 3
    at += 10  # protocol name and version, flags, keepalive
    at += 1 + connect[at]
    found = []
    while at < len(connect):
        size = int.from_bytes(connect[at : at + 2], "big")
        found.append(connect[at + 2 : at + 2 + size].decode())
        at += 2 + size
    return found[0], found[1], found[2]


ACCEPTED = bytes((0x20, 3, 0, 0, 0))


async def test_each_connection_shows_a_fresh_token_also_after_the_last_one_ran_out(
    tmp_path: Path,
) -> None:
    secret = "a secret of more than thirty-two bytes"
    (tmp_path / "key").write_text(secret)
    (tmp_path / "credentials.yaml").write_text(
        "jwt: {key_file: key, algorithm: HS256, audience: fleet, lifetime_s: 60}"
    )
    credentials = Credentials.load(tmp_path / "credentials.yaml")
    gate = Gate(ACCEPTED, ACCEPTED)
    car = MqttSession(VIN, await gate.start(), clean_start=True, credentials=credentials)
    await car.connect(5)
    assert gate.writer is not None
    await asyncio.sleep(1)  # tokens count in seconds
    gate.writer.write(bytes((0xE0, 2, 0x87, 0)))
    gate.writer.close()
    await until(lambda: car.generation == 2 and car.connected)
    claims = []
    for connect in gate.connects:
        client_id, username, token = last_texts(connect)
        claims.append(jwt.decode(token, secret, algorithms=["HS256"], audience="fleet"))
        assert client_id == username == claims[-1]["sub"] == VIN
    assert claims[1]["exp"] > claims[0]["exp"]
    await car.drop()
    gate.close()


async def test_a_password_that_is_no_longer_wanted_is_not_shown_again() -> None:
    gate = Gate(ACCEPTED)
    car = MqttSession(
        VIN, await gate.start(), clean_start=True, credentials=Password("fleet", "right")
    )
    await car.connect(5)
    assert gate.writer is not None
    gate.writer.write(bytes((0xE0, 2, 0x87, 0)))
    await until(lambda: car.ended)
    assert len(gate.connects) == 1
    gate.close()


@pytest.mark.parametrize("reason", [0x9C, 0x9D])
async def test_a_broker_that_refers_to_another_is_not_asked_again_and_the_other_is_named(
    reason: int,
) -> None:
    other = b"\x1c\0\x0bother:1883\0"[:-1]
    properties = bytes((len(other),)) + other
    gate = Gate(bytes((0x20, 2 + len(properties), 0, reason)) + properties)
    car = MqttSession(VIN, await gate.start(), clean_start=True)
    with pytest.raises(MqttRefused, match="it refers to other:1883"):
        await car.connect(5, retry=True)
    assert len(gate.connects) == 1
    gate.close()


@pytest.mark.parametrize("reason", [0x88, 0x89, 0x97, 0x9F])
async def test_a_refusal_that_time_may_heal_is_tried_again(reason: int) -> None:
    gate = Gate(bytes((0x20, 3, 0, reason, 0)), ACCEPTED)
    car = MqttSession(VIN, await gate.start(), clean_start=True)
    await car.connect(5, retry=True)
    assert len(gate.connects) == 2
    await car.drop()
    gate.close()


async def test_topics_become_aliases_as_far_as_the_broker_allows_and_anew_on_each_connection(
    mosquitto: BrokerServer, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mosquitto 2.0 allows ten; it closes the connection of a client that takes an eleventh."""
    watcher = MqttSession(f"watch-{unique}", mosquitto.endpoints[0], clean_start=True)
    got: list[tuple[str, bytes]] = []

    def take(s: MqttSession, packet_id: int, topic: str, data: bytes, _props: Properties) -> None:
        got.append((topic, data))
        s.acknowledge([packet_id] if packet_id else [], s.generation)

    watcher.on_message = take
    await watcher.connect(5)
    await watcher.subscribe([f"{unique}/#"])
    car = MqttSession(
        f"car-{unique}", mosquitto.endpoints[0], clean_start=True, topic_alias_max=100
    )
    await car.connect(5)
    expected = []
    packets: list[bytes] = []
    write = Connection.write

    def note(one: Connection, data: bytes) -> None:
        packets.append(data)
        write(one, data)

    monkeypatch.setattr(Connection, "write", note)
    for generation in (1, 2):
        packets.clear()
        for n in range(36):
            expected.append((f"{unique}/topic-{n % 12}", b"%d-%d" % (generation, n)))
            car.publish(*expected[-1], qos=n % 2)
        named = [unique.encode() in packet for packet in packets]
        assert named == [True] * 12 + ([False] * 10 + [True] * 2) * 2
        await until(lambda: len(got) == len(expected) and car.in_flight == 0)
        assert car.generation == generation
        car.cut()

        def back(before: int = generation) -> bool:
            return car.generation == before + 1 and car.connected

        await until(back)
    assert got == expected
    await car.disconnect()
    await watcher.disconnect()


async def test_a_name_is_looked_up_once_and_each_of_its_addresses_is_tried(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def look_up(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked.append(host)
        await asyncio.sleep(0.01)
        return [(2, 1, 6, "", (address, 0)) for address in ("127.0.0.66", "127.0.0.1")]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    named = guarded.tls.replace("127.0.0.1", "localhost")
    cars = [MqttSession(f"c{n}", named, clean_start=True, tls=guarded.trust()) for n in range(10)]
    await asyncio.gather(*(car.connect(10) for car in cars))
    assert asked == ["localhost"]
    for car in cars:
        await car.disconnect()


async def test_a_hung_broker_is_noticed_by_its_silence(
    own_mosquitto: BrokerServer, unique: str
) -> None:
    car = MqttSession(f"car-{unique}", own_mosquitto.endpoints[0], clean_start=True, keepalive_s=1)
    await car.connect(5)
    await asyncio.sleep(1.5)  # pings keep an idle connection
    assert car.generation == 1
    pause(own_mosquitto.nodes[0])
    try:
        begun = time.monotonic()
        await until(lambda: not car.connected)
        assert time.monotonic() - begun < 3.5
    finally:
        resume(own_mosquitto.nodes[0])
    await until(lambda: car.connected)
    assert car.generation == 2
    await car.disconnect()


async def test_what_a_slow_broker_does_not_read_does_not_pile_up_without_bound(
    own_mosquitto: BrokerServer, unique: str
) -> None:
    car = MqttSession(f"car-{unique}", own_mosquitto.endpoints[0], clean_start=True)
    await car.connect(5)
    pause(own_mosquitto.nodes[0])
    try:
        assert car._connection is not None
        for _ in range(10_000):
            if car._connection.congested:
                break
            car.publish(f"{unique}/t", bytes(1000), qos=0)
            await asyncio.sleep(0)
        with pytest.raises(MqttWindowFull):
            car.publish(f"{unique}/t", b"one more", qos=0)
    finally:
        resume(own_mosquitto.nodes[0])
    await until(lambda: car._connection is not None and not car._connection.congested)
    car.publish(f"{unique}/t", b"", qos=0)
    await car.disconnect()
