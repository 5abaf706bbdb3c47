"""The document of a run: its manifest, verdict, stages, events and series, as JSON.

`motorcade load --json` writes it; the report and `motorcade compare` read it.
"""

from pathlib import Path
from typing import Any

import msgspec

from motorcade.fleet.errors import MotorcadeError
from motorcade.simulator.audit.verdict import Verdict

#: Rises when a reader of the older form would misread a newer document.
VERSION = 1


class DocumentError(MotorcadeError):
    """A run's document cannot be read."""


class Machine(msgspec.Struct, frozen=True):
    """Where the run took place."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str


class Manifest(msgspec.Struct, frozen=True):
    """Everything that is needed to run it again."""

    #: Version of Motorcade, of Python, and of each package that matters.
    motorcade: str
    python: str
    packages: dict[str, str]
    machine: Machine
    seed: int
    #: The whole scenario with its defaults filled in, and settings without secrets.
    scenario: dict[str, Any]
    settings: dict[str, Any]
    #: The command as it was typed.
    command: str
    #: Wall-clock milliseconds since 1970.
    started: int
    ended: int


class Stage(msgspec.Struct, frozen=True):
    """A stage that was played; wall-clock milliseconds."""

    name: str
    from_ms: int
    to_ms: int


class Event(msgspec.Struct, frozen=True):
    """Something that was done to the run, or that befell it."""

    time_ms: int
    kind: str
    detail: str = ""
    #: Seconds until all was as before; None where nothing had to recover or nothing did.
    recovered_s: float | None = None


class Series(msgspec.Struct, frozen=True):
    """Figures over time: figures[name][i] was observed at time_ms[i], None where it was not.

    Names: cars.connected, cars.STATE; rate.sent, rate.acked, rate.connects, rate.disconnects,
    rate.raw, rate.refined, rate.quarantined, rate.scored (per second); latency.NAME.p50 and .p99
    (connect, reconnect, puback, lag, kafka; milliseconds, of the last second), generator.lag_ms;
    lag.GROUP (records); cpu.NAME (cores), rss.NAME (MiB); machine.busy (share of all cores);
    broker.drops.
    """

    time_ms: list[int] = msgspec.field(default_factory=list)
    figures: dict[str, list[float | None]] = msgspec.field(default_factory=dict)


class LimitStep(msgspec.Struct, frozen=True):
    """One load of a search for the limit, and what was observed while it was held."""

    #: Messages per second: asked of the fleet, and put on the wire by it.
    load: float
    offered: float
    #: "climb" or "confirm".
    phase: str
    #: Whether every service level was met, and those that were not, the worst first.
    held: bool
    broken: list[str] = msgspec.field(default_factory=list)
    #: Observed service levels by name.
    observed: dict[str, float | None] = msgspec.field(default_factory=dict)


class Broke(msgspec.Struct, frozen=True):
    """The service level that broke first, and what was observed of it."""

    level: str
    observed: str


class Saturated(msgspec.Struct, frozen=True):
    """The component that had nothing left, and what shows it."""

    component: str
    evidence: list[str]


class Limit(msgspec.Struct, frozen=True):
    """What a search for the limit found."""

    steps: list[LimitStep]
    #: How the search ended, such as "found" or "not reached".
    ending: str = ""
    #: Messages per second that the confirming step held; None when none did.
    confirmed_rate: float | None = None
    broke: Broke | None = None
    saturated: Saturated | None = None


class Document(msgspec.Struct, frozen=True):
    """A whole run."""

    manifest: Manifest
    verdict: Verdict
    stages: list[Stage] = msgspec.field(default_factory=list)
    events: list[Event] = msgspec.field(default_factory=list)
    series: Series = msgspec.field(default_factory=Series)
    limit: Limit | None = None
    version: int = VERSION


def write(document: Document, path: Path) -> None:
    """Write a document as JSON; a figure that is not a number becomes null.

    Raises:
        DocumentError: the file cannot be written.
    """
    draft = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
        draft.replace(path)
    except OSError as error:
        raise DocumentError(f"The document {path} cannot be written: {error}.") from error


def read(path: Path) -> Document:
    """Read a document.

    Raises:
        DocumentError: there is none, it is not a run's document, or its version is another one.
    """
    try:
        data = path.read_bytes()
        version = msgspec.json.decode(data, type=_Version).version
        if version != VERSION:
            raise DocumentError(
                f"{path} has version {version} of the document; this Motorcade reads {VERSION}.",
                "Read it with the Motorcade that wrote it, or run the scenario again.",
            )
        return msgspec.json.decode(data, type=Document)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DocumentError(
            f"{path} is not the document of a run: {error}.",
            "motorcade load SCENARIO --json FILE writes one.",
        ) from error


class _Version(msgspec.Struct):
    version: int
