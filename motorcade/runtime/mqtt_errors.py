"""What can go wrong on an MQTT session, with the broker's own reason."""

from gmqtt.mqtt.constants import ConnAckReasonCode, SubAckReasonCode

from motorcade.fleet.errors import MotorcadeError


class MqttRefused(MotorcadeError):  # noqa: N818 - reads as what happened
    """The broker refused a connection or a subscription; its reason code says why."""

    def __init__(self, what: str, reason_code: int, endpoint: str) -> None:
        super().__init__(f"The MQTT broker {endpoint} refused {what}: {_reason(reason_code)}.")
        self.reason_code = reason_code
        self.endpoint = endpoint


class MqttOffline(MotorcadeError):  # noqa: N818 - reads as what happened
    """There is no connection to publish on."""


class MqttWindowFull(MotorcadeError):  # noqa: N818 - reads as what happened
    """As many messages wait for their PUBACK as the broker's receive-maximum allows."""


class MqttTooLarge(MotorcadeError):  # noqa: N818 - reads as what happened
    """A message exceeds the broker's maximum packet size (reason code 0x95 if it were sent)."""


def _reason(code: int) -> str:
    for known in (ConnAckReasonCode, SubAckReasonCode):
        if code in known.__members__.values():
            return f"{known(code).name.lower().replace('_', ' ')} (0x{code:02X})"
    return f"reason code 0x{code:02X}"
