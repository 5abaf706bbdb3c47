"""The gate before the first car: whatever must be ready answers 200."""

import asyncio
import logging
from collections.abc import Sequence

import aiohttp

_log = logging.getLogger(__name__)

_POLL_S = 0.5
_TIMEOUT = aiohttp.ClientTimeout(total=5)


async def released(urls: Sequence[str]) -> None:
    """Wait until every URL answers 200; one that did is not asked again."""
    waiting = list(urls)
    if not waiting:
        return
    _log.info("cars wait for %s", ", ".join(waiting))
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as client:
        while waiting := [url for url in waiting if not await _answers(client, url)]:
            await asyncio.sleep(_POLL_S)


async def _answers(client: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with client.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
