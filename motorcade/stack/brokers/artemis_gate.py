"""Runs a node of an Artemis cluster whose MQTT listener opens once it knows its neighbours.

A node that comes back knows nothing yet of the subscriptions on the others: what it took in those
moments it would acknowledge and deliver to nobody. So its listener does not start by itself; a
process beside it probes every neighbour, opens the listener and ends.

Run as `python -m motorcade.stack.brokers.artemis_gate [--login FILE] PORT NEIGHBOUR… -- COMMAND…`,
the ports being those of the nodes' core listeners and the file YAML with username and password. It
replaces itself with the command.
"""

import asyncio
import os
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import yaml

from motorcade.stack.brokers.artemis_management import (
    FAILURES,
    Login,
    Stomp,
    attribute,
    operate,
    talking,
)
from motorcade.stack.brokers.base import Endpoint
from motorcade.stack.ports import LOOPBACK

ACCEPTOR = "acceptor.mqtt"
_POLL_S = 0.1
#: A neighbour that lives but does not hear us for so long shall not keep this node shut.
_PROBE_S = 30.0
_START_S = 180.0


async def open_when_known(
    own: Endpoint, neighbours: Sequence[Endpoint], node_pid: int, login: Login
) -> None:
    """Start a node's MQTT listener when the subscriptions on its living neighbours are known.

    Args:
        own, neighbours: core listeners.
        node_pid: the node's process; when it is gone there is nothing left to do.
        login: user name and password for them; None where they ask for none.
    """
    deadline = time.monotonic() + _START_S
    while await attribute(own, ACCEPTOR, "name", login) is None:
        if time.monotonic() > deadline or not _runs(node_pid):
            return
        await asyncio.sleep(_POLL_S)
    await asyncio.gather(*(_known(own, neighbour, login) for neighbour in neighbours))
    while _runs(node_pid) and await attribute(own, ACCEPTOR, "started", login) is not True:
        await operate(own, ACCEPTOR, "start", login)
        await asyncio.sleep(_POLL_S)


async def _known(own: Endpoint, neighbour: Endpoint, login: Login) -> None:
    """Return when all subscriptions on a neighbour are known to the node, or it does not live.

    A neighbour tells of its subscriptions in one go when it is reached, and then of each new one,
    in order. The first probe may come through in the midst of that; the second, subscribed to after
    the first was heard, comes after all of it.
    """
    try:
        async with talking(neighbour, login, _PROBE_S) as there:
            for _ in range(2):
                await _crosses(own, there, login)
    except FAILURES:
        return


async def _crosses(own: Endpoint, there: Stomp, login: Login) -> None:
    address = f"motorcade.probe.{uuid.uuid4().hex}"
    there.subscribe(address, "MULTICAST")
    heard = asyncio.create_task(there.frame("MESSAGE"))
    async with talking(own, login, _PROBE_S) as here:
        while not heard.done():
            here.send_frame("SEND", destination=address, destination_type="MULTICAST")
            await asyncio.wait([heard], timeout=_POLL_S)
    await heard


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def main(arguments: list[str]) -> None:
    """Leave the gatekeeper behind and become the node."""
    login = None
    if arguments[0] == "--login":
        found = yaml.safe_load(Path(arguments[1]).read_text())
        login = found["username"], found["password"]
        arguments = arguments[2:]
    split = arguments.index("--")
    own, *neighbours = (Endpoint(LOOPBACK, int(port)) for port in arguments[:split])
    node_pid = os.getpid()
    # Forked twice: it is no child of the node, which would not take note of its end.
    if os.fork() == 0:
        if os.fork() == 0:
            asyncio.run(open_when_known(own, neighbours, node_pid, login))
        os._exit(0)
    os.wait()
    command = arguments[split + 1 :]
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
