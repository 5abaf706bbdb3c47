"""The plan of the fleet as the settings ask for it: the same in the master and every worker."""

from motorcade.fleet.catalogue import load_catalogue
from motorcade.simulator.population import FleetPlan, grid_for, signals_of
from motorcade.simulator.recorded import load_drives
from motorcade.simulator.settings import SimulatorSettings


def plan_of(settings: SimulatorSettings) -> FleetPlan:
    """Read catalogue and recorded drives.

    Raises:
        CatalogueError, RecordingError: as their readers do.
    """
    catalogue = load_catalogue(signals_of(settings.car, settings.signals))
    drives = load_drives(settings.drives, catalogue) if settings.drives else []
    clock = settings.run_clock
    grid_ms = grid_for(clock.speedup, settings.interval_s)
    return FleetPlan(settings.seed, catalogue, clock, tuple(drives), grid_ms, settings.car)
