"""The verdict: PASS, FAIL or INVALID, by thresholds that may each be left out."""

import math
from dataclasses import fields, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from motorcade.simulator.audit.delivery import Delivery
from motorcade.simulator.audit.faults import FaultAccounts
from motorcade.simulator.audit.judge import judge
from motorcade.simulator.audit.latency import Latency
from motorcade.simulator.audit.limits import Limits
from motorcade.simulator.audit.partition import PartitionAccount
from motorcade.simulator.audit.reconcile import reconcile
from motorcade.simulator.audit.render import account_rows, render
from motorcade.simulator.audit.verdict import (
    DUE_TO_KAFKA,
    RECONNECT,
    Findings,
    Fleet,
    Generator,
    Outcome,
    Scope,
    Verdict,
)
from motorcade.simulator.measures import new_histogram, record

from .run_document import ACCOUNTS, findings

_PAGE = Path(__file__).parents[3] / "docs" / "verdict.md"


def unjudged(verdict: Verdict) -> dict[str, str]:
    """What is shown of each threshold that is not judged."""
    assert all(check.ok for check in verdict.checks if not check.judged)
    return {check.name: check.observed for check in verdict.checks if not check.judged}


def broken(verdict: Verdict) -> list[str]:
    return [check.name for check in verdict.checks if not check.ok]


def said(verdict: Verdict) -> str:
    written = StringIO()
    Console(file=written, width=200).print(render(verdict))
    return written.getvalue()


def accounts(**changes: Any) -> Findings:
    return findings(accounts=replace(ACCOUNTS, **changes))


def test_a_run_in_which_all_went_well_passes_and_says_so_first() -> None:
    verdict = judge(findings(), Limits())
    assert verdict.outcome is Outcome.PASS
    assert said(verdict).splitlines()[0].strip() == "PASS"


@pytest.mark.parametrize(
    ("figure", "check"),
    [
        ("lost", "acknowledged but not in telemetry.raw"),
        ("unaccounted", "in raw but neither refined nor quarantined"),
        ("refined_and_quarantined", "both refined and quarantined"),
        ("invented", "refined or quarantined but never in raw"),
        ("unpredicted", "refined but neither scored nor not scored"),
        ("refined_repeats", "refined more than once"),
        ("predicted_repeats", "scored more than once"),
        ("raw_reordered", "out of order per car in telemetry.raw"),
        ("reordered", "behind a newer one and not flagged late"),
    ],
)
def test_one_message_that_does_not_reconcile_fails(figure: str, check: str) -> None:
    verdict = judge(accounts(**{figure: 1}), Limits())
    assert (verdict.outcome, broken(verdict)) == (Outcome.FAIL, [check])


def test_what_is_excused_is_shown_and_does_not_fail() -> None:
    found = accounts(acknowledged_missing=5, excused=5, sent_missing=5)
    verdict = judge(found, Limits())
    assert verdict.outcome is Outcome.PASS
    assert "excused" in said(verdict)


@pytest.mark.parametrize(
    ("reordered", "refused_for_now", "left"), [(3, 3, 0), (2, 5, 0), (4, 3, 1), (1, 0, 1)]
)
def test_only_as_many_reorders_in_raw_are_excused_as_the_broker_had_refused_for_now(
    reordered: int, refused_for_now: int, left: int
) -> None:
    part = PartitionAccount()
    part.counts.raw_reordered = reordered
    overtaken = reconcile(Delivery(), [part.finish()], refused_for_now).raw_overtaken
    verdict = judge(accounts(raw_reordered=reordered, raw_overtaken=overtaken), Limits())
    assert broken(verdict) == (["out of order per car in telemetry.raw"] if left else [])
    shown = said(verdict)
    assert f"{reordered} behind a newer one" in shown
    if overtaken:
        assert f"{left}, and {overtaken} that the broker had refused for now" in shown
    assert verdict.to_json()["accounts"]["raw_overtaken"] == overtaken


def test_the_time_to_come_back_stands_beside_the_time_to_connect() -> None:
    verdict = judge(findings(), Limits())
    assert [*verdict.to_json()["latencies"]][:2] == ["connect", RECONNECT]
    assert RECONNECT in said(verdict)


def test_a_generator_that_failed_makes_a_run_invalid_whatever_else_broke() -> None:
    for generator in (Generator(1, 12.0), Generator(0, 5000.0), Generator(0, None)):
        found = replace(accounts(lost=3), generator=generator)
        assert judge(found, Limits()).outcome is Outcome.INVALID
    assert judge(accounts(sent=0), Limits()).outcome is Outcome.INVALID


def test_a_target_that_acknowledges_nothing_fails() -> None:
    verdict = judge(accounts(acknowledged=0), _NONE)
    assert verdict.outcome is Outcome.FAIL
    assert broken(verdict) == ["messages acknowledged to cars"]


