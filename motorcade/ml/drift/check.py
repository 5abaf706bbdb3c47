"""One look at drift: a model's reference against the recent stream, signal by signal."""

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from motorcade.fleet.arrays import Ids
from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.errors import MotorcadeError
from motorcade.fleet.messages import ModelAnnouncement, ModelSlot
from motorcade.fleet.settings import ProcessSettings
from motorcade.ml.announce import live
from motorcade.ml.drift.histogram import Histogram
from motorcade.ml.drift.psi import ALPHA, MATERIAL, psi
from motorcade.ml.drift.recent import Told, prediction_codec, recent_scores, recent_telemetry
from motorcade.ml.drift.reference import Reference, SignalReference, read_reference
from motorcade.ml.errors import ModelRefusedError
from motorcade.ml.scoring.roster import find
from motorcade.ml.store import Manifest, ModelStore

Verdict = Literal["none", "drift", "unknown"]
#: Where chance explains so much, a shift by a standard deviation would pass: of two normal
#: distributions so far apart PSI is 1.
_BLIND = 1.0


class TooLittleError(MotorcadeError):
    """Too few messages or vehicles came since the model was trained to tell anything."""


class SignalDrift(msgspec.Struct, frozen=True):
    """One signal, or the score.

    psi: the index. chance: the limit that chance explains. limit: the larger of it and of what is
    of no consequence. verdict: "unknown" where the cars are too few to tell.
    """

    name: str
    psi: float
    chance: float
    limit: float
    verdict: Verdict
    edges: list[float]
    reference: Histogram
    recent: Histogram


class Drift(msgspec.Struct, frozen=True):
    """What a look found; the worst signal, by index over limit, first.

    since: ingest time of the earliest message, milliseconds since 1970; `checked`, of the look.
    messages: recent ones that were read. vehicles: that sent them.
    """

    model: str
    version: int
    since: int
    checked: int
    messages: int
    vehicles: int
    alpha: float
    material: float
    signals: list[SignalDrift]

    @property
    def drifted(self) -> list[SignalDrift]:
        """The signals that have drifted."""
        return [one for one in self.signals if one.verdict == "drift"]


class Limits(msgspec.Struct, frozen=True):
    """What is an alarm. alpha: chance of any in one look when nothing has drifted."""

    alpha: float = ALPHA
    material: float = MATERIAL


def check(
    settings: ProcessSettings,
    minutes: float,
    told: Told,
    *,
    model: str = "",
    limits: Limits = Limits(),  # noqa: B008  # frozen
) -> Drift:
    """Compare the recent stream with what a model was trained on.

    Args:
        settings: of the process.
        minutes: of wall clock that are recent.
        told: how many records have been read, and of how many.
        model: NAME:VERSION; empty: the champion, whose scores are compared, too.
        limits: what is an alarm.

    Raises:
        ModelRefusedError: there is no such model, or nothing was kept of what it was trained on.
        TooLittleError: too little came to tell.
        MotorcadeError: no model is live.
        UnreachableError: Kafka or the registry does not answer.
    """
    now = time.time_ns() // 1_000_000
    since = now - round(minutes * 60_000)
    champion = asyncio.run(live(settings)).get(ModelSlot.CHAMPION)
    manifest, announcement = _model(settings, model, champion)
    reference = read_reference(ModelStore.of(settings).root / announcement.path)
    catalogue = load_catalogue(settings.signals)
    if tuple(one.name for one in reference.signals) != catalogue.features:
        raise ModelRefusedError(
            f"{manifest.name}:{manifest.version} was trained on other features than the catalogue "
            f"{catalogue.name!r} has.",
            "Pass the catalogue of its training: MOTORCADE_SIGNALS.",
        )
    sample = recent_telemetry(settings, catalogue, since, manifest.origin.ranges, told)
    scores = None
    if champion is not None and champion.manifest_sha256 == announcement.manifest_sha256:
        codec = asyncio.run(prediction_codec(settings, catalogue))
        begin = max(since, champion.announced)
        scores = recent_scores(settings, codec, begin, manifest.version)
    vehicles = len(np.unique(sample.vins))
    if vehicles < 2:
        raise TooLittleError(
            f"{sample.seen} messages of {vehicles} vehicle(s) came in the last {minutes:g} minutes "
            f"after those that trained {manifest.name}:{manifest.version}: too few to tell.",
            "Let more cars drive, or look further back: --minutes.",
        )
    return Drift(
        manifest.name,
        manifest.version,
        since,
        now,
        sample.seen,
        vehicles,
        limits.alpha,
        limits.material,
        compare(reference, sample.values, sample.vins, scores, limits),
    )


def compare(
    reference: Reference,
    values: NDArray[np.float32],
    vins: Ids,
    scores: tuple[NDArray[np.float32], Ids] | None,
    limits: Limits,
) -> list[SignalDrift]:
    """Every signal, and the score if both sides have some; the worst first.

    Args:
        reference: what was kept at training.
        values: (n, features) of recent messages, NaN where absent.
        vins: (n,) who sent them.
        scores: (m,) of recent messages and whose they are (m,).
        limits: what is an alarm.
    """
    pairs: list[tuple[SignalReference, Histogram]] = [
        (one, one.histogram(values[:, at], vins)) for at, one in enumerate(reference.signals)
    ]
    if reference.score is not None and scores is not None and len(scores[0]):
        pairs.append((reference.score, reference.score.histogram(*scores)))
    # Šidák: the chance of any alarm in one look is alpha, however many signals there are.
    alpha = 1 - (1 - limits.alpha) ** (1 / len(pairs))
    found = [_drift(one, recent, alpha, limits.material) for one, recent in pairs]
    return sorted(found, key=_badness, reverse=True)


def _drift(
    reference: SignalReference, recent: Histogram, alpha: float, material: float
) -> SignalDrift:
    index = psi(reference.found, recent, alpha)
    limit = max(index.chance, material)
    verdict: Verdict = "none" if index.chance <= _BLIND else "unknown"
    if index.psi > limit:
        verdict = "drift"
    return SignalDrift(
        reference.name,
        index.psi,
        index.chance,
        limit,
        verdict,
        reference.edges,
        reference.found,
        recent,
    )


def _badness(one: SignalDrift) -> float:
    return one.psi / one.limit if one.verdict != "unknown" else -1.0


def _model(
    settings: ProcessSettings, model: str, champion: ModelAnnouncement | None
) -> tuple[Manifest, ModelAnnouncement]:
    if model:
        return find(settings, model)
    if champion is None:
        raise MotorcadeError(
            "No model is live, so there is nothing to compare the stream with.",
            "Train one: motorcade train autoencoder; or name a stored one: --model NAME:VERSION.",
        )
    return ModelStore.of(settings).read(champion)[0], champion


def shares(one: Histogram) -> Sequence[float]:
    """Share of the messages in each bin."""
    n = max(1, one.messages)
    return [count / n for count in one.counts]


def bin_names(edges: Sequence[float]) -> list[str]:
    """What each bin holds, for people."""
    if not edges:
        return ["any", "absent"]
    texts = [f"{edge:.4g}" for edge in edges]
    between = [low if low == high else f"{low} – {high}" for low, high in pairwise(texts)]
    return [f"≤ {texts[0]}", *between, f"> {texts[-1]}", "absent"]
