"""Which of several judged models is to be the champion: the comparison decides, not the effort."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from motorcade.ml.judging.evaluation import Evaluation, Operating


class Decision(NamedTuple):
    """What is to be done.

    winner: (name, version) that is to be the champion now; None: who is, stays. why: one sentence
    for people. comparison: what was compared, stored with the model.
    """

    winner: tuple[str, int] | None
    why: str
    comparison: dict[str, Any]

    @property
    def promoted(self) -> bool:
        """Whether there is a new champion."""
        return self.winner is not None


def decide(
    candidate: Evaluation,
    baselines: Sequence[Evaluation],
    champion: Evaluation | None,
    *,
    budget: float,
    life: bool = False,
    notes: Sequence[str] = (),
) -> Decision:
    """Choose a champion.

    Models of failures and anomalies are compared at the same budget of false alerts: with the
    threshold that they would be deployed with where that keeps the budget, else with the lowest
    that does. First by failures announced in time, then by all announced, then by the median lead,
    then by PR-AUC. One whose own threshold breaks the budget, or announces nothing, is not chosen
    while another's does neither. Models of remaining life are compared by its error. The candidate
    must be better than the champion and than every baseline; a baseline that is the best wins.

    Args:
        candidate: the model that was just trained.
        baselines: judged on the same messages.
        champion: likewise; None where no model is live.
        budget: false alerts per healthy vehicle-day.
        life: remaining life is what is asked for.
        notes: what people should know of the comparison.
    """
    rivals = [candidate, *baselines, *([champion] if champion is not None else [])]
    # The first of equals stays first: who is live, then the simpler model, then the new one.
    ranked = sorted(
        [*([champion] if champion is not None else []), *baselines, candidate],
        key=lambda one: _life_key(one) if life else _key(one, budget),
        reverse=True,
    )
    best = ranked[0]
    told, against = (_merit(one, None if life else budget) for one in (best, candidate))
    against = f"{candidate.name} {against}"
    stays = champion is not None and best.name == champion.name
    if champion is None and not life and not best.failures:
        best, stays = candidate, False
        why = f"{best.name} is live: no vehicle that judges failed, and nothing was live before."
    elif not life and not best.failures:
        stays = True
        why = "No vehicle that judges failed, so nothing was compared; the champion stays."
    elif stays:
        why = f"{best.name} stays the champion: {told}; {against}."
    elif best is candidate:
        beaten = ", ".join(one.name for one in ranked[1:]) or "nothing: it is alone"
        why = f"{best.name} is the champion: {told}; it beats {beaten}."
    else:
        why = f"{best.name}, a baseline, is the champion: {told}; {against}."
    comparison = {
        "why": why,
        "winner": best.name if not stays else None,
        "champion_before": champion.name if champion is not None else None,
        "candidate": candidate.name,
        "budget": budget,
        "notes": list(notes),
        "order": [one.name for one in ranked],
        "models": {one.name: msgspec.to_builtins(one) for one in rivals},
    }
    return Decision(None if stays else (best.model, best.version), why, comparison)


def keeps(one: Evaluation, budget: float) -> bool:
    """Whether a model keeps a budget of false alerts with its own threshold."""
    return one.false_alerts <= int(budget * one.healthy_days)


def _compared(one: Evaluation, budget: float) -> Operating | None:
    return one.own if keeps(one, budget) else one.budget


def _key(one: Evaluation, budget: float) -> tuple[float, ...]:
    at = _compared(one, budget)
    merit = (-1.0, -1.0, -1.0) if at is None else (at.timely, at.announced, at.lead_median)
    return (keeps(one, budget) and one.announced > 0, *merit, one.pr_auc.value or 0.0)


def _life_key(one: Evaluation) -> tuple[float, ...]:
    return (float("-inf") if one.life_rmse is None else -one.life_rmse,)


def _merit(one: Evaluation, budget: float | None) -> str:
    """What speaks for a model, by its remaining life where there is no budget."""
    if budget is None:
        return (
            "told no remaining life"
            if one.life_rmse is None
            else f"errs by {one.life_rmse:.3g} min of remaining life"
        )
    at = _compared(one, budget)
    if at is None:
        return "announced nothing within the budget"
    own = "" if at is one.own else f" (its own threshold raises {one.false_alerts})"
    return (
        f"announced {at.announced} of {one.failures} failures, {at.timely} of them in time, with "
        f"{at.false_alerts} false alerts in {one.healthy_days:.4g} healthy vehicle-days{own}"
    )