@pytest.mark.parametrize("scope", Scope)
def test_a_run_whose_messages_stay_in_the_cars_fails(scope: Scope) -> None:
    stuck = replace(accounts(sent=100_000, acknowledged=10), scope=scope)
    assert broken(judge(stuck, Limits())) == ["acknowledged of all that cars had to send"]
    for left in ({"unsent": 61}, {"refused": 61}, {"buffer_dropped": 61}):
        assert judge(findings(fleet=Fleet(**left), scope=scope), Limits()).outcome is Outcome.FAIL
    waiting = findings(fleet=Fleet(unsent=61), qos=0, scope=scope)
    assert broken(judge(waiting, Limits())) == ["sent of all that cars had to send"]


def test_a_process_that_restarts_fails_unless_the_run_killed_it() -> None:
    crashed = judge(findings(asked_restarts={"bridge": 3}), Limits())
    assert broken(crashed) == ["restarts nobody asked for"]
    assert "mosquitto-1 1" in said(crashed)
    killed = judge(findings(asked_restarts={"mosquitto-1": 1}), Limits())
    assert killed.outcome is Outcome.PASS
    assert "0; through the run's own events: mosquitto-1 1" in said(killed)


def test_false_alerts_are_judged_though_nothing_failed() -> None:
    faults = FaultAccounts(raised=3, false_alerts=3, healthy_vehicle_days=1.0)
    assert broken(judge(findings(faults=faults), Limits())) == ["false alerts"]


def test_qos_0_counts_what_was_sent_and_shows_what_was_lost() -> None:
    found = replace(accounts(acknowledged=0, sent_missing=600), qos=0)
    verdict = judge(found, Limits())
    assert verdict.outcome is Outcome.PASS
    assert "1.000%" in said(verdict)
    assert judge(found, Limits(qos0_lost_share=0.01)).outcome is Outcome.PASS
    assert broken(judge(found, Limits(qos0_lost_share=0.009))) == [
        "sent with QoS 0 but not in telemetry.raw"
    ]


def test_without_kafka_only_the_cars_are_judged() -> None:
    found = replace(accounts(lost=3, unaccounted=3, raw_reordered=1), scope=Scope.CARS)
    verdict = judge(found, Limits())
    assert verdict.outcome is Outcome.PASS
    assert "in telemetry.raw" not in [name for name, _, _ in account_rows(verdict)]
    raw = judge(replace(found, scope=Scope.RAW), Limits())
    assert broken(raw) == [
        "acknowledged but not in telemetry.raw",
        "out of order per car in telemetry.raw",
    ]


#: Limits of what only a Kafka can tell, and of what only our pipeline behind it can.
_OF_KAFKA: dict[str, Any] = {"lost": 0, "qos0_lost_share": 0.5, "due_to_kafka_p99_ms": 1.0}
_OF_PIPELINE: dict[str, Any] = {
    "due_to_prediction_p99_ms": 1.0,
    "due_to_alert_p99_ms": 1.0,
    "alert_to_car_p99_ms": 1.0,
    "announced_share": 1.0,
    "median_lead_minutes": 999.0,
    "false_alerts_per_day": 0.0,
}
#: That hold whatever the limits are.
_ALWAYS_RAW = {"out of order per car in telemetry.raw"}
_ALWAYS_PIPELINE = {"refined or quarantined, and scored or not, once each"}


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("name", [*_OF_KAFKA, *_OF_PIPELINE])
def test_what_only_kafka_could_tell_is_not_judged_without_one_and_shown_so(
    name: str, qos: int
) -> None:
    # As far as Kafka is not there, figures of it would break every limit.
    wrong = accounts(lost=9, sent_missing=59_999, raw_reordered=9, unaccounted=9)
    faults = FaultAccounts(failures=2, raised=3, false_alerts=9, raised_twice=1)
    found = replace(wrong, scope=Scope.CARS, qos=qos, faults=faults)
    limits = replace(_NONE, **{name: (_OF_KAFKA | _OF_PIPELINE)[name]})
    verdict = judge(found, limits)
    assert broken(verdict) == []
    shown = unjudged(verdict)
    assert set(shown.values()) == {"not judged: no Kafka"}
    always = _ALWAYS_RAW | _ALWAYS_PIPELINE | {"alerts that the car acknowledged"}
    applies = name != ("lost" if qos == 0 else "qos0_lost_share")
    assert len(shown.keys() - always) == int(applies)
    assert "not judged: no Kafka" in said(verdict)

    foreign = judge(replace(found, scope=Scope.RAW, accounts=ACCOUNTS), limits)
    shown = unjudged(foreign)
    assert set(shown.values()) == {"not judged: no pipeline of ours"}
    assert len(shown.keys() - always) == int(name in _OF_PIPELINE)


def test_with_the_pipeline_there_nothing_stays_unjudged() -> None:
    limits = replace(_NONE, **(_OF_KAFKA | _OF_PIPELINE))
    assert unjudged(judge(findings(faults=FaultAccounts(failures=1)), limits)) == {}


