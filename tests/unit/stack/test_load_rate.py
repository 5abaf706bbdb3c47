"""What share of the rate that its stages ask for came of a run."""

import pytest

from motorcade.simulator.scenarios.load import load_scenario
from motorcade.stack.load.rate import rate_share
from motorcade.stack.load.watch import Sample

#: 600 messages/s after a ramp of ten seconds.
SCENARIO = ["fleet.cars=6000", "stages=[{name: hold, seconds: 60s}]"]
HOLD = [{"name": "ramp", "from_ms": 0, "to_ms": 10_000}]
HOLD += [{"name": "hold", "from_ms": 10_000, "to_ms": 70_000}]


def samples(acked_per_s: int, sent_per_s: int = 600) -> list[Sample]:
    return [
        Sample(s * 1000, {"acked": acked_per_s * s, "sent": sent_per_s * s}, None, {}, {}, 0.5, 0)
        for s in range(80)
    ]


@pytest.mark.parametrize(("acked_per_s", "share"), [(600, 1.0), (540, 0.9), (0, 0.0)])
def test_acknowledged_messages_are_held_against_cars_and_interval(
    acked_per_s: int, share: float
) -> None:
    scenario = load_scenario("demo-100k", SCENARIO)
    assert rate_share(scenario, HOLD, samples(acked_per_s)) == pytest.approx(share)


def test_at_qos_0_what_went_out_counts() -> None:
    scenario = load_scenario("demo-100k", [*SCENARIO, "publish.qos=0"])
    assert rate_share(scenario, HOLD, samples(0, 540)) == pytest.approx(0.9)


def test_a_stage_that_was_not_seen_leaves_the_rate_unknown() -> None:
    scenario = load_scenario("demo-100k", SCENARIO)
    assert rate_share(scenario, HOLD[:1], samples(600)) is None
    assert rate_share(scenario, HOLD, samples(600)[:5]) is None
    assert rate_share(scenario, [HOLD[0], {**HOLD[1], "to_ms": None}], samples(600)) is None
