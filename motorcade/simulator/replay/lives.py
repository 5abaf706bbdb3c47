"""A recorded life: what one vehicle measured, message by message, and how it ended."""

from dataclasses import dataclass

import numpy as np

from motorcade.fleet.arrays import Floats
from motorcade.fleet.telemetry import TelemetryColumns


@dataclass(frozen=True)
class Ending:
    """The trouble code that a vehicle's diagnosis sends with its last message."""

    code: str
    kind: str
    description: str


@dataclass(frozen=True)
class Life:
    """One vehicle's whole recording.

    Args:
        vehicle: its id, 17 characters.
        values: (messages, signals) in the catalogue's order and units, NaN where absent.
        ending: how it failed; None where the recording was cut short before that.
    """

    vehicle: str
    values: Floats
    ending: Ending | None

    def __len__(self) -> int:
        return len(self.values)

    def columns(self, boot: int, begin_ms: int, step_ms: int, due_ms: int) -> TelemetryColumns:
        """Its messages: seq from 1, event time from `begin_ms` in steps of `step_ms`.

        Args:
            boot, due_ms: wall clock, milliseconds since 1970.
        """
        n = len(self.values)
        order = np.arange(n, dtype=np.int64)
        return TelemetryColumns(
            vin=np.full(n, self.vehicle.encode("ascii"), dtype="S17"),
            values=self.values,
            boot=np.full(n, boot, dtype=np.int64),
            seq=order + 1,
            time=begin_ms + order * step_ms,
            due=np.full(n, due_ms, dtype=np.int64),
        )
