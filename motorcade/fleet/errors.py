"""The error tree: every failure that Motorcade reports to a person derives from MotorcadeError."""


class MotorcadeError(Exception):
    """A failure with a cause a person can act on.

    Args:
        what: what was wrong and where, in one sentence.
        remedy: what to do next; shown after the sentence.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what} {remedy}".strip())
        self.what = what
        self.remedy = remedy


class CatalogueError(MotorcadeError):
    """The signal catalogue is malformed; the message names the file and the signal."""


class IdentityError(MotorcadeError):
    """A vehicle id or an MQTT topic does not have the form that the contract asks for."""


class SettingsError(MotorcadeError):
    """A setting is missing, unknown or out of range; the message names it."""


class DecodeError(MotorcadeError):
    """Bytes do not decode under the schema they claim."""


class UnreachableError(MotorcadeError):
    """A server that is needed does not answer; the message names its address."""
