"""What the master knows of the run: workers and what became of them, the fleet, the truth."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from motorcade.fleet.errors import MotorcadeError
from motorcade.simulator import wire
from motorcade.simulator.fleet_events import Drop, FleetEvent, Garbage, Offline, Pace
from motorcade.simulator.master_latency import MergedLatency
from motorcade.simulator.population import FleetPlan
from motorcade.simulator.settings import SimulatorSettings
from motorcade.simulator.wear import PlannedFault, WearError, WearKind, choose_faults

#: Figures of a worker's report that add up over workers.
_SUMS = (
    "wanted",
    "stopping",
    "in_flight",
    "waiting",
    "sent",
    "acked",
    "dropped",
    "refused",
    "unheard",
    "overtaken",
    "connects",
    "disconnects",
    "connect_failures",
    "dtcs",
    "commands",
    "offline",
    "garbage",
    "bytes_sent",
)
#: States of a car in which it is connected.
_CONNECTED = ("driving", "parked")
#: The truth grows with the fleet: it is not written more often than this.
_TRUTH_EVERY_S = 10.0
#: What is not shown of each worker: it is shown merged.
_HISTOGRAMS = "histograms"


class FaultsError(MotorcadeError):
    """A request for faults cannot be met; the message says what is wrong with it."""


class Problem(msgspec.Struct):
    """Something that makes the run invalid."""

    #: Wall-clock milliseconds since 1970.
    time: int
    #: The worker that was lost; None where none was.
    worker: int | None
    reason: str


class Failure(msgspec.Struct, gc=False):
    """A failure as a worker reports it: lean, for the demo's cars have millions in an hour."""

    index: int
    vin: str
    kind: str
    code: str
    #: Event time, milliseconds since 1970.
    time: int
    #: Whether the car was running, so that it could send its trouble code.
    reported: bool

    def __post_init__(self) -> None:
        # The same cars fail again and again, with few codes.
        for name in ("vin", "kind", "code"):
            setattr(self, name, sys.intern(getattr(self, name)))


class FaultRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Faults in cars that the master chooses; times are event time, onset now unless given."""

    count: int
    kinds: list[WearKind]
    onset_ms: int | None = None
    duration_s: float | None = None
    spread_s: float = 0.0


class OneFault(msgspec.Struct, forbid_unknown_fields=True):
    """A fault in a car of one's choice, by index or by VIN."""

    kind: WearKind
    duration_s: float
    index: int | None = None
    vin: str | None = None
    onset_ms: int | None = None


