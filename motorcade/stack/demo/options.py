"""What a person asks of `motorcade demo`."""

from dataclasses import dataclass
from pathlib import Path

from motorcade.fleet.errors import SettingsError
from motorcade.simulator.descriptors import workers_for

#: Kinds of wear that the demo begins; the two that an engine's driver must be told of.
FAULT_KINDS = ("coolant_leak", "bearing_wear")


@dataclass(frozen=True)
class DemoOptions:
    """How the demo is to run.

    Args:
        cars: cars of the fleet; one Locust user is one car.
        faulty: cars in which wear begins once a model is live.
        interval_s: wall-clock seconds between two messages of a car.
        speedup: how much faster than the wall event time runs.
        healthy_s: wall-clock seconds that the whole fleet drives before training.
        wear_minutes: simulated minutes from the onset of wear to the failure.
        ramp_per_s: cars that connect in a second.
        drives: folder of recorded drives to replay; None for synthetic cars only.
        seed: of the fleet.
        epochs: most epochs of training.
        web_port: of the Locust UI; None takes 8089 if it is free.
        report: where the verdict is written as JSON; None for nowhere.
        exit: stop after the verdict instead of driving on until Ctrl-C.
    """

    cars: int = 1000
    faulty: int = 6
    interval_s: float = 2.0
    speedup: float = 60.0
    healthy_s: float = 45.0
    wear_minutes: float = 90.0
    ramp_per_s: float = 100.0
    drives: Path | None = None
    seed: int = 1
    epochs: int = 20
    web_port: int | None = None
    report: Path | None = None
    exit: bool = False

    def __post_init__(self) -> None:
        for name in ("cars", "interval_s", "speedup", "healthy_s", "wear_minutes", "ramp_per_s"):
            if not getattr(self, name) > 0:
                option = name.removesuffix("_s").removesuffix("_per").replace("_", "-")
                raise SettingsError(f"--{option} must be above 0, not {getattr(self, name):g}.")
        if not 0 <= self.faulty <= self.cars:
            raise SettingsError(
                f"--faulty {self.faulty} cannot be met by {self.cars} cars.",
                "Take at most as many as --cars.",
            )
        if self.drives is not None and not self.drives.is_dir():
            raise SettingsError(f"--drives {self.drives} is not a folder.")

    @property
    def workers(self) -> int:
        """Locust workers for the fleet."""
        return workers_for(self.cars)

    @property
    def rate_per_s(self) -> float:
        """Messages that the fleet publishes in a second."""
        return self.cars / self.interval_s
