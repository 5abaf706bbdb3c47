"""Judging: known values, the stream's own alerts, and a trained model that labels alone sustain."""

from dataclasses import replace

import numpy as np
import pytest

from motorcade.fleet.alert_rules import Evidence, Rule, advance, calm, kind_named, steps
from motorcade.fleet.arrays import Floats
from motorcade.fleet.messages import AlertAction, DiagnosticTroubleCode
from motorcade.ml.judging.bootstrap import Draws, areas
from motorcade.ml.judging.evaluation import NO_ALERT, Terms, Verdict, evaluate
from motorcade.ml.judging.events import account, healthy_days, raised, sweep
from motorcade.ml.judging.metrics import (
    calibration_error,
    lead_quantiles,
    levels,
    poisson_upper,
    ranking,
    reliability,
)
from motorcade.ml.judging.observe import Observed, Streams, observe
from motorcade.ml.judging.report import render
from motorcade.ml.labels.split import TEST, by_vehicle
from motorcade.ml.models.catalogue import architecture
from motorcade.ml.training.learn import Candidate, Plan
from motorcade.simulator.wear import WearKind

from .driving import HOUR_MS, Driven, driven
from .learning import learnt_by
from .telemetry import CATALOGUE, START_MS, Batches

MINUTE_MS = 60_000
RULE = Rule()


def test_the_upper_bound_of_a_rate_is_garwoods() -> None:
    assert poisson_upper(0, 1000) == pytest.approx(0.0029957, abs=1e-7)
    assert poisson_upper(4, 1000) == pytest.approx(0.0091535, abs=1e-7)
    assert poisson_upper(0, 0) == float("inf")


def test_the_calibration_error_is_the_mean_distance_of_what_was_told_from_what_came() -> None:
    told = np.array([0.05] * 10 + [0.95] * 10)
    came = np.array([False] * 10 + [True] * 5 + [False] * 5)
    bins = reliability(told, came)
    assert [(one.count, one.failed) for one in bins] == [(10, 0.0), (10, 0.5)]
    assert calibration_error(bins) == pytest.approx(0.5 * 0.05 + 0.5 * 0.45)


def test_quantiles_of_lead_times_are_those_of_the_announced() -> None:
    assert lead_quantiles(np.arange(101.0))["q05"] == pytest.approx(5.0)
    assert lead_quantiles(np.arange(101.0))["q50"] == pytest.approx(50.0)
    assert lead_quantiles(np.empty(0)) == {}


def test_areas_by_level_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    failing = rng.random(20_000) < 0.05
    score = rng.normal(size=20_000) + 2 * failing
    exact = ranking(score, failing)
    assert exact is not None
    parted = levels(score, failing)
    hits, misses = (
        np.cumsum(np.bincount(parted.level[rows], minlength=parted.number)[::-1])[None].astype(
            float
        )
        for rows in (failing, ~failing)
    )
    pr, roc = areas(hits, misses)
    assert pr[0] == pytest.approx(exact.pr_auc, abs=2e-3)
    assert roc[0] == pytest.approx(exact.roc_auc, abs=2e-3)


def test_intervals_draw_vehicles_and_not_messages() -> None:
    """Ten vehicles that sent 1,000 messages each are ten draws, not 10,000."""
    announced: Floats = np.array([1.0] * 7 + [0.0] * 3)
    figure = Draws(10).ratio(1000 * announced, np.full(10, 1000.0))
    assert figure.value == pytest.approx(0.7)
    assert figure.low == pytest.approx(0.4, abs=0.11)
    assert figure.high == pytest.approx(1.0, abs=0.11)


def test_alerts_are_those_that_the_streams_rule_raises_message_by_message() -> None:
    rng = np.random.default_rng(2)
    vehicle = rng.integers(0, 40, 20_000).astype(np.int32)
    score = rng.exponential(size=20_000) * (1 + 2 * (vehicle % 3))
    score[rng.random(20_000) < 0.05] = np.nan
    expected = []
    states = {car: calm(str(car)) for car in range(40)}
    step = steps(RULE, score, 3.0)
    for row in np.flatnonzero(step).tolist():
        car = int(vehicle[row])
        change = advance(
            RULE,
            states[car],
            row,
            int(step[row]),
            evidence=Evidence(0, row),
            kind=lambda: kind_named("any"),
        )
        if change is not None:
            states[car] = change.state
            if change.action is AlertAction.RAISED:
                expected.append(row)
    assert len(expected) > 20
    assert sorted(raised(RULE, Streams.of(vehicle, 41), score, 3.0).tolist()) == expected


