"""What may happen while a scenario runs: to cars, and to parts of the stack."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from motorcade.simulator.scenarios.base import Count, CountOrZero, Part, Positive, Share
from motorcade.simulator.scenarios.times import At, Span, SpanOrZero
from motorcade.simulator.wear import WearKind

#: Parts of a stack of ours that an event can name. `broker` is all its nodes.
StackPart = Literal[
    "broker-node",
    "broker",
    "kafka",
    "registry",
    "bridge",
    "refine",
    "twin",
    "score",
    "alerts",
    "dispatch",
]


class Wear(Part):
    """Damage that begins in cars of the simulator's choice and ends in a trouble code."""

    cars: CountOrZero = 0
    """Cars that wear; 0 is none."""
    kinds: Annotated[tuple[WearKind, ...], Field(min_length=1)] = (
        WearKind.COOLANT_LEAK,
        WearKind.BEARING_WEAR,
    )
    """Kinds of damage, dealt out in turn."""
    duration_minutes: Positive = 90.0
    """Simulated minutes from the onset to the failure."""
    spread_minutes: Annotated[float, Field(ge=0)] = 9.0
    """Onsets fall at random within so many simulated minutes."""


class FleetEvent(Part):
    """Something that happens to cars; Locust's master sends it to its workers."""

    of_stack: ClassVar[bool] = False
    at: At
    """When: seconds after the ramp, or "stage+10s"."""

    def body(self) -> dict[str, Any]:
        """What `POST /motorcade/events` takes."""
        return self.model_dump(mode="json", exclude={"at"})


class Drop(FleetEvent):
    """The chosen cars' TCP connections are cut at once; they come back with back-off."""

    kind: Literal["drop"]
    share: Share = 1.0
    """Share of the fleet."""


class Offline(FleetEvent):
    """Cars lose their network in groups, go on measuring, and send later what they stored."""

    kind: Literal["offline"]
    share: Share = 1.0
    """Share of the fleet."""
    groups: Count = 1
    """Groups that go one after another."""
    seconds: Span = 60.0
    """How long a group is away."""
    stagger_s: SpanOrZero = 0.0
    """Seconds between two groups' going."""


class Garbage(FleetEvent):
    """Cars with bad firmware: they send cut JSON, missing fields, impossible values."""

    kind: Literal["garbage"]
    share: Share = 0.01
    """Share of the fleet."""
    seconds: Span = 60.0
    """How long they do so."""


class Pace(FleetEvent):
    """The whole fleet publishes at another interval from now on."""

    kind: Literal["pace"]
    interval_s: Span
    """Seconds between two messages of a car."""


class Faults(Wear, FleetEvent):
    """Wear begins in some cars."""

    kind: Literal["faults"]
    cars: Count
    """Cars that wear."""

    def body(self) -> dict[str, Any]:
        return {"kind": "faults", **faults_body(self)}


class StackEvent(Part):
    """Something that happens to a part of the stack; whoever started the stack does it."""

    of_stack: ClassVar[bool] = True
    at: At
    """When: seconds after the ramp, or "stage+10s"."""
    what: StackPart
    """The part."""
    node: Count = 1
    """Which node of a farm or cluster, from 1."""


class Kill(StackEvent):
    """SIGKILL, as a crash or an out-of-memory kill does it; it is started again."""

    kind: Literal["kill"]
    seconds: SpanOrZero = 0.0
    """How long it stays away before it is started again."""


class Stop(StackEvent):
    """Stopped in order, away for a while, started again: as an upgrade does it."""

    kind: Literal["stop"]
    seconds: Span
    """How long it is away."""


class Pause(StackEvent):
    """SIGSTOP, as a long garbage collection or a frozen machine; goes on where it was."""

    kind: Literal["pause"]
    seconds: Span
    """How long it stands still."""


Event = Annotated[
    Drop | Offline | Garbage | Pace | Faults | Kill | Stop | Pause, Field(discriminator="kind")
]


def faults_body(wear: Wear) -> dict[str, Any]:
    """What `POST /motorcade/faults` takes: event-time seconds."""
    return {
        "count": wear.cars,
        "kinds": [str(kind) for kind in wear.kinds],
        "duration_s": wear.duration_minutes * 60,
        "spread_s": wear.spread_minutes * 60,
    }