class MasterState:
    """The run as the master sees it; pure but for the run folder that it writes to.

    Attributes:
        reports: each worker's last report.
        problems: what makes the run invalid.
        events: what happened to the fleet, {time_ms, kind, detail}, wall clock, and `body` of
            a fleet event.

    Args:
        plan: of the fleet.
        settings: of the master.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        plan: FleetPlan,
        settings: SimulatorSettings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._settings = settings
        self._clock = clock
        self._started_ms = _wall_ms()
        self.reports: dict[int, dict[str, Any]] = {}
        self.problems: list[Problem] = []
        self.faults: list[PlannedFault] = []
        self.failures: list[Failure] = []
        self._codes: dict[str, str] = {}
        self._truth_changed = True
        self._truth_written_s: float | None = None
        self.events: list[dict[str, Any]] = []
        self._latency = MergedLatency()

    # -- what workers tell ----------------------------------------------------------------------

    def reported(self, state: dict[str, Any], failures: list[dict[str, Any]]) -> None:
        """A worker's report of a second."""
        self.reports[state["worker"]] = state
        if failures:
            self.failures += msgspec.convert(failures, list[Failure])
            if self.faults:  # the demo's cars fail again and again without one
                self._codes |= {failure["vin"]: failure["code"] for failure in failures}
            self._truth_changed = True
            self.keep_truth()

    def lost(self, worker: int, reason: str) -> None:
        """A worker is gone, or its work is: the run is invalid from here on."""
        self.reports.pop(worker, None)
        self.failed(reason, worker)

    def failed(self, reason: str, worker: int | None = None) -> None:
        """The generator did not do what it should: the run is invalid from here on."""
        self.problems.append(Problem(_wall_ms(), worker, reason))
        self.write_run()

    @property
    def lost_workers(self) -> list[int]:
        """Numbers of the workers that were lost, whether or not they came back."""
        return sorted({one.worker for one in self.problems if one.worker is not None})

    @property
    def connected(self) -> int:
        """Cars that are connected to a broker."""
        return sum(
            cars.get(state, 0)
            for report in self.reports.values()
            for cars in report["cars"].values()
            for state in _CONNECTED
        )

    # -- events ---------------------------------------------------------------------------------

    def happened(
        self,
        kind: str,
        detail: str,
        time_ms: int | None = None,
        body: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Note that something happened to the fleet, now unless a time is given."""
        event = {"time_ms": time_ms or _wall_ms(), "kind": kind, "detail": detail, "body": body}
        self.events.append(event)
        return event

    # -- faults ---------------------------------------------------------------------------------

    def plan_faults(self, body: bytes) -> list[PlannedFault]:
        """Read a request, {count, kinds, …} or a list of {index or vin, kind, duration_s, …}.

        Raises:
            FaultsError: the request is malformed, or asks for what cannot be.
        """
        try:
            request = msgspec.json.decode(body, type=FaultRequest | list[OneFault])
        except msgspec.DecodeError as error:
            raise FaultsError(
                f"The faults were not understood: {error}.",
                'Send {"count": 3, "kinds": ["coolant_leak"], "duration_s": 3600} or a list of '
                '{"index": 7, "kind": "coolant_leak", "duration_s": 3600}.',
            ) from error
        now = self._plan.clock.event_ms(_wall_ms())
        taken = {fault.index for fault in self.faults}
        try:
            if isinstance(request, FaultRequest):
                faults = self._choose(request, taken, now)
            else:
                faults = [self._one(fault, taken, now) for fault in request]
        except WearError as error:
            raise FaultsError(error.what, error.remedy) from error
        self.faults += faults
        self._truth_changed = True
        self.keep_truth()
        return faults

    def _choose(self, request: FaultRequest, taken: set[int], now: int) -> list[PlannedFault]:
        running = sum(report["wanted"] for report in self.reports.values())
        synthetic = range(len(self._plan.drives), running)
        eligible = np.array([index for index in synthetic if index not in taken], dtype=np.int64)
        return choose_faults(
            self._plan.seed * 1_000_003 + len(taken),
            eligible,
            request.count,
            request.kinds,
            now if request.onset_ms is None else request.onset_ms,
            duration_s=request.duration_s,
            spread_s=request.spread_s,
        )

    def _one(self, fault: OneFault, taken: set[int], now: int) -> PlannedFault:
        index = fault.index if fault.vin is None else self._index_of(fault.vin)
        if index is None or index < 0:
            raise FaultsError("A fault needs the index or the VIN of a car.")
        if index < len(self._plan.drives):
            raise FaultsError(f"Car {index} replays a recording and cannot wear.")
        if index in taken:
            raise FaultsError(f"Car {index} wears already.")
        taken.add(index)
        onset = now if fault.onset_ms is None else fault.onset_ms
        return PlannedFault(index, fault.kind, onset, fault.duration_s)

    def _index_of(self, vin: str) -> int:
        running = sum(report["wanted"] for report in self.reports.values())
        for index in range(running):
            if self._plan.vin(index) == vin:
                return index
        raise FaultsError(f"No car with the VIN {vin} is running.")

    # -- what others ask ------------------------------------------------------------------------

    def fleet(self) -> dict[str, Any]:
        """The fleet as one JSON document."""
        reports = list(self.reports.values())
        endpoints = {endpoint: Counter[str]() for endpoint in self._settings.brokers}
        for report in reports:
            for endpoint, states in report["cars"].items():
                endpoints.setdefault(endpoint, Counter()).update(states)
        states = sum(endpoints.values(), Counter[str]())
        return {
            "valid": not self.problems,
            "problems": msgspec.to_builtins(self.problems),
            "lost_workers": self.lost_workers,
            "released": bool(reports) and all(report["released"] for report in reports),
            "stopped": all(report["stopped"] for report in reports),
            "connected": self.connected,
            "cars": dict(states),
            "endpoints": {endpoint: dict(cars) for endpoint, cars in endpoints.items()},
            **{name: sum(report.get(name, 0) for report in reports) for name in _SUMS},
            "lag_ms": max((report["lag_ms"] for report in reports), default=0.0),
            "latency": self._latency.of(report.get(_HISTOGRAMS, {}) for report in reports),
            "recent": self._latency.recent,
            "workers": [
                {name: value for name, value in report.items() if name != _HISTOGRAMS}
                for report in sorted(reports, key=lambda report: int(report["worker"]))
            ],
            "workers_expected": self._settings.workers,
            "events": self.events,
            "faults": len(self.faults),
            "failures": len(self.failures),
        }

    def truth(self) -> dict[str, Any]:
        """Planned faults and the failures that came of them, all that there are."""
        return {
            "faults": [self._fault(fault) for fault in self.faults],
            "failures": self.failures,
        }

    def newest_faults(self, most: int) -> list[dict[str, Any]]:
        """The faults that were planned last, each with the `code` that its car failed with."""
        found = map(self._fault, self.faults[-most:])
        return [{**fault, "code": self._codes.get(fault["vin"])} for fault in found]

    def _fault(self, fault: PlannedFault) -> dict[str, Any]:
        return {
            **wire.fault_to(fault),
            "vin": self._plan.vin(fault.index),
            "failure_ms": fault.failure_ms,
        }

    # -- the run folder -------------------------------------------------------------------------

    def keep_truth(self) -> None:
        """Write the truth if it has changed, unless that was done a moment ago."""
        last = self._truth_written_s
        if self._truth_changed and (last is None or self._clock() - last >= _TRUTH_EVERY_S):
            self.write_truth()

    def write_truth(self) -> None:
        """Put the truth about faults where the audit finds it."""
        self._truth_changed, self._truth_written_s = False, self._clock()
        _write(self._settings.run_dir / "truth.json", self.truth())

    def write_run(self, scenario: dict[str, Any] | None = None) -> None:
        """Put what makes the run valid or invalid, and what happened in it, where the audit looks.

        Args:
            scenario: where the scenario stood when the run was over.
        """
        settings = self._settings
        _write(
            settings.run_dir / "run.json",
            {
                "started": self._started_ms,
                "cars": settings.cars,
                "workers": settings.workers,
                "seed": settings.seed,
                "interval_s": settings.interval_s,
                "qos": settings.qos,
                "valid": not self.problems,
                "lost_workers": self.lost_workers,
                "problems": self.problems,
                "events": self.events,
                "scenario": scenario,
            },
        )


def describe(event: FleetEvent) -> tuple[str, str]:
    """Kind and detail of a fleet event, in words."""
    match event:
        case Drop(share):
            return "drop", f"{share:.3g} of the fleet"
        case Offline(seconds, share, groups, stagger_s):
            detail = f"{share:.3g} of the fleet for {seconds:g} s"
            more = f", {groups} groups {stagger_s:g} s apart" if groups > 1 else ""
            return "offline", detail + more
        case Garbage(seconds, share):
            return "garbage", f"{share:.3g} of the fleet for {seconds:g} s"
        case Pace(interval_s):
            return "pace", f"a message every {interval_s:g} s"


def problems_of(run_dir: Path) -> Sequence[Problem]:
    """What made the run in this folder invalid; empty for a valid one.

    Raises:
        MotorcadeError: the folder has no run.json that can be read.
    """
    path = run_dir / "run.json"
    try:
        document = msgspec.json.decode(path.read_bytes())
        return msgspec.convert(document["problems"], list[Problem])
    except (OSError, msgspec.DecodeError, msgspec.ValidationError, KeyError) as error:
        raise MotorcadeError(f"{path} cannot be read: {error}.") from error


def _write(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2))
    draft.replace(path)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
