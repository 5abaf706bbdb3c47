"""MQTT 5 reason codes: what they are called, and what a client does after them."""

from gmqtt.mqtt.constants import ConnAckReasonCode, SubAckReasonCode

#: From here on a reason code is a failure (MQTT 5, 2.4).
FAILURE = 0x80
NO_MATCHING_SUBSCRIBERS = 0x10
NOT_AUTHORISED = 0x87
SESSION_TAKEN_OVER = 0x8E
PACKET_TOO_LARGE = 0x95
QUOTA_EXCEEDED = 0x97

#: Refusals that time may heal: server unavailable, busy, quota exceeded, connection rate exceeded.
TRANSIENT = frozenset({0x88, 0x89, QUOTA_EXCEEDED, 0x9F})

#: Disconnects after which coming back would do harm or be refused again: not authorised, session
#: taken over, topic filter or packet too large, use another server, server moved.
FINAL = frozenset({NOT_AUTHORISED, SESSION_TAKEN_OVER, PACKET_TOO_LARGE, 0x9C, 0x9D})


def reason(code: int) -> str:
    """A reason code in words and as a number."""
    for known in (ConnAckReasonCode, SubAckReasonCode):
        if code in known.__members__.values():
            return f"{known(code).name.lower().replace('_', ' ')} (0x{code:02X})"
    return f"reason code 0x{code:02X}"
