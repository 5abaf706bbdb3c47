"""Cars that break down: each sends its trouble code, limps on for a while and is then parked."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from motorcade.fleet.arrays import Ints
from motorcade.simulator.car_session import CarSession
from motorcade.simulator.ledger import DtcRecord
from motorcade.simulator.wear import LIMP_MS, Failure


class Breakdowns:
    """The failures of a worker's cars.

    Args:
        parks: whether a car that failed is parked soon after.

    Attributes:
        dtcs: trouble codes that were sent.
    """

    def __init__(self, *, parks: bool) -> None:
        self.dtcs: list[DtcRecord] = []
        self._parks = parks
        #: Rows that broke down, and the event time from which each is parked.
        self._broken: dict[int, int] = {}
        self._untold: list[dict[str, Any]] = []

    def happened(self, failure: Failure, session: CarSession | None) -> None:
        """A car failed; its session, if it runs, sends the trouble code."""
        if self._parks:
            self._broken[failure.row] = failure.time_ms + LIMP_MS
        if session is not None:
            self.dtcs.append(
                session.report_failure(
                    failure.code, failure.kind, failure.time_ms, failure.description
                )
            )
        self._untold.append(
            {
                "index": failure.index,
                "vin": failure.vin,
                "kind": str(failure.kind),
                "code": failure.code,
                "time": failure.time_ms,
                "reported": session is not None,
            }
        )

    def parked(self, row: int) -> bool:
        """Whether a car that starts now has broken down before."""
        return row in self._broken

    def park(self, event_ms: int, sessions: Sequence[CarSession | None]) -> Ints:
        """Park the cars that have limped long enough; their rows, shape (n,)."""
        now_parked = []
        for row, from_ms in self._broken.items():
            session = sessions[row]
            if session is not None and not session.parked and event_ms >= from_ms:
                session.park()
                now_parked.append(row)
        return np.array(now_parked, dtype=np.int64)

    def take(self) -> list[dict[str, Any]]:
        """Failures since the last call, as they are reported to the master."""
        untold, self._untold = self._untold, []
        return untold