#: What breaks each limit: the findings, and the limit.
_BREAKS: dict[str, tuple[Findings, Any]] = {
    "connected_share": (findings(fleet=Fleet(cars=500, connected=499)), 1.0),
    "delivered_share": (findings(fleet=Fleet(unsent=61)), 0.999),
    "least_rate_share": (findings(fleet=Fleet(rate_share=0.94)), 0.95),
    "lost": (accounts(lost=1), 0),
    "qos0_lost_share": (replace(accounts(sent_missing=2), qos=0), 1e-5),
    "disconnects": (findings(fleet=Fleet(disconnects=2)), 1),
    "connect_failures": (findings(fleet=Fleet(connect_failures=2)), 1),
    "buffer_dropped": (findings(fleet=Fleet(buffer_dropped=2)), 1),
    "connect_p99_ms": (findings(), 89),
    "due_to_puback_p99_ms": (findings(), 89),
    "due_to_kafka_p99_ms": (findings(), 89),
    "due_to_prediction_p99_ms": (findings(), 89),
    "due_to_alert_p99_ms": (findings(), 89),
    "alert_to_car_p99_ms": (findings(), 89),
    "recovered_within_s": (findings(fleet=Fleet(recovered_s=math.inf)), 60),
    "announced_share": (findings(faults=FaultAccounts(failures=2, announced=1)), 0.9),
    "median_lead_minutes": (
        findings(faults=FaultAccounts(failures=1, announced=1, median_lead_minutes=3.0)),
        30.0,
    ),
    "false_alerts_per_day": (
        findings(faults=FaultAccounts(false_alerts=2, healthy_vehicle_days=1.0)),
        1.0,
    ),
    "generator_lag_p99_ms": (findings(), 11.0),
}
_NONE = Limits(**{field.name: None for field in fields(Limits)})


def test_every_limit_is_tried() -> None:
    assert _BREAKS.keys() == {field.name for field in fields(Limits)}


@pytest.mark.parametrize("name", _BREAKS)
def test_each_limit_breaks_by_itself_and_is_not_judged_when_left_out(name: str) -> None:
    found, limit = _BREAKS[name]
    assert broken(judge(found, _NONE)) == []
    verdict = judge(found, replace(_NONE, **{name: limit}))
    assert len(broken(verdict)) == 1
    assert verdict.outcome is not Outcome.PASS


def test_a_figure_that_was_not_observed_breaks_its_limit() -> None:
    unknown = findings(fleet=Fleet())
    assert broken(judge(unknown, Limits(connected_share=0.5))) == ["cars connected"]
    assert broken(judge(unknown, Limits(least_rate_share=0.5))) == [
        "rate over the stages, acknowledged"
    ]
    none = findings(latencies={DUE_TO_KAFKA: Latency(0)})
    assert broken(judge(none, Limits())) == ["due → Kafka p99"]


@pytest.mark.parametrize(
    ("p99", "shown"), [(1298.4, "1,298 ms"), (41.26, "41.3 ms"), (0.126, "0.126 ms")]
)
def test_a_latency_is_shown_as_people_read_it(p99: float, shown: str) -> None:
    one = Latency(9, p99, p99, p99, p99, p99, p99, p99)
    [check] = [
        check
        for check in judge(findings(latencies={DUE_TO_KAFKA: one}), Limits()).checks
        if check.name == "due → Kafka p99"
    ]
    assert check.observed == shown


def test_latencies_are_those_of_the_histogram() -> None:
    histogram = new_histogram()
    record(histogram, [float(ms) for ms in range(1, 10_001)])
    latency = Latency.of(histogram)
    assert latency.n == 10_000
    assert latency.mean == pytest.approx(5000, rel=0.002)
    for share, value in ((0.5, latency.p50), (0.9, latency.p90), (0.9999, latency.p9999)):
        assert value == pytest.approx(share * 10_000, rel=0.002)
    assert latency.max == pytest.approx(10_000, rel=0.002)
    assert Latency.of(new_histogram()) == Latency(0)


def test_the_page_on_the_verdict_names_every_check_and_threshold() -> None:
    page = " ".join(_PAGE.read_text("utf-8").split())
    assert {field.name for field in fields(Limits) if f"`{field.name}`" not in page} == set()
    limits = Limits(**{name: limit for name, (_, limit) in _BREAKS.items()})
    found = findings(faults=FaultAccounts(failures=1))
    names = {
        check.name for qos in (0, 1) for check in judge(replace(found, qos=qos), limits).checks
    }
    # The page says "acknowledged (QoS 0: sent)" for both.
    names = {name.replace("sent of all", "of all") for name in names}
    names = {name.replace("acknowledged of all", "of all") for name in names}
    names = {name.replace(", sent", ", acknowledged") for name in names}
    assert {name for name in names if name not in page} == set()
