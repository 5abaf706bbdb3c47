"""A load run's looks become the series of its document."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from motorcade.fleet import topics
from motorcade.stack.load.recording import series_of
from motorcade.stack.load.watch import KafkaView, Sample


def fleet(sent: int, **changes: Any) -> dict[str, Any]:
    quiet = {"n": 0, "p50": 0.0, "p99": 0.0}
    return {
        "connected": 10,
        "cars": {"driving": 10},
        "lag_ms": 4.0,
        "recent": {"puback": {"n": 5, "p50": 3.0, "p99": 9.0}, "connect": quiet},
        "sent": sent,
        **changes,
    }


def kafka(raw: int, latencies: list[float]) -> KafkaView:
    return KafkaView({topics.RAW: raw}, {"refine": 7}, np.array(latencies))


def look(second: float, cars: Mapping[str, Any], seen: KafkaView | None, cpu_s: float) -> Sample:
    return Sample(round(second * 1000), cars, seen, {"bridge": cpu_s}, {"bridge": 99.5}, 0.5, 2)


def test_counters_become_rates_by_the_time_that_passed() -> None:
    series = series_of(
        [
            look(0, fleet(100), kafka(90, []), 1.0),
            look(2, fleet(300), kafka(280, [5.0, 7.0]), 1.5),
        ]
    )
    assert series.time_ms == [0, 2000]
    figures = {name: values[-1] for name, values in series.figures.items()}
    assert figures["rate.sent"] == 100
    assert figures["rate.raw"] == 95
    assert figures["cpu.bridge"] == 0.25
    assert figures["rss.bridge"] == 99.5
    assert figures["latency.kafka.p50"] == 6
    assert figures["latency.puback.p99"] == 9
    assert figures["lag.refine"] == 7
    assert figures["generator.lag_ms"] == 4
    assert figures["broker.drops"] == 2
    assert series.figures["rate.sent"][0] is None
    assert "latency.connect.p50" not in series.figures


def test_what_did_not_answer_leaves_a_gap() -> None:
    series = series_of(
        [
            look(0, fleet(100), kafka(90, [1.0]), 1.0),
            look(1, {}, None, 1.1),
            look(2, fleet(300), kafka(280, []), 1.2),
        ]
    )
    for name in ("cars.connected", "lag.refine", "latency.puback.p50"):
        first, gap, last = series.figures[name]
        assert gap is None
        assert None not in {first, last}
    assert series.figures["latency.kafka.p99"] == [1.0, None, None]
    # A rate needs two looks in a row.
    assert not {"rate.sent", "rate.raw"} & series.figures.keys()


def test_a_process_that_was_started_again_never_used_less_than_nothing() -> None:
    series = series_of([look(0, fleet(9), None, 5.0), look(1, fleet(4), None, 0.1)])
    assert series.figures["cpu.bridge"][1] == 0.0
    assert series.figures["rate.sent"][1] == 0.0
