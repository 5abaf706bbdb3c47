"""What can go wrong on an MQTT session, with the broker's own reason."""

from motorcade.fleet.errors import MotorcadeError
from motorcade.runtime.mqtt_reasons import NOT_AUTHORISED, reason


class MqttRefused(MotorcadeError):  # noqa: N818 - reads as what happened
    """The broker refused a connection or a subscription; its reason code says why.

    Args:
        reference: the other server that the broker names with 0x9C and 0x9D, if it does.
    """

    def __init__(self, what: str, reason_code: int, endpoint: str, reference: str = "") -> None:
        other = f"; it refers to {reference}" if reference else ""
        super().__init__(
            f"The MQTT broker {endpoint} refused {what}: {reason(reason_code)}{other}."
        )
        self.reason_code = reason_code
        self.endpoint = endpoint


class MqttUntrusted(MqttRefused):
    """TLS failed for a reason that stays: one side does not accept the other's certificate."""

    def __init__(self, why: str, endpoint: str) -> None:
        MotorcadeError.__init__(
            self,
            f"No TLS with the MQTT broker {endpoint}: {why}.",
            "Check the CA file, the client's certificate and key, and that the port speaks TLS.",
        )
        self.reason_code = NOT_AUTHORISED
        self.endpoint = endpoint


class MqttOffline(MotorcadeError):  # noqa: N818 - reads as what happened
    """There is no connection to publish on."""


class MqttWindowFull(MotorcadeError):  # noqa: N818 - reads as what happened
    """The broker takes no more for now: its receive-maximum is reached, or it reads too slowly."""


class MqttTooLarge(MotorcadeError):  # noqa: N818 - reads as what happened
    """A message exceeds the broker's maximum packet size (reason code 0x95 if it were sent)."""