def _observed(minutes: list[list[int]], failures: dict[int, int]) -> Observed:
    """Vehicles that send at these minutes, some of which fail at a minute."""
    vins = [f"VEHICLE{number:010d}" for number in range(len(minutes))]
    codes = [
        DiagnosticTroubleCode(
            vins[car], START_MS, "P0217", "coolant_leak", START_MS + minute * MINUTE_MS, 0
        )
        for car, minute in failures.items()
    ]
    sent = [(vin, minute) for vin, some in zip(vins, minutes, strict=True) for minute in some]
    rows = len(sent)
    time = START_MS + MINUTE_MS * np.array([minute for _, minute in sent])
    from motorcade.fleet.telemetry import TelemetryColumns

    columns = TelemetryColumns(
        np.array([vin for vin, _ in sent], dtype="S17"),
        np.zeros((rows, len(CATALOGUE.names))),
        np.full(rows, START_MS),
        np.arange(rows) + 1,
        time,
        time,
    )
    found, _ = observe(
        [], CATALOGUE, [columns], codes, {vin.encode() for vin in vins}, lambda done: None
    )
    return found


def test_an_alert_announces_failures_within_its_time_and_is_false_when_none_comes() -> None:
    observed = _observed(
        [list(range(300)), list(range(300)), list(range(300))], failures={0: 200, 1: 290}
    )
    rows = {car: observed.streams[car] for car in range(3)}
    # Vehicle 0: twice before its failure, and once after. 1: far too early. 2: never fails.
    alerts = np.array([rows[0][150], rows[0][170], rows[0][250], rows[1][10], rows[2][100]])
    found = account(observed, alerts, within_ms=120 * MINUTE_MS)
    assert [failure.vehicle for failure in found.failures] == [0, 1]
    assert found.lead[0] == 50 * MINUTE_MS
    assert np.isnan(found.lead[1])
    assert sorted(found.false.tolist()) == sorted([rows[1][10], rows[2][100]])


def test_healthy_days_count_what_was_driven_healthy_and_scored() -> None:
    # The second vehicle is silent for two hours; the first fails at minute 200.
    observed = _observed([list(range(300)), [*range(60), *range(180, 241)]], {0: 200})
    score = np.zeros(len(observed))
    score[observed.streams[1][-10:]] = np.nan
    days = healthy_days(observed, score, within_ms=60 * MINUTE_MS)
    assert days * 1440 == pytest.approx([139, 59 + 60 - 10])


def test_a_failure_before_which_a_vehicle_sent_nothing_is_nobodys_to_announce() -> None:
    observed = _observed([list(range(10)), list(range(300))], {0: 250, 1: 250})
    assert len(account(observed, np.empty(0, np.int64), 60 * MINUTE_MS).failures) == 1


def test_a_sweep_ends_where_false_alerts_are_too_many() -> None:
    observed = _observed([list(range(300)) for _ in range(20)], {})
    score = np.random.default_rng(3).exponential(size=len(observed))
    points = sweep(observed, score, RULE, within_ms=MINUTE_MS, horizon_ms=MINUTE_MS, most_false=5)
    counts = [one.false_alerts for one in points]
    assert counts[0] == 0
    assert counts[-1] > 5
    assert all(count <= 5 for count in counts[:-1])
    assert [one.threshold for one in points] == sorted(
        (one.threshold for one in points), reverse=True
    )


@pytest.fixture(scope="module")
def fleet() -> Driven:
    """Cars of which many wear, driven for three hours."""
    return driven(100, 3, 40, (WearKind.TIRE_LEAK, WearKind.BEARING_WEAR))


PLAN = Plan(horizon_ms=HOUR_MS)


def _judged(fleet: Driven, candidate: Candidate, codes: list[DiagnosticTroubleCode]) -> Verdict:
    test = by_vehicle(np.unique(fleet.columns.vin).tolist(), 0).vehicles(TEST)
    batches = Batches(fleet.columns, 4096)
    observed, said = observe([candidate.model], CATALOGUE, batches, codes, test, lambda done: None)
    return evaluate(observed, said[0], Terms.of(HOUR_MS))


