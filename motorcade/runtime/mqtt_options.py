"""What an MQTT session is told by its owner: credentials, and the will it leaves."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import yaml

from motorcade.fleet.errors import SettingsError


class Credentials(NamedTuple):
    """Username and password of a client."""

    username: str
    password: str

    @classmethod
    def load(cls, path: Path | None) -> "Credentials | None":
        """Read a YAML file with `username` and `password`; None without a file.

        Raises:
            SettingsError: the file cannot be read or lacks one of them.
        """
        if path is None:
            return None
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            return cls(str(content["username"]), str(content["password"]))
        except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError) as error:
            raise SettingsError(
                f"The credentials file {path} cannot be used: {error!r}.",
                "It must be YAML with username and password.",
            ) from error


class Will(NamedTuple):
    """What the broker publishes when the connection ends without a DISCONNECT."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    properties: Mapping[str, Any] = MappingProxyType({})
