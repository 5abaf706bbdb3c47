"""The run's clock: event time against wall time, which `--speedup` runs faster than the wall."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from motorcade.fleet.arrays import Ints
from motorcade.fleet.errors import SettingsError


@dataclass(frozen=True)
class RunClock:
    """Event time = event_start + (wall - wall_start) × speedup; all in milliseconds since 1970."""

    wall_start_ms: int = 0
    event_start_ms: int = 0
    speedup: float = 1.0

    def event_ms(self, wall_ms: int) -> int:
        """Event time at a wall time."""
        return self.event_start_ms + round((wall_ms - self.wall_start_ms) * self.speedup)

    def events_ms(self, walls_ms: Ints) -> Ints:
        """Event times at wall times, shape (n,); each as `event_ms` has it."""
        since = np.rint((walls_ms - self.wall_start_ms) * self.speedup).astype(np.int64)
        times: Ints = self.event_start_ms + since
        return times

    def wall_ms(self, event_ms: int) -> int:
        """Wall time at an event time."""
        return self.wall_start_ms + round((event_ms - self.event_start_ms) / self.speedup)

    def __str__(self) -> str:
        return f"{self.wall_start_ms}/{self.event_start_ms}/{self.speedup:g}"

    @classmethod
    def parse(cls, text: str) -> "RunClock":
        """Read what `str` writes: "wall_start/event_start/speedup".

        Raises:
            SettingsError: the text has another form, or the speed-up is not positive.
        """
        try:
            wall, event, speedup = text.split("/")
            clock = cls(int(wall), int(event), float(speedup))
        except ValueError:
            raise SettingsError(
                f"clock={text!r} is not of the form WALL_MS/EVENT_MS/SPEEDUP."
            ) from None
        if not clock.speedup > 0:
            raise SettingsError(f"clock={text!r}: the speed-up must be above 0.")
        return clock


def utc(milliseconds: float) -> str:
    """A moment in UTC for people, to the second, such as 2026-11-23 01:02:03.

    Args:
        milliseconds: since 1970, of wall clock or of event time.
    """
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M:%S}"
