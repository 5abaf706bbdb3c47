"""What an MQTT session is told by its owner: how to reach the broker, and the will it leaves."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict

from motorcade.fleet.settings import ProcessSettings
from motorcade.runtime.mqtt_credentials import Credentials
from motorcade.runtime.tls import Tls

__all__ = ["Access", "Credentials", "Tls", "Will", "access"]


class Access(TypedDict):
    """The arguments of `MqttSession` that every session of a process shares."""

    tls: Tls | None
    credentials: Credentials | None


def access(settings: ProcessSettings) -> Access:
    """Read once what the settings name: `MqttSession(client_id, endpoint, **access(settings))`.

    Raises:
        SettingsError: a certificate, key or credentials file cannot be used.
    """
    return Access(
        tls=Tls.load(settings.mqtt_ca, settings.mqtt_cert, settings.mqtt_key),
        credentials=Credentials.load(settings.mqtt_credentials),
    )


class Will(NamedTuple):
    """What the broker publishes when the connection ends without a DISCONNECT."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    properties: Mapping[str, Any] = MappingProxyType({})
