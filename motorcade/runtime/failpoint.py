"""Failpoints: named places where a test can have the process killed as if by SIGKILL."""

import os
import signal

from pydantic_settings import BaseSettings, SettingsConfigDict


class _FailpointSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="MOTORCADE_", extra="ignore")

    #: "name:n" kills this process at the n-th pass of that failpoint.
    failpoint: str = ""


def _armed() -> tuple[str, int]:
    name, _, count = _FailpointSettings().failpoint.partition(":")
    return name, int(count or 1)


_name, _remaining = _armed()


def failpoint(name: str) -> None:
    """Pass a failpoint; costs one comparison where none is armed."""
    if not _name or name != _name:
        return
    global _remaining  # noqa: PLW0603 - the count belongs to the process, as the kill does
    _remaining -= 1
    if _remaining <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
