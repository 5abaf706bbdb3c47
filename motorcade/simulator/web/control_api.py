"""Control of a run over HTTP, on the web UI's port: events, faults, state, ledgers, health."""

from typing import Any

import msgspec
from flask import Blueprint, Response, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from motorcade.simulator.fleet_events import FleetEventError
from motorcade.simulator.master_control import MasterControl, WorkersError
from motorcade.simulator.master_state import FaultsError

_GAUGES = {
    "connected": "Cars that are connected to a broker",
    "offline": "Cars that a fleet event keeps off the network",
    "garbage": "Messages that broke rules on purpose",
    "sent": "Telemetry messages on the wire since the workers started",
    "acked": "Telemetry messages that a broker acknowledged",
    "dropped": "Telemetry messages given up because a car's buffer was full",
    "in_flight": "Messages that wait for their PUBACK",
    "waiting": "Messages that wait in cars",
    "disconnects": "Connections lost that nobody asked to end",
    "lag_ms": "Worst delay of a message by the generator itself within the last second",
}


def control_api(control: MasterControl) -> Blueprint:
    """Routes under /motorcade, health and metrics.

    GET fleet: its state; GET truth: every fault and failure; GET scenario: what is or was played,
    whole; POST events, faults, ledger.
    """
    api = Blueprint("motorcade", __name__)

    @api.get("/motorcade/fleet")
    def fleet() -> Response:
        return jsonify(control.fleet())

    @api.get("/motorcade/truth")
    def truth() -> Response:
        text = msgspec.json.encode(control.state.truth())
        return Response(text, content_type="application/json")

    @api.get("/motorcade/scenario")
    def scenario() -> Response:
        one = control.player.last
        return jsonify(None if one is None else one.model_dump(mode="json"))

    @api.post("/motorcade/faults")
    def faults() -> Response:
        try:
            return jsonify(control.begin_faults(request.get_data()))
        except FaultsError as error:
            return _problem(error, 400)

    @api.post("/motorcade/events")
    def events() -> Response:
        try:
            return jsonify(control.begin_event(request.get_data()))
        except (FaultsError, FleetEventError) as error:
            return _problem(error, 400)

    @api.post("/motorcade/ledger")
    def ledgers() -> Response:
        try:
            return jsonify({"ledgers": control.flush_ledgers()})
        except WorkersError as error:
            return _problem(error, 504)

    _watch(api, control)
    return api


def _watch(api: Blueprint, control: MasterControl) -> None:
    """Health and metrics."""
    registry = CollectorRegistry()
    gauges = {
        name: Gauge(f"motorcade_simulator_{name}", text, registry=registry)
        for name, text in _GAUGES.items()
    }

    @api.get("/healthz")
    def healthz() -> Response:
        return jsonify({"name": "simulator", "alive": True})

    @api.get("/readyz")
    def readyz() -> Response:
        waiting = control.waiting_for
        answer = jsonify({"name": "simulator", "ready": not waiting, "waiting_for": waiting})
        answer.status_code = 503 if waiting else 200
        return answer

    @api.get("/metrics")
    def metrics() -> Response:
        state = control.fleet()
        for name, gauge in gauges.items():
            gauge.set(state[name])
        return Response(generate_latest(registry), content_type=str(CONTENT_TYPE_LATEST))


def _problem(error: Any, status: int) -> Response:
    answer = jsonify({"problem": error.what, "remedy": error.remedy})
    answer.status_code = status
    return answer
