"""What came of the rate that the stages ask for; pure, from a run's samples."""

from collections.abc import Mapping, Sequence
from typing import Any

from motorcade.simulator.scenarios.model import Scenario
from motorcade.stack.load.watch import Sample


def rate_share(
    scenario: Scenario, spans: Sequence[Mapping[str, Any]], samples: Sequence[Sample]
) -> float | None:
    """Messages/s over all stages as a share of what their cars and intervals ask for.

    Args:
        scenario: whose stages they are; at QoS 1 acknowledged messages count, at QoS 0 sent ones.
        spans: of the stages as they were, each {name, from_ms, to_ms}.
        samples: the run's, oldest first.

    Returns:
        None where there is no stage, or one that was not seen from its beginning to its end.
    """
    counted = "acked" if scenario.publish.qos else "sent"
    cars, interval = scenario.ramp_cars, scenario.publish.interval_s
    came = wanted = 0.0
    for stage in scenario.stages:
        cars = cars if stage.cars is None else stage.cars
        interval = stage.interval_s or interval
        span = next((one for one in spans if one["name"] == stage.name), None)
        if span is None or span["to_ms"] is None:
            return None
        within = [s for s in samples if s.fleet and span["from_ms"] <= s.time_ms <= span["to_ms"]]
        if len(within) < 2:
            return None
        came += within[-1].fleet[counted] - within[0].fleet[counted]
        wanted += cars / interval * (within[-1].time_ms - within[0].time_ms) / 1000
    return came / wanted if wanted else None
