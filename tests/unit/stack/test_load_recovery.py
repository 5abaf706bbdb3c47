"""When a run counts as recovered, and what a stretch of it came to."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from motorcade.fleet import topics
from motorcade.simulator.scenarios.events import Drop, Garbage, Offline, Pace
from motorcade.stack.load.recovery import Happening, has_to_recover, lasts_s, recovered_s
from motorcade.stack.load.watch import KafkaView, Sample
from motorcade.stack.load.window import Window

CARS, RATE = 100, 50.0


def look(
    second: float,
    *,
    lag: int = 0,
    late_ms: float = 50,
    unready: frozenset[str] = frozenset(),
    **fleet: Any,
) -> Sample:
    """A look at a run in which everything is as it should be, but for what is given."""
    sent = int(second * RATE)
    counts = dict.fromkeys((topics.RAW, topics.TELEMETRY, topics.DLQ, topics.PREDICTIONS), sent)
    state = {"connected": CARS, "wanted": CARS, "offline": 0, "sent": sent, "acked": sent}
    return Sample(
        time_ms=round(second * 1000),
        fleet=state | fleet,
        kafka=KafkaView(counts, {"refine": lag, "score": 0}, np.full(20, late_ms)),
        cpu_s={"bridge": second * 0.25, "refine": second * 0.5},
        rss_mib={},
        machine=0.6,
        drops=0,
        unready=unready,
    )


def recovery(samples: list[Sample], over_s: float = 10, until_s: float = 60) -> float | None:
    happening = Happening("kill", "bridge", round(over_s * 1000), round(over_s * 1000), True)
    return recovered_s(samples, happening, RATE, round(until_s * 1000))


def run(**disturbed: Any) -> list[Sample]:
    """A minute in which something is amiss from second 11 to 20."""
    return [look(s, **disturbed) if 11 <= s <= 20 else look(s) for s in range(61)]


@pytest.mark.parametrize(
    "disturbed",
    [{"connected": 99}, {"lag": 1000}, {"late_ms": 9000.0}, {"unready": frozenset({"dispatch"})}],
    ids=["a car is away", "refine lags", "Kafka gets what is old", "a process is not ready"],
)
def test_a_run_has_recovered_when_nothing_is_amiss_any_more(disturbed: dict[str, Any]) -> None:
    assert recovery(run(**disturbed)) == 11


def test_the_twin_may_hold_what_it_writes_in_ten_seconds() -> None:
    def holding(records: int) -> list[Sample]:
        found = []
        for one in run():
            assert one.kafka is not None
            found.append(replace(one, kafka=replace(one.kafka, lag={"twin": records})))
        return found

    assert recovery(holding(int(RATE * 10))) == 0
    assert recovery(holding(int(RATE * 13))) is None
    assert Window(holding(int(RATE * 10)), qos=1).observed(RATE)["lag_s"] == 0
    assert Window(holding(int(RATE * 13)), qos=1).observed(RATE)["lag_s"] == pytest.approx(3)


def test_calm_that_does_not_last_is_no_recovery() -> None:
    samples = [
        look(s, connected=50 if s % 3 else CARS) if 10 <= s < 30 else look(s) for s in range(61)
    ]
    assert recovery(samples) == 20


def test_a_calm_too_short_to_last_is_no_recovery() -> None:
    samples = [look(s, connected=50 if 11 <= s < 57 else CARS) for s in range(61)]
    assert recovery(samples[11:]) is None
    longer = [look(s, connected=50 if 11 <= s < 55 else CARS) for s in range(61)]
    assert recovery(longer[11:]) == 45


def test_what_was_never_calm_again_has_not_recovered() -> None:
    samples = [look(s, lag=1000 * s) if s > 11 else look(s) for s in range(61)]
    assert recovery(samples[12:]) is None


def test_cars_that_send_into_the_void_are_not_calm() -> None:
    """The bridge is dead: no lag, no latency, only nothing comes."""
    samples = []
    for second in range(61):
        one = look(second)
        if 11 <= second <= 20:
            assert one.kafka is not None
            silent = KafkaView(dict.fromkeys(one.kafka.counts, 10), {}, np.zeros(0))
            one = replace(one, kafka=silent)
        samples.append(one)
    found = recovery(samples)
    assert found is not None
    assert found > 9


def test_a_kafka_that_does_not_answer_is_not_calm_but_one_that_there_is_none_is() -> None:
    samples = run()
    away = [replace(s, kafka=None) if 11 <= s.time_ms / 1000 <= 20 else s for s in samples]
    assert recovery(away) == 11
    without = [replace(s, kafka=None, without_kafka=True) for s in samples]
    assert recovery(without) == 0


def test_cars_in_a_tunnel_are_not_missed() -> None:
    assert recovery(run(connected=60, offline=40)) == 0


def test_an_event_is_over_when_its_last_group_is_out() -> None:
    tunnel = Offline(at=0, kind="offline", seconds=20, groups=4, stagger_s=5)
    assert lasts_s(tunnel) == 35
    assert has_to_recover(tunnel)
    assert lasts_s(Drop(at=0, kind="drop")) == 0
    assert not has_to_recover(Pace(at=0, kind="pace", interval_s=1))
    assert not has_to_recover(Garbage(at=0, kind="garbage"))


def test_a_stretch_tells_rates_lag_and_cpu() -> None:
    recent = {"puback": {"p50": 5.0, "p99": 30.0, "n": 9}, "lag": {"p50": 1.0, "p99": 4.0, "n": 9}}
    samples = [look(s, lag=int(s * 20), recent=recent) for s in range(10, 21)]
    window = Window(samples, qos=1)
    observed = window.observed(RATE)
    assert window.offered == pytest.approx(RATE)
    assert observed["due_to_kafka_p99_ms"] == 50
    assert observed["due_to_puback_p99_ms"] == 30
    assert observed["generator_lag_p99_ms"] == 4
    assert observed["lag_s"] == pytest.approx(400 / RATE)
    assert observed["refused_connects"] == observed["disconnects"] == observed["dropped"] == 0
    load = window.load()
    assert load.lag_growth["refine"] == pytest.approx(20)
    assert load.cores == pytest.approx({"bridge": 0.25, "refine": 0.5})
    assert load.machine == pytest.approx(0.6)


def test_a_stretch_without_kafka_or_acknowledgements_observes_neither() -> None:
    samples = [replace(look(s, connected=90), kafka=None, without_kafka=True) for s in range(5)]
    window = Window(samples, qos=0)
    assert window.observed(RATE).keys() == {
        "refused_connects",
        "disconnects",
        "dropped",
        "generator_lag_p99_ms",
    }
    assert window.observed(RATE)["refused_connects"] == 10  # cars that never got in
    assert math.isnan(window.load().acked)


def test_behind_somebody_elses_kafka_no_lag_is_observed_rather_than_none() -> None:
    looks = [look(s, lag=0) for s in range(5)]
    samples = [replace(s, kafka=replace(s.kafka, lag={})) for s in looks if s.kafka is not None]
    assert "lag_s" not in Window(samples, qos=1).observed(RATE)
    away = replace(looks[-1], kafka=None)
    assert Window([*looks[:-1], away], qos=1).observed(RATE)["lag_s"] == math.inf
