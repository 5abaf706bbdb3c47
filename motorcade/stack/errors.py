"""What can go wrong on one machine; each error says what to do next."""

from motorcade.fleet.errors import MotorcadeError


class StackError(MotorcadeError):
    """A server or process of the local stack could not be started, watched or stopped."""


class ArchiveError(StackError):
    """A server archive is missing, damaged or not to be had; names the file or the address."""


class PortInUseError(StackError):
    """A fixed port is taken; names the port and, where it can be told, the process on it."""


class PreflightError(StackError):
    """The machine lacks something that is needed before anything starts."""


class TopicMismatchError(StackError):
    """A topic exists with another number of partitions than the contract declares."""