def _learnt(fleet: Driven, codes: list[DiagnosticTroubleCode]) -> Candidate:
    batches = Batches(fleet.columns, 4096)
    return learnt_by(
        architecture("boosted"),
        fleet.columns,
        codes,
        batches=batches,
        plan=PLAN,
        extra={"trees": 25.0},
    )


@pytest.fixture(scope="module")
def boosted(fleet: Driven) -> Candidate:
    return _learnt(fleet, fleet.codes)


def test_scores_collapse_when_failures_are_dealt_out_to_other_vehicles(
    fleet: Driven, boosted: Candidate
) -> None:
    """Nothing but the vehicles' own trouble codes can have taught, or can judge."""
    vins = np.unique(fleet.columns.vin)
    other = np.random.default_rng(5).permutation(len(vins))
    place = {vin.decode(): number for number, vin in enumerate(vins.tolist())}
    shuffled = [
        DiagnosticTroubleCode(
            vins[other[place[code.vin]]].decode(),
            code.boot,
            code.code,
            code.kind,
            code.time,
            code.due,
        )
        for code in fleet.codes
    ]
    assert {code.vin for code in shuffled} != {code.vin for code in fleet.codes}
    honest = _judged(fleet, boosted, fleet.codes).evaluation
    taught_wrongly = _learnt(fleet, shuffled)
    assert honest.roc_auc.value is not None
    assert honest.roc_auc.value > 0.9
    # Judged by the shuffled labels it finds nothing to know.
    by_chance = _judged(fleet, taught_wrongly, shuffled).evaluation
    assert by_chance.roc_auc.value is not None
    assert 0.3 < by_chance.roc_auc.value < 0.7
    assert by_chance.pr_auc.value is not None
    assert honest.pr_auc.value is not None
    assert by_chance.pr_auc.value < honest.pr_auc.value / 1.8


def test_an_evaluation_tells_failures_by_kind_and_draws_a_page(fleet: Driven) -> None:
    candidate = learnt_by(
        architecture("mahalanobis"),
        fleet.columns,
        fleet.codes,
        batches=Batches(fleet.columns, 4096),
        plan=PLAN,
    )
    verdict = _judged(fleet, candidate, fleet.codes)
    one = verdict.evaluation
    assert one.failures == sum(kind.failures for kind in one.kinds)
    assert {kind.kind for kind in one.kinds} == {"C0077 tire_leak", "P0524 bearing_wear"}
    assert one.recall.value is not None
    assert one.recall.value >= 0.9
    assert one.confusion["C0077 tire_leak"].get("tire", 0) >= 0.8 * one.kinds[0].failures
    assert all(NO_ALERT not in row for row in one.confusion.values()) == (one.recall.value == 1)
    assert one.scored == one.messages
    assert max(verdict.picture.contributions["C0077 tire_leak"].items(), key=lambda item: item[1])[
        0
    ].startswith("tire_pressure_")
    html = render([verdict, verdict], dataset="june", part="test", notes=["</script>"])
    assert html.count('<div class="box">') == html.count('type="application/json"') > 6
    assert "&lt;/script&gt;" in html
    assert html.count("mahalanobis:0") > 2


def test_messages_before_a_moment_fill_windows_and_judge_nothing(
    fleet: Driven, boosted: Candidate
) -> None:
    model = boosted.model
    test = by_vehicle(np.unique(fleet.columns.vin).tolist(), 0).vehicles(TEST)
    batches = Batches(fleet.columns, 4096)
    half = int(np.median(fleet.columns.time))
    whole, all_said = observe([model], CATALOGUE, batches, fleet.codes, test, lambda done: None)
    later, said = observe(
        [model], CATALOGUE, batches, fleet.codes, test, lambda done: None, since_ms=half
    )
    rows = whole.time >= half
    assert len(later) == int(rows.sum())
    assert np.array_equal(said[0].score, all_said[0].score[rows], equal_nan=True)
    assert all(failure.time >= half for failure in later.failures)
    assert replace(later, failures=()).kinds == whole.kinds
