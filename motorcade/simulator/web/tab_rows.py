"""Rows of the tabs in Locust's web UI, from the fleet's state; pure.

Locust sorts rows by their `name`; those whose order means something have none.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from motorcade.fleet.clock import utc

Fleet = dict[str, Any]
Rows = list[dict[str, Any]]
#: Key in a row, and title.
Columns = tuple[tuple[str, str], ...]

CAR_STATES = ("driving", "parked", "connecting", "reconnecting", "offline", "refused")
_LATENCIES = {
    "connect": "wanted → CONNACK",
    "reconnect": "lost → CONNACK again",
    "puback": "due → PUBACK",
    "lag": "generator's lag",
    "tick": "generator's tick",
}
#: So many faults are shown at most, the newest: every look at the UI brings them all.
FAULTS = 200
_PERCENTILES = ("p50", "p90", "p99", "p999", "p9999", "max")


def fleet_rows(fleet: Fleet) -> Rows:
    """States of cars by endpoint, and all together."""
    rows = [
        {"what": endpoint, **{state: f"{cars.get(state, 0):,}" for state in CAR_STATES}}
        for endpoint, cars in fleet["endpoints"].items()
    ]
    cars = fleet["cars"]
    rows.append(
        {
            "what": "all",
            **{state: f"{cars.get(state, 0):,}" for state in CAR_STATES},
            "garbage": f"{fleet['garbage']:,}",
            "connects": f"{fleet['connects']:,}",
            "disconnects": f"{fleet['disconnects']:,}",
            "failures": f"{fleet['connect_failures']:,}",
        }
    )
    return rows


def delivery_rows(fleet: Fleet) -> Rows:
    """What each worker sent and what became of it, and all together."""
    counts = ("sent", "acked", "in_flight", "waiting", "dropped")
    rows = []
    for worker in [*fleet["workers"], {**fleet, "worker": "all", "wanted": fleet["wanted"]}]:
        row = {
            "what": str(worker["worker"]),
            "cars": f"{worker['wanted']:,}",
            **{name.replace("_", ""): f"{worker[name]:,}" for name in counts},
            "lag": _ms(worker["lag_ms"]),
        }
        if "cpu_s" in worker:
            row |= {"cpu": f"{worker['cpu_s']:,.1f}", "memory": f"{worker['rss_mib']:,.0f}"}
        rows.append(row)
    return rows


def latency_rows(fleet: Fleet) -> Rows:
    """Percentiles over all workers since they started."""
    return [
        {
            "what": words,
            "n": f"{figures['n']:,}",
            **{name: _ms(figures[name]) if figures["n"] else "" for name in _PERCENTILES},
        }
        for name, words in _LATENCIES.items()
        if (figures := fleet["latency"].get(name)) is not None
    ]


def stage_rows(fleet: Fleet) -> Rows:
    """The course of the scenario: its stages, then what happened and what is due."""
    scenario = fleet["scenario"]
    rows: Rows = []
    if scenario is not None:
        begun = {span["name"]: span for span in scenario["stages"]}
        now_ms = scenario["stages"][0]["from_ms"] + scenario["elapsed_s"] * 1000
        ended = scenario["done"] or scenario["stopped"]
        for stage in scenario["plan"]:
            rows.append(_stage(stage, begun.get(stage["name"]), now_ms, ended=ended))
        events = scenario["events"]
    else:
        events = fleet["events"]
    rows += [
        {
            "what": f"{event['kind']}: {event['detail']}",
            "state": "happened",
            "from": _clock(event["time_ms"]),
        }
        for event in events
    ]
    rows += [_due(event) for event in (scenario or {"stack": []})["stack"]]
    return rows


def _stage(
    stage: dict[str, Any], span: dict[str, Any] | None, now_ms: float, *, ended: bool
) -> dict[str, Any]:
    row = {
        "what": stage["name"],
        "state": "to come",
        "cars": f"{stage['cars']:,}",
        "interval": f"{stage['interval_s']:g}",
    }
    if stage["seconds"] is not None:
        row["seconds"] = f"{stage['seconds']:,.0f}"
    if span is None:
        return row if not ended else {**row, "state": "not reached"}
    row["from"] = _clock(span["from_ms"])
    if span["to_ms"] is None:
        share = (now_ms - span["from_ms"]) / 1000 / stage["seconds"] if stage["seconds"] else None
        row |= {"state": "now", "progress": "" if share is None else _bar(share)}
        return row
    passed = (span["to_ms"] - span["from_ms"]) / 1000
    whole = stage["seconds"] is None or passed >= stage["seconds"] - 0.001
    progress = _bar(1.0 if whole else passed / stage["seconds"])
    return {
        **row,
        "state": "done" if whole else "stopped",
        "progress": progress,
        "to": _clock(span["to_ms"]),
    }


def _due(event: dict[str, Any]) -> dict[str, Any]:
    node = f" {event['node']}" if event["what"] == "broker-node" else ""
    due = "" if event["due_ms"] is None else _clock(event["due_ms"])
    return {
        "what": f"{event['kind']} {event['what']}{node} for {event['seconds']:g} s",
        "state": f"due at {event['at']}",
        "from": due,
    }


def fault_rows(fleet: Fleet) -> Rows:
    """The newest cars that wear, and what became of them."""
    return [
        {
            "name": fault["vin"],
            "kind": fault["kind"],
            "onset": utc(fault["onset_ms"]),
            "failure": utc(fault["failure_ms"]),
            "state": "wear" if fault["code"] is None else f"failed with {fault['code']}",
        }
        for fault in fleet["newest_faults"]
    ]


#: Each tab by its key: title, columns, and what makes its rows.
TABS: dict[str, tuple[str, Columns, Callable[[Fleet], Rows]]] = {
    "fleet": (
        "Fleet",
        (
            ("what", "Broker endpoint"),
            ("driving", "Driving"),
            ("parked", "Parked"),
            ("connecting", "Connecting"),
            ("reconnecting", "Reconnecting"),
            ("offline", "Offline"),
            ("refused", "Refused"),
            ("garbage", "Garbage sent"),
            ("connects", "Connects so far"),
            ("disconnects", "Lost connections"),
            ("failures", "Failed connects"),
        ),
        fleet_rows,
    ),
    "delivery": (
        "Delivery",
        (
            ("what", "Worker"),
            ("cars", "Cars"),
            ("sent", "Sent"),
            ("acked", "Acknowledged"),
            ("inflight", "In flight"),
            ("waiting", "Waiting in cars"),
            ("dropped", "Given up"),
            ("lag", "Generator's lag, worst of a second (ms)"),
            ("cpu", "CPU (s)"),
            ("memory", "Memory (MiB)"),
        ),
        delivery_rows,
    ),
    "latency": (
        "Latency",
        (
            ("what", "Milliseconds, since the workers started"),
            ("n", "Count"),
            ("p50", "p50"),
            ("p90", "p90"),
            ("p99", "p99"),
            ("p999", "p99.9"),
            ("p9999", "p99.99"),
            ("max", "max"),
        ),
        latency_rows,
    ),
    "stages": (
        "Stages",
        (
            ("what", "Stage or event"),
            ("state", "State"),
            ("progress", "Progress"),
            ("cars", "Cars"),
            ("interval", "Interval (s)"),
            ("seconds", "Takes (s)"),
            ("from", "From (UTC)"),
            ("to", "To (UTC)"),
        ),
        stage_rows,
    ),
    "faults": (
        "Faults",
        (
            ("name", "VIN"),
            ("kind", "Kind"),
            ("onset", "Onset (event time)"),
            ("failure", "Failure (event time)"),
            ("state", "State"),
        ),
        fault_rows,
    ),
}


def rows_of(fleet: Fleet) -> dict[str, Rows]:
    """Rows of every tab."""
    return {key: rows(fleet) for key, (_, _, rows) in TABS.items()}


def _bar(share: float) -> str:
    share = min(max(share, 0.0), 1.0)
    return "█" * round(share * 10) + "░" * (10 - round(share * 10)) + f" {share:.0%}"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:,.1f}"


def _clock(wall_ms: float) -> str:
    return f"{datetime.fromtimestamp(wall_ms / 1000, UTC):%H:%M:%S}"
