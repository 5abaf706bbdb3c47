"""A connection that is cut: for how long, and at any moment of its making."""

import asyncio
from typing import Any

import pytest

from motorcade.runtime import mqtt_link, mqtt_packets
from motorcade.runtime.mqtt import MqttSession

ACCEPTED = b"\x00\x00\x00"


class FakeConnection:
    """Stands for Connection: opens when the test lets it, and remembers what became of it."""

    made: list["FakeConnection"]
    may_open: asyncio.Event

    def __init__(self, link: Any) -> None:
        self.link = link
        self.aborted = False
        self.congested = False
        self.written: list[bytes] = []
        self.made.append(self)

    async def open(self, *_: object) -> None:
        await self.may_open.wait()

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def keep_alive(self, _keepalive_s: int) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True

    def accept(self) -> None:
        self.link.arrived(mqtt_packets.CONNACK, ACCEPTED)


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> MqttSession:
    FakeConnection.made = []
    FakeConnection.may_open = asyncio.Event()
    FakeConnection.may_open.set()
    monkeypatch.setattr(mqtt_link, "Connection", FakeConnection)
    monkeypatch.setattr(mqtt_link, "_backoff_s", lambda _attempt: 0.0)
    return MqttSession("car", "127.0.0.1:1883", clean_start=True)


async def connected(session: MqttSession) -> None:
    connecting = asyncio.create_task(session.connect(5))
    await turns()
    FakeConnection.made[-1].accept()
    await connecting


async def test_a_drop_does_not_shorten_a_tunnel(session: MqttSession) -> None:
    await connected(session)
    session.cut(away_s=60)
    session.cut()
    await turns()
    assert len(FakeConnection.made) == 1  # no attempt while there is no network
    await session.drop()


async def test_a_cut_ends_a_handshake_and_the_session_comes_back_after_it(
    session: MqttSession,
) -> None:
    await connected(session)
    session.cut()
    await turns()
    second = FakeConnection.made[1]
    assert second.written  # its CONNECT
    session.cut()
    await turns()
    assert second.aborted
    FakeConnection.made[2].accept()
    await turns()
    assert session.connected
    await session.drop()


async def test_a_cut_ends_a_connection_whose_socket_is_not_open_yet(session: MqttSession) -> None:
    await connected(session)
    FakeConnection.may_open.clear()
    session.cut()
    await turns()
    session.cut(away_s=60)
    FakeConnection.may_open.set()
    await turns()
    second = FakeConnection.made[1]
    assert second.aborted
    assert not second.written
    await session.drop()


async def test_a_connection_lost_right_after_its_connack_is_no_connection(
    session: MqttSession,
) -> None:
    connecting = asyncio.create_task(session.connect(5, retry=True))
    await turns()
    first = FakeConnection.made[0]
    first.accept()
    session.closed(None)  # in the same turn of the loop
    await turns()
    assert not session.connected
    FakeConnection.made[1].accept()
    await connecting
    assert session.connected
    await session.drop()
