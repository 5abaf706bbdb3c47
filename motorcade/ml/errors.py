"""What can go wrong between a recorded range and a live model."""

from motorcade.fleet.errors import MotorcadeError


class RangeError(MotorcadeError):
    """A recorded offset range cannot be read; the message names topic, partition and offsets."""


class DatasetError(MotorcadeError):
    """A data set cannot be recorded, or is not what was recorded; the message names it."""


class TrainingError(MotorcadeError):
    """The recorded data cannot teach a model; the message says what is missing."""


class ModelRefusedError(MotorcadeError):
    """A model's files are not what was announced, or do not fit this code or this catalogue."""
