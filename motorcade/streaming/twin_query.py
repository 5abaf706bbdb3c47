"""What a person asks of the twin: one car, as a dictionary and as text for a terminal."""

import difflib
import json
import math
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from motorcade.fleet.avro import IDENTITY_FIELDS
from motorcade.fleet.catalogue import Catalogue
from motorcade.fleet.clock import utc
from motorcade.fleet.columns import schema_id_of
from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.predictions import PredictionAvro
from motorcade.fleet.telemetry import TelemetryAvro
from motorcade.streaming import twin_store
from motorcade.streaming.twin_store import Store

_SUGGESTIONS = 3


class UnknownVehicleError(MotorcadeError):
    """The twin knows no car of this id; the message names near ones."""


def show(store: Store, vin: str, catalogue: Catalogue) -> dict[str, Any]:
    """Everything that the twin knows of a car.

    Args:
        store: the twin.
        vin: the car.
        catalogue: names and precisions of its signals.

    Returns:
        vin; telemetry, health, connection, command: an object or null; alerts: those open, newest
        first; dtcs: newest first. Times are milliseconds since 1970.

    Raises:
        UnknownVehicleError: no table knows the car.
        TwinError: the database cannot be read.
        DecodeError: it holds a record that does not decode.
    """
    rows = {table.name: store.rows(table, vin=vin) for table in twin_store.ORDER}
    if not any(rows.values()):
        raise UnknownVehicleError(f"The twin knows no vehicle {vin!r}.", _hint(store, vin))
    return {
        "vin": vin,
        "telemetry": _telemetry(rows["vehicle"], store, catalogue),
        "health": _prediction(rows["health"], catalogue),
        "connection": _connection(_one(rows["connection"])),
        "alerts": _open_alerts(rows["alert"]),
        "dtcs": [_public(row) for row in sorted(rows["dtc"], key=_newest_first)],
        "command": _last_command(rows["command"], rows["command_status"]),
    }


def render(found: dict[str, Any], catalogue: Catalogue) -> RenderableType:
    """A car for a terminal."""
    lines: list[RenderableType] = [Text(found["vin"], style="bold"), _facts(found)]
    lines += [_alert_line(alert) for alert in found["alerts"]]
    lines += [
        Text(f"DTC {dtc['code']} {dtc['kind']} at {utc(dtc['time'])} UTC", style="red")
        for dtc in found["dtcs"]
    ]
    if found["telemetry"]:
        lines.append(_signals(found["telemetry"], catalogue))
    return Group(*lines)


def _hint(store: Store, vin: str) -> str:
    known = store.vins()
    if not known:
        return "It knows none yet: wait until cars have sent telemetry."
    near = difflib.get_close_matches(vin.upper(), known, n=_SUGGESTIONS, cutoff=0.6)
    near = near or known[:_SUGGESTIONS]
    return f"It knows {len(known)}, such as {', '.join(near)}."


def _one(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    return _public(rows[0]) if rows else None


def _telemetry(
    rows: list[dict[str, Any]], store: Store, catalogue: Catalogue
) -> dict[str, Any] | None:
    if not rows:
        return None
    record = rows[0]["record"]
    number = schema_id_of(record)
    codec = TelemetryAvro(catalogue, 0)
    codec.learn(number, json.loads(store.schemas()[number]))
    columns = codec.decode([record], number)
    found = {name: int(getattr(columns, name)[0]) for name in IDENTITY_FIELDS}
    values = zip(catalogue.signals, columns.values[0].tolist(), strict=True)
    # As the car sent them: Avro's floats rounded to their precision.
    signals = {s.name: round(value, s.precision) for s, value in values if math.isfinite(value)}
    return found | {"signals": signals}


def _prediction(rows: list[dict[str, Any]], catalogue: Catalogue) -> dict[str, Any] | None:
    if not rows:
        return None
    record = rows[0]["record"]
    found = PredictionAvro(catalogue, schema_id_of(record)).decode_one(record)
    return {name: found[name] for name in (*IDENTITY_FIELDS, "coverage", "model", "version")} | {
        "score": _finite(found["score"]),
        "threshold": _finite(found["threshold"]),
        "reason": found["reason"],
        "contributions": [
            part | {"share": round(part["share"], 4)} for part in found["contributions"]
        ],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _public(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its keys of storage, its JSON columns decoded."""
    hidden = {"vin", "record_offset", "rank"}
    return {
        name: json.loads(value) if name in _JSON_COLUMNS else value
        for name, value in row.items()
        if name not in hidden
    }


_JSON_COLUMNS = frozenset({"signals", "parameters"})


def _newest_first(row: dict[str, Any]) -> int:
    return -int(row["time"])


def _connection(row: dict[str, Any] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {"online": not row.pop("offline"), **row}


def _open_alerts(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    cleared = {row["id"] for row in rows if row["action"] == "CLEARED"}
    opened = [row for row in rows if row["action"] == "RAISED" and row["id"] not in cleared]
    return [_public(row) for row in sorted(opened, key=_newest_first)]


def _last_command(
    commands: list[dict[str, Any]], statuses: list[dict[str, Any]]
) -> dict[str, Any] | None:
    if not commands:
        return None
    last = max(commands, key=lambda row: (row["issued"], row["id"]))
    status = next((row for row in statuses if row["id"] == last["id"]), None)
    return _public(last) | {
        "status": status["status"] if status else "PENDING",
        "status_time": status["time"] if status else None,
        "reason": status["reason"] if status else "",
    }


def _facts(found: dict[str, Any]) -> Table:
    grid = Table.grid(padding=(0, 2))
    connection, health, command = found["connection"], found["health"], found["command"]
    telemetry = found["telemetry"]
    if connection:
        state = "online" if connection["online"] else "offline"
        place = f"{connection['endpoint']}, firmware {connection['firmware'] or 'unknown'}"
        grid.add_row("connection", f"{state}, connection {connection['connection']}, {place}")
    if telemetry:
        place = f"boot {telemetry['boot']}, message {telemetry['seq']}"
        grid.add_row("telemetry", f"{utc(telemetry['time'])} UTC ({place})")
    if health:
        grid.add_row("health", _health(health))
    if command:
        reason = f" ({command['reason']})" if command["reason"] else ""
        grid.add_row("command", f"{command['name']} {command['status']}{reason}")
    grid.add_row("open alerts", str(len(found["alerts"])))
    return grid


def _health(health: dict[str, Any]) -> str:
    if health["score"] is None:
        return f"not scored: {health['reason']}"
    parts = ", ".join(f"{p['signal']} {p['share']:.0%}" for p in health["contributions"][:3])
    return (
        f"score {health['score']:.4g} of threshold {health['threshold']:.4g} "
        f"by {health['model']} version {health['version']}{': ' + parts if parts else ''}"
    )


def _alert_line(alert: dict[str, Any]) -> Text:
    style = {"critical": "bold red", "warning": "yellow"}.get(alert["severity"], "cyan")
    when = f"{utc(alert['time'])} UTC"
    return Text(f"{alert['severity']} {alert['kind']} since {when}: {alert['advice']}", style=style)


def _signals(telemetry: dict[str, Any], catalogue: Catalogue) -> Table:
    table = Table("signal", "value", "unit", box=None, header_style="dim")
    values = telemetry["signals"]
    for signal in catalogue.signals:
        if signal.name in values:
            table.add_row(signal.name, f"{values[signal.name]:.{signal.precision}f}", signal.unit)
    return table
