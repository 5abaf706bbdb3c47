"""When an alert is raised and cleared, and of which kind: decisions alone, no I/O, no clock.

A leaky counter per car: up for an anomalous message, down for an ordinary one, raised at one level
and cleared at zero. A burst of noise drains away, a fault that stays is announced once.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np

from motorcade.fleet.arrays import Floats, Ints
from motorcade.fleet.messages import AlertAction, AlertState


class Kind(NamedTuple):
    """A kind of alert: which signals speak for it, and what a person should know and do."""

    name: str
    #: Beginnings of signal names; empty for a kind that no signal speaks for.
    signals: tuple[str, ...]
    #: Beginnings of the trouble codes (SAE J2012) that it announces.
    codes: tuple[str, ...]
    severity: str
    advice: str


#: First match wins where two kinds have the same share of a score. The last is the catch-all.
KINDS: tuple[Kind, ...] = (
    Kind(
        "cooling",
        ("coolant_temp", "oil_temp"),
        ("P0217", "P0218", "P0298"),
        "critical",
        "Stop at the next safe place and let the engine cool; have the coolant checked.",
    ),
    Kind(
        "electrical",
        ("battery_", "current_draw"),
        ("P056",),
        "warning",
        "Avoid switching the engine off before a workshop has checked battery and wiring.",
    ),
    Kind(
        "tire",
        ("tire_pressure_",),
        ("C0077",),
        "warning",
        "Drive slowly to the next filling station and check all tires.",
    ),
    Kind(
        "vibration",
        ("engine_vibration_amplitude", "accelerometer_"),
        ("P0524", "C1300"),
        "warning",
        "Avoid high engine speed; have bearings and drive shaft checked.",
    ),
    Kind(
        "control_unit",
        ("control_unit_",),
        ("P060",),
        "warning",
        "Have the control unit's software checked.",
    ),
    Kind(
        "air_intake",
        ("intake_air_flow_speed",),
        ("P010",),
        "warning",
        "Have the air flow sensor and the intake checked; the engine may use more fuel.",
    ),
    Kind(
        "ignition",
        (),
        ("P030",),
        "critical",
        "Avoid full load, it ruins the catalytic converter; have ignition and injection checked.",
    ),
    Kind(
        "anomaly",
        (),
        (),
        "info",
        "The car behaves unlike itself; have it looked at with the next service.",
    ),
)
_BY_NAME = {kind.name: kind for kind in KINDS}
_OTHER = KINDS[-1]


def kind_named(name: str) -> Kind:
    """The kind of this name, which may be a trouble code that no kind here claims."""
    return _BY_NAME.get(name) or Kind(
        name, (), (name,), "warning", f"{name} is to be expected; have the vehicle checked soon."
    )


def kind_of(contributions: Iterable[tuple[str, float]], foretold: str = "") -> Kind:
    """What an alert is about.

    Args:
        contributions: (signal, share of the score): the kind whose signals hold the most.
        foretold: the trouble code that the model foresees, which comes first; empty for none.
    """
    if foretold:
        claimed = (kind for kind in KINDS if kind.codes and foretold.startswith(kind.codes))
        return next(claimed, None) or kind_named(foretold)
    shares = dict.fromkeys(KINDS, 0.0)
    for signal, share in contributions:
        for kind in KINDS:
            if kind.signals and signal.startswith(kind.signals):
                shares[kind] += share
                break
    best = max(KINDS, key=lambda kind: shares[kind])
    return best if shares[best] > 0 else _OTHER


def alert_id(vin: str, kind: str, partition: int, offset: int) -> str:
    """The alert's id, 32 hexadecimal digits: the same whichever model found it, however often."""
    text = f"{vin}|{kind}|{partition}|{offset}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Rule:
    """The counter's levels.

    raise_at: level at which the alert is raised; it is cleared at zero.
    ceiling: level that the counter never passes, so that a long fault clears as fast as a short.
    strong: a score above this many thresholds counts double.
    """

    raise_at: int = 4
    ceiling: int = 8
    strong: float = 4.0


def steps(rule: Rule, score: Floats, threshold: Floats | float) -> Ints:
    """What each message does to its car's counter, shape (n,).

    Args:
        rule: what counts double.
        score: (n,), NaN or infinite thresholds: not scored.
        threshold: of the model, or (n,) of each message's model.

    Returns:
        +1 or +2 for an anomalous message, -1 for an ordinary one, 0 for one that was not scored.
    """
    with np.errstate(invalid="ignore"):
        scored = np.isfinite(threshold) & ~np.isnan(score)
        above = scored & (score > threshold)
        strong = above & (score > threshold * rule.strong)
    return above.astype(np.int64) + strong - (scored & ~above)


class Evidence(NamedTuple):
    """Place of a message in `telemetry`."""

    partition: int
    offset: int


class Change(NamedTuple):
    """A car's new state, and what is to be announced, if anything.

    `alert` is the state whose alert the action is about: on clearing it is the one before.
    """

    state: AlertState
    action: AlertAction | None
    alert: AlertState


def calm(vin: str) -> AlertState:
    """The state of a car that nothing is known of."""
    return AlertState(vin=vin, offset=-1, level=0)


def advance(
    rule: Rule,
    state: AlertState,
    offset: int,
    step: int,
    *,
    evidence: Evidence,
    kind: Callable[[], Kind],
) -> Change | None:
    """Take one scored prediction into account.

    Args:
        state: of the car, before.
        offset: of the prediction; one at or below the state's is already in the state.
        step: +1 or +2 for an anomalous message, -1 for an ordinary one.
        evidence: the message that was scored.
        kind: asked only when an alert is raised.

    Returns:
        The change, or None where the state stays as it is: a state stands for every prediction
        after it that changed nothing.
    """
    if offset <= state.offset:
        return None
    level = min(rule.ceiling, max(0, state.level + step))
    if level == state.level:
        return None
    if level == 0:
        after = msgspec.structs.replace(calm(state.vin), offset=offset)
        return Change(after, AlertAction.CLEARED if state.open_alert else None, state)
    after = msgspec.structs.replace(state, offset=offset, level=level)
    if state.level == 0:
        after = msgspec.structs.replace(
            after, evidence_partition=evidence.partition, evidence_offset=evidence.offset
        )
    if after.open_alert or level < rule.raise_at:
        return Change(after, None, after)
    name = kind().name
    first = (after.evidence_partition, after.evidence_offset)
    after = msgspec.structs.replace(after, kind=name, open_alert=alert_id(state.vin, name, *first))
    return Change(after, AlertAction.RAISED, after)
