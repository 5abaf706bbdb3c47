"""Trains in a process of its own, with its progress on the demo's screen."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import aiohttp

from motorcade.stack.errors import StackError
from motorcade.stack.ports import LOOPBACK
from motorcade.stack.screen import Stage

_SWAP_S = 120
_POLL_S = 0.25
_GAUGE = "motorcade_model_version "


async def train(environment: Mapping[str, str], stage: Stage, *, epochs: int) -> dict[str, Any]:
    """Run `motorcade train autoencoder` on all telemetry up to now.

    Returns:
        The manifest of the trained model.

    Raises:
        StackError: training failed; says what it said.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "motorcade.stack.cli",
        "train",
        "autoencoder",
        "--progress-json",
        f"--epochs={epochs}",
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    said = asyncio.create_task(process.stderr.read())
    manifest: dict[str, Any] = {}
    try:
        async for line in process.stdout:
            news = json.loads(line)
            if "phase" in news:
                stage.done, stage.total = news["done"], news["total"]
                stage.detail = f"{news['phase']} {news['detail']}".strip()
            manifest = news.get("trained", manifest)
        status = await process.wait()
    except BaseException:
        process.kill()
        raise
    if status:
        words = (await said).decode(errors="replace").strip()
        raise StackError(
            f"Training failed: {words.splitlines()[-1] if words else f'exit status {status}'}"
        )
    return manifest


async def until_live(port: int, version: int) -> None:
    """Wait until the scorer scores with a version of the model.

    Raises:
        StackError: it does not within two minutes.
    """
    async with aiohttp.ClientSession() as session:
        try:
            async with asyncio.timeout(_SWAP_S):
                while await _live(session, port) < version:
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise StackError(
                f"The scorer has not taken version {version} within {_SWAP_S} s.",
                "motorcade logs score tells why.",
            ) from None


async def _live(session: aiohttp.ClientSession, port: int) -> int:
    try:
        async with session.get(f"http://{LOOPBACK}:{port}/metrics") as response:
            text = await response.text()
    except aiohttp.ClientError:
        return 0
    values = [line for line in text.splitlines() if line.startswith(_GAUGE)]
    return int(float(values[0].split()[1])) if values else 0
