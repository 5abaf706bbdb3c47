"""Talks to one Artemis node over STOMP, a protocol of text lines: management, and probes.

Artemis counts nothing under $SYS, and its own tool is a virtual machine that takes seconds and two
hundred megabytes for one number.
"""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from motorcade.stack.brokers.base import Endpoint

_END = b"\x00"
#: What a conversation may end with: the node is away, or says something else than expected.
FAILURES = (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError)

Login = tuple[str, str] | None


class Stomp:
    """A connection to a node."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._subscriptions = 0

    def subscribe(self, address: str, kind: str) -> None:
        """Listen to an address; kind is ANYCAST (a queue) or MULTICAST (everyone a copy)."""
        self._subscriptions += 1
        number = str(self._subscriptions)
        self.send_frame("SUBSCRIBE", id=number, destination=address, subscription_type=kind)

    def send_frame(self, command: str, body: str = "", **headers: str) -> None:
        """Send a frame; an underscore within a header's name stands for a hyphen."""
        names = (
            (name if name.startswith("_") else name.replace("_", "-"), value)
            for name, value in headers.items()
        )
        lines = [command, *(f"{name}:{value}" for name, value in names), "", body]
        self._writer.write("\n".join(lines).encode() + _END)

    async def frame(self, wanted: str) -> tuple[dict[str, str], bytes]:
        """The next frame.

        Raises:
            ValueError: it is of another kind than wanted.
        """
        frame = (await self._reader.readuntil(_END))[: -len(_END)].lstrip(b"\r\n")
        head, _, body = frame.partition(b"\n\n")
        command, *lines = head.decode().splitlines()
        if command != wanted:
            raise ValueError(frame.decode(errors="replace"))
        return dict(line.split(":", 1) for line in lines), body


@asynccontextmanager
async def talking(
    node: Endpoint, login: Login = None, timeout_s: float = 10
) -> AsyncIterator[Stomp]:
    """A conversation with a node, at its listener that speaks STOMP.

    Raises:
        OSError, TimeoutError, IncompleteReadError, ValueError: it does not answer, or refuses.
    """
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(node.host, node.port)
        try:
            stomp = Stomp(reader, writer)
            user = {"login": login[0], "passcode": login[1]} if login else {}
            stomp.send_frame("CONNECT", accept_version="1.2", host="artemis", **user)
            await stomp.frame("CONNECTED")
            yield stomp
            stomp.send_frame("DISCONNECT")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def attribute(node: Endpoint, resource: str, name: str, login: Login = None) -> Any:
    """An attribute of a managed resource, such as ("queue.orders", "messageCount").

    Args:
        node: a listener of the node that speaks STOMP.
        resource, name: as Artemis' management documentation calls them.
        login: user name and password, where the node asks for them.

    Returns:
        The value; None if the node does not answer or knows no such thing.
    """
    return await _manage(node, login, _AMQ_ResourceName=resource, _AMQ_Attribute=name)


async def operate(node: Endpoint, resource: str, operation: str, login: Login = None) -> None:
    """Carry out an operation without arguments on a managed resource; as `attribute`."""
    await _manage(node, login, _AMQ_ResourceName=resource, _AMQ_OperationName=operation)


async def _manage(node: Endpoint, login: Login, **request: str) -> Any:
    try:
        async with talking(node, login) as stomp:
            replies = f"motorcade.replies.{uuid.uuid4().hex}"
            stomp.subscribe(replies, "ANYCAST")
            # The parameters of an operation, of which there are none.
            body, address = "[]", "activemq.management"
            stomp.send_frame("SEND", body, destination=address, reply_to=replies, **request)
            headers, answer = await stomp.frame("MESSAGE")
    except FAILURES:
        return None
    if headers.get("_AMQ_OperationSucceeded") != "true" or not answer:
        return None
    return json.loads(answer)[0]
