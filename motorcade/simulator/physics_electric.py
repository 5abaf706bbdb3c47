"""The 12 V side: consumers, alternator, battery current, terminal voltage and charge."""

import numpy as np

from motorcade.fleet.arrays import Floats
from motorcade.simulator.cars import CITIES, Build, State
from motorcade.simulator.drive_cycle import local_hour
from motorcade.simulator.wear import Damage

_FAN_A = 28.0  # electric radiator fan, typical
_LIGHTS_A = 9.0
_BLOWER_A = 8.0
_ALTERNATOR_EFFICIENCY = 0.65  # typical claw-pole machine
#: Current a typical alternator gives at idle, and what each further 1,000 rpm of the engine adds.
_ALTERNATOR_IDLE_A, _ALTERNATOR_PER_1000_RPM, _ALTERNATOR_MOST_A = 55.0, 35.0, 120.0
#: Smart charging: recuperation while the car slows, relief while it speeds up (typical).
_RECUPERATION_A_PER_MS2, _RELIEF_A_PER_MS2 = 9.0, 6.0
_RECUPERATION_MOST_A, _RELIEF_MOST_A = 18.0, 9.0
_CHARGE_A_PER_SHARE = 120.0
#: Lead-acid: open circuit 11.8 V empty, 12.75 V full; about 1 V more while the alternator holds it.
_EMPTY_V, _FULL_V, _POLARISATION_V = 11.8, 12.75, 1.05
#: A shorted cell discharges the battery from within: some 15 A when it is gone (typical).
_SHORT_A_PER_V = 7.0
_LOWEST_V, _HIGHEST_V = 8.0, 15.2


def supply(build: Build, state: State, damage: Damage, time_s: float, dt: float) -> Floats:
    """Advance the battery by `dt` seconds, in place; return the alternator's shaft power, W."""
    hour = local_hour(CITIES.longitude[build.city], time_s)
    night = 1 / (1 + np.exp(-2 * (np.abs(hour - 13) - 6)))
    consumers = build.consumers_a + _FAN_A * state.fan + _LIGHTS_A * night
    consumers += _BLOWER_A * np.clip((state.air_c - 18) / 10, 0, 1)

    a = state.acceleration
    wanted = _CHARGE_A_PER_SHARE * (state.charge - build.charge_target)
    wanted -= np.clip(-a * _RECUPERATION_A_PER_MS2, 0, _RECUPERATION_MOST_A)
    wanted += np.clip(a * _RELIEF_A_PER_MS2, 0, _RELIEF_MOST_A)
    most = _ALTERNATOR_IDLE_A + _ALTERNATOR_PER_1000_RPM * (state.rpm - 750) / 1000
    alternator = np.clip(consumers - wanted, 0, np.clip(most, 20, _ALTERNATOR_MOST_A))
    state.draw_a[...] = consumers - alternator

    hours = dt / 3600
    lost_a = state.draw_a + _SHORT_A_PER_V * damage.cell_drop_v
    state.charge -= lost_a * hours / build.battery_ah
    np.clip(state.charge, 0.05, 1.0, out=state.charge)
    open_v = _EMPTY_V + (_FULL_V - _EMPTY_V) * state.charge - damage.cell_drop_v
    polarised = _POLARISATION_V - build.battery_ohm * damage.resistance * state.draw_a
    np.clip(open_v + polarised, _LOWEST_V, _HIGHEST_V, out=state.battery_v)
    shaft_w: Floats = alternator * 14.0 / _ALTERNATOR_EFFICIENCY
    return shaft_w
