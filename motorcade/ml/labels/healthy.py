"""Which records may teach a model: no trouble code within the horizon after them."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from motorcade.fleet.arrays import Bools
from motorcade.fleet.messages import DiagnosticTroubleCode
from motorcade.fleet.telemetry import TelemetryColumns


class Healthy:
    """Decides by what the cars' own diagnosis reported, never by the simulator's truth.

    A record is healthy when its car reported no trouble code up to `horizon_ms` of event time
    after it. What follows a trouble code in the same boot is not healthy either: nothing was
    repaired while the engine ran.

    Args:
        codes: trouble codes reported so far.
        horizon_ms: event time, milliseconds.
    """

    def __init__(self, codes: Iterable[DiagnosticTroubleCode], horizon_ms: int) -> None:
        self._codes: dict[bytes, list[DiagnosticTroubleCode]] = defaultdict(list)
        for code in codes:
            self._codes[code.vin.encode()].append(code)
        self._horizon_ms = horizon_ms

    @property
    def failed(self) -> int:
        """Cars that reported a trouble code."""
        return len(self._codes)

    def rows(self, columns: TelemetryColumns) -> Bools:
        """Mask of the healthy rows, shape (n,)."""
        healthy = np.ones(len(columns), dtype=bool)
        for vin in self._codes.keys() & set(columns.vin.tolist()) if self._codes else ():
            mine = np.flatnonzero(columns.vin == vin)
            time, boot = columns.time[mine], columns.boot[mine]
            for code in self._codes[vin]:
                ahead = code.time - time
                doomed = (ahead >= 0) & (ahead <= self._horizon_ms)
                healthy[mine[doomed | ((ahead < 0) & (boot == code.boot))]] = False
        return healthy
