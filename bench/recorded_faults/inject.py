"""Faults put into recorded drives: what sensors would have read. Pure."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Floats
from motorcade.fleet.catalogue import Catalogue

#: Event seconds in which a fault that grows is full-grown.
GROWN_S = 240.0
#: A thermostat or sensor that is 15 °C off; full-grown.
COOLANT_C = 15.0
#: A misfire leaves oxygen in the exhaust, so the controller adds fuel: percent points at each trim,
#: together below the 25 % at which cars commonly set P0171.
TRIM = 10.0
#: Share by which engine speed hunts while a cylinder fails to fire.
HUNTING = 0.04

Inject = Callable[[Floats, NDArray[np.float64], Catalogue, np.random.Generator], Floats]


def coolant_drift(
    values: Floats, since_s: NDArray[np.float64], catalogue: Catalogue, _: np.random.Generator
) -> Floats:
    """The coolant reads warmer and warmer."""
    return _added(values, catalogue, "coolant_temp", COOLANT_C * _grown(since_s))


def stuck_throttle(
    values: Floats, since_s: NDArray[np.float64], catalogue: Catalogue, _: np.random.Generator
) -> Floats:
    """The throttle's sensor goes on telling what it told last."""
    return _stuck(values, since_s, catalogue, "throttle_pos")


def stuck_pressure(
    values: Floats, since_s: NDArray[np.float64], catalogue: Catalogue, _: np.random.Generator
) -> Floats:
    """The manifold pressure's sensor goes on telling what it told last."""
    return _stuck(values, since_s, catalogue, "manifold_pressure")


def misfire_trims(
    values: Floats, since_s: NDArray[np.float64], catalogue: Catalogue, rng: np.random.Generator
) -> Floats:
    """Both fuel trims rise, and engine speed hunts."""
    grown = _grown(since_s)
    out = _added(values, catalogue, "long_term_fuel_trim", TRIM * grown)
    out = _added(out, catalogue, "short_term_fuel_trim", TRIM * grown)
    rpm = catalogue.column("engine_rpm")
    out[:, rpm] *= 1 + HUNTING * grown * rng.normal(size=len(out))
    return out


FAULTS: dict[str, Inject] = {
    "coolant drift": coolant_drift,
    "stuck throttle sensor": stuck_throttle,
    "stuck manifold pressure sensor": stuck_pressure,
    "misfire-like trims": misfire_trims,
}


def _grown(since_s: NDArray[np.float64]) -> Floats:
    grown: Floats = np.clip(since_s / GROWN_S, 0, 1)
    return grown


def _added(values: Floats, catalogue: Catalogue, name: str, much: Floats) -> Floats:
    out = values.copy()
    column = catalogue.column(name)
    out[:, column] = np.clip(out[:, column] + much, catalogue.low[column], catalogue.high[column])
    return out


def _stuck(values: Floats, since_s: NDArray[np.float64], catalogue: Catalogue, name: str) -> Floats:
    out = values.copy()
    column, rows = catalogue.column(name), np.flatnonzero(since_s >= 0)
    out[rows, column] = out[rows[0], column]
    return out
