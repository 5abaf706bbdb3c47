"""What a person asks of `motorcade load` beside the scenario."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LoadOptions:
    """How a scenario is to be run.

    Args:
        document: where the run's document is written as JSON; None for nowhere.
        report: where its HTML report is written; None for nowhere.
        keep: an own stack is left running after the run.
        ui: the cars start when a person presses Start in the Locust UI.
        web_port: of the Locust UI; None takes 8089 if it is free.
        command: the command as it was typed, for the manifest.
    """

    document: Path | None = None
    report: Path | None = None
    keep: bool = False
    ui: bool = False
    web_port: int | None = None
    command: str = ""
