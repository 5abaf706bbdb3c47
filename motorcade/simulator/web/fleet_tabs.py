"""Tabs of Locust's web UI: cars by endpoint, workers, and faults with what became of them."""

import json
from datetime import UTC, datetime
from typing import Any

from flask import Response, request

from motorcade.simulator.master_control import MasterControl

#: Columns of each tab: key in a row, and title.
_TABS: dict[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "fleet": (
        "Fleet",
        (
            ("name", "Broker endpoint"),
            ("driving", "Driving"),
            ("parked", "Parked"),
            ("connecting", "Connecting"),
            ("reconnecting", "Reconnecting"),
            ("refused", "Refused"),
        ),
    ),
    "delivery": (
        "Delivery",
        (
            ("name", "Worker"),
            ("cars", "Cars"),
            ("sent", "Sent"),
            ("acked", "Acknowledged"),
            ("inflight", "In flight"),
            ("waiting", "Waiting in cars"),
            ("dropped", "Dropped"),
            ("p50", "due → PUBACK p50 (ms)"),
            ("p99", "p99 (ms)"),
            ("lag", "Generator's lag (ms)"),
        ),
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
    ),
}
_CAR_STATES = ("driving", "parked", "connecting", "reconnecting", "refused")


def add_tabs(web_ui: Any, control: MasterControl) -> None:
    """Put the tabs into the UI and their rows into its poll for statistics."""
    web_ui.template_args["extended_tabs"] = [
        {"title": title, "key": key} for key, (title, _) in _TABS.items()
    ]
    web_ui.template_args["extended_tables"] = [
        {"key": key, "structure": [{"key": name, "title": text} for name, text in columns]}
        for key, (_, columns) in _TABS.items()
    ]

    def add_rows(response: Response) -> Response:
        if request.path.endswith("/stats/requests") and response.is_json:
            rows = [{"key": key, "data": data} for key, data in _rows(control.fleet()).items()]
            response.set_data(json.dumps({**(response.json or {}), "extended_stats": rows}))
        return response

    web_ui.app.after_request(add_rows)


def _rows(fleet: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    failed = {failure["vin"]: failure["code"] for failure in fleet["failures"]}
    return {
        "fleet": [
            {"name": endpoint, **{state: cars.get(state, 0) for state in _CAR_STATES}}
            for endpoint, cars in fleet["endpoints"].items()
        ],
        "delivery": [
            {
                "name": str(worker["worker"]),
                "cars": worker["wanted"],
                "sent": worker["sent"],
                "acked": worker["acked"],
                "inflight": worker["in_flight"],
                "waiting": worker["waiting"],
                "dropped": worker["dropped"],
                "p50": round(worker["puback_p50_ms"], 1),
                "p99": round(worker["puback_p99_ms"], 1),
                "lag": round(worker["lag_ms"], 1),
            }
            for worker in fleet["workers"]
        ],
        "faults": [
            {
                "name": fault["vin"],
                "kind": fault["kind"],
                "onset": _clock(fault["onset_ms"]),
                "failure": _clock(fault["failure_ms"]),
                "state": f"failed with {failed[fault['vin']]}"
                if fault["vin"] in failed
                else "wear",
            }
            for fault in fleet["faults"]
        ],
    }


def _clock(event_ms: int) -> str:
    return f"{datetime.fromtimestamp(event_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}"
