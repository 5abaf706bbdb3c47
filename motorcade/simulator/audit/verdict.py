"""The verdict: PASS, FAIL or INVALID, each check behind it, and every figure of the run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import msgspec

from motorcade.simulator.audit.faults import FaultAccounts
from motorcade.simulator.audit.latency import Latency
from motorcade.simulator.audit.reconcile import Accounts

#: Names of the latencies, which the verdict, the report and `motorcade compare` share.
CONNECT = "connect"
RECONNECT = "reconnect"
DUE_TO_PUBACK = "due → PUBACK"
DUE_TO_KAFKA = "due → Kafka"
DUE_TO_PREDICTION = "due → prediction"
DUE_TO_ALERT = "due → alert"
ALERT_TO_CAR = "alert → acknowledged by the car"


class Outcome(StrEnum):
    PASS = "PASS"  # noqa: S105 - not a password
    FAIL = "FAIL"
    #: The generator itself failed, so the figures judge it and not the target.
    INVALID = "INVALID"


class Scope(StrEnum):
    """How far the audit could follow a message."""

    #: What the cars say, and no Kafka.
    CARS = "cars"
    #: From the cars to the raw topic.
    RAW = "raw"
    #: From the cars to the predictions.
    PIPELINE = "pipeline"


@dataclass(frozen=True)
class Fleet:
    """The cars' side: connections, and what never went out. None where nobody observed it."""

    cars: int | None = None
    #: Cars that were connected when the ramp was over.
    connected: int | None = None
    connects: int = 0
    connect_failures: int = 0
    disconnects: int = 0
    #: Messages pushed out of full buffers, still in them at the end, refused by the broker, and
    #: acknowledged without a subscriber and sent again.
    buffer_dropped: int = 0
    unsent: int = 0
    refused: int = 0
    unheard: int = 0
    #: Messages that the broker refused for now while it accepted later ones of the same car: they
    #: were sent again and can only arrive behind those.
    overtaken: int = 0
    #: Seconds that the slowest of the run's events took until all was as before; infinite when
    #: one never was, None without an event to recover from.
    recovered_s: float | None = None
    #: Messages/s over the stages as a share of what they ask for; None where nobody observed it.
    rate_share: float | None = None


@dataclass(frozen=True)
class Generator:
    """How the load generator itself did."""

    lost_workers: int
    lag_p99_ms: float | None


@dataclass(frozen=True)
class BrokerAccount:
    """What the broker says of itself.

    drops: messages it dropped by its own count; None where it does not say. excused: messages
    that it acknowledged and lost as its declared durability allows; reasons say when and why.
    """

    name: str
    durability: str
    drops: int | None = None
    excused: int = 0
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProcessUsage:
    """What a process used over the run; memory is the highest resident set that was sampled."""

    name: str
    cpu_seconds: float
    rss_mib: float
    restarts: int
    #: CPU microseconds per message of the run; None where nothing was sent.
    cpu_us_per_message: float | None = None


@dataclass(frozen=True)
class Check:
    """A threshold and what was observed."""

    name: str
    observed: str
    limit: str
    ok: bool
    #: A broken check of the generator makes the run INVALID instead of failed.
    generator: bool = False
    #: False where the run has nothing to judge it by: `observed` says why, and `ok` says nothing.
    judged: bool = True


@dataclass(frozen=True)
class Findings:
    """Everything that an audit found, before it is judged."""

    scope: Scope
    qos: int
    accounts: Accounts
    fleet: Fleet
    faults: FaultAccounts
    latencies: dict[str, Latency]
    generator: Generator
    broker: BrokerAccount
    usage: tuple[ProcessUsage, ...] = ()
    #: Restarts that the run itself asked for, by process.
    asked_restarts: Mapping[str, int] = field(default_factory=dict)
    #: Some of the messages that were lost, as text.
    lost_examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The outcome of a run with all its figures."""

    outcome: Outcome
    checks: tuple[Check, ...]
    scope: Scope
    qos: int
    accounts: Accounts
    fleet: Fleet
    faults: FaultAccounts
    latencies: dict[str, Latency]
    generator: Generator
    broker: BrokerAccount
    usage: tuple[ProcessUsage, ...] = field(default=())
    asked_restarts: Mapping[str, int] = field(default_factory=dict)
    lost_examples: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Every figure, as plain JSON values; what is not a number becomes null."""
        plain = msgspec.json.decode(msgspec.json.encode(self))
        assert isinstance(plain, dict)
        return plain


def outcome_of(checks: Sequence[Check]) -> Outcome:
    """What checks come to; a broken one of the generator makes the run INVALID."""
    if any(check.generator and not check.ok for check in checks):
        return Outcome.INVALID
    return Outcome.PASS if all(check.ok for check in checks) else Outcome.FAIL


def not_judged(name: str, limit: str, why: str) -> Check:
    """A threshold that this run cannot be held against; it is shown, and decides nothing."""
    return Check(name, f"not judged: {why}", limit, ok=True, judged=False)


def also(verdict: Verdict, check: Check) -> Verdict:
    """The verdict with a check of somebody else's, which counts as the others do."""
    checks = (*verdict.checks, check)
    return replace(verdict, outcome=outcome_of(checks), checks=checks)
