"""What Locust's master and workers tell each other about the fleet: names and forms of messages."""

from typing import Any

from motorcade.simulator.fleet_events import FleetEvent, event_of, values_of
from motorcade.simulator.wear import PlannedFault, WearKind

#: Worker → master: its number, process id and host, once.
HELLO = "motorcade.hello"
#: Worker → master: the state of its cars and new failures, every second.
REPORT = "motorcade.report"
#: Worker → master: it cannot go on, and why.
LOST = "motorcade.lost"
#: Worker → master: something did not happen to its cars as it should, and why; it goes on.
AMISS = "motorcade.amiss"
#: Master → workers: faults that shall begin.
FAULTS = "motorcade.faults"
#: Master → workers: a fleet event that begins, see `event_to`.
EVENT = "motorcade.event"
#: Master → workers: write the ledger now; workers → master: it is written.
LEDGER = "motorcade.ledger"
LEDGER_WRITTEN = "motorcade.ledger-written"


def fault_to(fault: PlannedFault) -> dict[str, Any]:
    """A planned fault in plain values."""
    return {
        "index": fault.index,
        "kind": str(fault.kind),
        "onset_ms": fault.onset_ms,
        "duration_s": fault.duration_s,
    }


def fault_from(values: dict[str, Any]) -> PlannedFault:
    """What `fault_to` made."""
    return PlannedFault(
        int(values["index"]),
        WearKind(values["kind"]),
        int(values["onset_ms"]),
        float(values["duration_s"]),
    )


def event_to(event: FleetEvent, at_ms: int) -> dict[str, Any]:
    """A fleet event that begins at `at_ms` (wall clock) in plain values."""
    return {"event": values_of(event), "at_ms": at_ms}


def event_from(values: dict[str, Any]) -> tuple[FleetEvent, int]:
    """What `event_to` made: the event and when it begins."""
    return event_of(values["event"]), int(values["at_ms"])
