"""Asks one Artemis node about itself: a management request over STOMP, a protocol of text lines.

Artemis counts nothing under $SYS, and its own tool is a virtual machine that takes seconds and two
hundred megabytes for one number.
"""

import asyncio
import contextlib
import json
import uuid
from typing import Any

from motorcade.stack.brokers.base import Endpoint

_END = b"\x00"


async def attribute(
    node: Endpoint,
    resource: str,
    name: str,
    login: tuple[str, str] | None = None,
    timeout_s: float = 10,
) -> Any:
    """An attribute of a managed resource, such as ("queue.orders", "messageCount").

    Args:
        node: a listener of the node that speaks STOMP.
        resource, name: as Artemis' management documentation calls them.
        login: user name and password, where the node asks for them.
        timeout_s: how long it may take.

    Returns:
        The value; None if the node does not answer or knows no such thing.
    """
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(node.host, node.port)
            try:
                return await _ask(reader, writer, resource, name, login)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
        return None


async def _ask(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    resource: str,
    name: str,
    login: tuple[str, str] | None,
) -> Any:
    user = {"login": login[0], "passcode": login[1]} if login else {}
    writer.write(_frame("CONNECT", {"accept-version": "1.2", "host": "artemis", **user}))
    await _answer(reader, b"CONNECTED")
    replies = f"motorcade.replies.{uuid.uuid4().hex}"
    writer.write(
        _frame("SUBSCRIBE", {"id": "0", "destination": replies, "subscription-type": "ANYCAST"})
    )
    writer.write(
        _frame(
            "SEND",
            {
                "destination": "activemq.management",
                "reply-to": replies,
                "_AMQ_ResourceName": resource,
                "_AMQ_Attribute": name,
            },
        )
    )
    headers, body = await _answer(reader, b"MESSAGE")
    writer.write(_frame("DISCONNECT", {}))
    if headers.get("_AMQ_OperationSucceeded") != "true":
        return None
    return json.loads(body)[0]


def _frame(command: str, headers: dict[str, str]) -> bytes:
    lines = [command, *(f"{key}:{value}" for key, value in headers.items()), "", ""]
    return "\n".join(lines).encode() + _END


async def _answer(reader: asyncio.StreamReader, wanted: bytes) -> tuple[dict[str, str], bytes]:
    """The next frame; raises ValueError when it is of another kind."""
    frame = (await reader.readuntil(_END))[: -len(_END)].lstrip(b"\r\n")
    head, _, body = frame.partition(b"\n\n")
    command, *lines = head.split(b"\n")
    if command.strip() != wanted:
        raise ValueError(frame.decode(errors="replace"))
    headers = dict(line.decode().strip().split(":", 1) for line in lines)
    return headers, body
