"""Who becomes the champion, decided from figures alone."""

from typing import Any

import msgspec
import pytest

from motorcade.ml.judging.bootstrap import Figure
from motorcade.ml.judging.evaluation import Evaluation, Operating
from motorcade.ml.judging.promotion import decide

BUDGET = 0.01


def point(
    announced: int, *, timely: int | None = None, false: int = 0, lead: float = 60
) -> Operating:
    return Operating(
        threshold=1.0,
        false_alerts=false,
        false_per_day=false / 1000,
        announced=announced,
        timely=announced if timely is None else timely,
        recall=announced / 100,
        lead_median=lead,
    )


def judged(name: str, own: Operating, budget: Operating | None = None, **fields: Any) -> Evaluation:
    """A model on 100 failures and 1,000 healthy vehicle-days: 10 false alerts are borne."""
    whole = Evaluation(
        model=name,
        version=1,
        architecture=name,
        dataset="june",
        threshold=own.threshold,
        horizon_minutes=120,
        within_minutes=240,
        vehicles=1000,
        messages=1,
        scored=1,
        failing=0.1,
        pr_auc=Figure(0.5),
        roc_auc=Figure(0.5),
        failures=100,
        announced=own.announced,
        recall=Figure(own.recall),
        lead={},
        lead_median=Figure(own.lead_median),
        false_alerts=own.false_alerts,
        healthy_days=1000.0,
        false_per_day=Figure(own.false_per_day),
        false_upper=None,
        calibration_error=None,
        reliability=[],
        life_rmse=None,
        kinds=[],
        confusion={},
        own=own,
        budget=budget or own,
        curve=[],
    )
    return msgspec.structs.replace(whole, **fields)


def test_a_model_that_beats_its_baselines_and_the_champion_replaces_it() -> None:
    found = decide(
        judged("forecaster", point(97)),
        [judged("pca", point(60)), judged("boosted", point(95))],
        judged("autoencoder", point(80)),
        budget=BUDGET,
    )
    assert found.winner == ("forecaster", 1)
    assert "beats boosted:1, autoencoder:1, pca:1" in found.why
    assert found.comparison["champion_before"] == "autoencoder:1"
    assert set(found.comparison["models"]) == {
        "forecaster:1",
        "pca:1",
        "boosted:1",
        "autoencoder:1",
    }
    assert msgspec.json.decode(msgspec.json.encode(found.comparison)) == found.comparison


def test_a_baseline_that_wins_is_the_champion() -> None:
    found = decide(
        judged("forecaster", point(90)), [judged("boosted", point(95))], None, budget=BUDGET
    )
    assert found.winner == ("boosted", 1)
    assert "a baseline" in found.why


def test_an_equal_does_not_replace_the_champion() -> None:
    champion = judged("boosted", point(95))
    equal = decide(judged("forecaster", point(95)), [], champion, budget=BUDGET)
    assert equal.winner is None
    assert "stays the champion" in equal.why
    earlier = judged("forecaster", point(95, lead=61))
    assert decide(earlier, [], champion, budget=BUDGET).winner == ("forecaster", 1)


def test_announcing_in_time_counts_before_announcing_at_all() -> None:
    late = judged("late", point(99, timely=50))
    timely = judged("timely", point(90, timely=88))
    assert decide(timely, [late], None, budget=BUDGET).winner == ("timely", 1)


def test_recall_bought_with_false_alerts_does_not_win() -> None:
    """Within the budget it announces less, whatever its own threshold announces."""
    loud = judged("loud", point(100, false=50), point(70, false=10))
    calm = judged("calm", point(90, false=3))
    found = decide(loud, [calm], None, budget=BUDGET)
    assert found.winner == ("calm", 1)
    assert "its own threshold raises 50" in found.why
    # Even one that is better within the budget is not deployed with a threshold that breaks it.
    better = judged("loud", point(100, false=50), point(95, false=10))
    assert decide(better, [calm], None, budget=BUDGET).winner == ("calm", 1)


def test_a_model_that_announces_nothing_is_not_chosen_for_raising_no_false_alerts() -> None:
    mute = judged("mute", point(0), point(100))
    loud = judged("loud", point(90, false=11), point(89, false=10))
    assert decide(mute, [loud], None, budget=BUDGET).winner == ("loud", 1)


@pytest.mark.parametrize("standing", [None, "autoencoder"])
def test_where_no_vehicle_failed_nothing_is_replaced(standing: str | None) -> None:
    nothing: dict[str, Any] = {"failures": 0, "announced": 0}
    champion = judged(standing, point(0), **nothing) if standing else None
    found = decide(
        judged("forecaster", point(0), **nothing),
        [judged("pca", point(0), **nothing)],
        champion,
        budget=BUDGET,
    )
    assert found.winner == (None if standing else ("forecaster", 1))


def test_models_of_remaining_life_are_compared_by_its_error() -> None:
    found = decide(
        judged("life-kernel", point(0), life_rmse=11.0),
        [judged("life-trees", point(50), life_rmse=12.0)],
        judged("pca", point(90)),
        budget=BUDGET,
        life=True,
    )
    assert found.winner == ("life-kernel", 1)
