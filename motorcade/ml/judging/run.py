"""Judging stored models on a recorded data set: from Kafka, every message, nothing thinned."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from motorcade.fleet.catalogue import load_catalogue
from motorcade.fleet.messages import ModelAnnouncement, ModelSlot
from motorcade.fleet.settings import ProcessSettings
from motorcade.ml.announce import live
from motorcade.ml.errors import DatasetError, ModelRefusedError, TrainingError
from motorcade.ml.judging.evaluation import BUDGET, Terms, Verdict, evaluate
from motorcade.ml.judging.observe import Observed, observe
from motorcade.ml.judging.promotion import Decision, decide
from motorcade.ml.labels.split import SHARES, TEST, by_vehicle
from motorcade.ml.models.base import Model
from motorcade.ml.models.catalogue import architecture, load_model
from motorcade.ml.reading.reader import open_reader
from motorcade.ml.reading.recording import trouble_codes
from motorcade.ml.reading.records import DatasetRecord, DatasetStore
from motorcade.ml.store import Manifest, ModelStore
from motorcade.ml.training.checkpoints import Progress

Tell = Callable[[Progress], None]
#: Vehicles below which those that taught one of the models judge, too, with a word.
_FEWEST = 20


class Judged(NamedTuple):
    """Models on the same messages.

    verdicts: in the order of the models. taught: how many of the vehicles taught each model; None
    where that cannot be known.
    """

    verdicts: list[Verdict]
    observed: Observed
    taught: list[int | None]
    notes: list[str]


def judge(
    settings: ProcessSettings,
    record: DatasetRecord,
    models: Sequence[Model],
    terms: Terms,
    tell: Tell,
    *,
    part: str = TEST,
    seed: int = 0,
    reader: str = "columnar",
) -> Judged:
    """Score every message of a part of the vehicles by all models, and judge each.

    Vehicles that taught one of the models are left out where enough others are there.

    Args:
        settings: where Kafka, the registry and the data folder are.
        record: the data set.
        models: at least one.
        terms: what is asked.
        tell: told of the progress.
        part: of the vehicles: test, or another to look at.
        seed: of the split into parts.
        reader: columnar or tensorflow-io.

    Raises:
        DatasetError: there is no such part, or no vehicle in it sent anything.
        RangeError, UnreachableError: as `open_reader`.
    """
    catalogue = load_catalogue(settings.signals)
    vins, taught, notes = _vehicles(settings, record, models, part, seed)
    stream = open_reader(settings, record, catalogue, reader)
    codes = trouble_codes(settings, record.dtc)
    tell(Progress("scoring", 0, len(stream)))
    # Of what came later nothing was known to the models that say so.
    since = max((m.manifest.origin.event_until or 0 for m in models), default=0)
    if since:
        notes.append("Only messages judge that came after the time that models learnt from.")
    observed, said = observe(
        models,
        catalogue,
        stream,
        codes,
        vins,
        lambda done: tell(Progress("scoring", done, len(stream), f"{len(vins)} vehicles")),
        since_ms=since or None,
    )
    for manifest in (model.manifest for model in models):
        if manifest.horizon_ms != terms.horizon_ms:
            notes.append(
                f"{manifest.name}:{manifest.version} was trained for a horizon of "
                f"{manifest.horizon_ms / 3_600_000:g} h: its probabilities are not judged."
            )
    if not len(observed):
        raise DatasetError(
            f"No message of the data set {record.name} is of the part {part}.",
            "Record more vehicles, or judge another part: --part.",
        )
    verdicts = []
    for number, one in enumerate(said):
        tell(Progress("judging", number, len(said), one.manifest.name))
        verdicts.append(evaluate(observed, one, terms))
    tell(Progress("judging", len(said), len(said)))
    return Judged(verdicts, observed, taught, notes)


def decide_on(
    settings: ProcessSettings,
    record: DatasetRecord,
    store: ModelStore,
    candidate: Manifest,
    baselines: Sequence[Manifest],
    champion: ModelAnnouncement | None,
    tell: Tell,
    *,
    budget: float = BUDGET,
) -> Decision:
    """Compare a trained model with its baselines and with the champion, on held-out vehicles.

    Args:
        settings: where Kafka, the registry and the data folder are.
        record: the data set that the candidate was trained on.
        store: holds them all.
        candidate: just trained.
        baselines: trained on the same vehicles.
        champion: what is live; None: nothing. One that cannot be loaded here counts as none.
        tell: told of the progress.
        budget: false alerts per healthy vehicle-day at which they are compared.

    Raises:
        MotorcadeError: as `judge`.
    """
    standing, notes = _champion(settings, store, champion)
    mine = [candidate, *(one for one in baselines if _place(one) != _place(candidate))]
    known = {_place(one) for one in mine}
    models = [load(settings, store, one) for one in mine]
    if standing is not None and _place(standing.manifest) not in known:
        models.append(standing)
    terms = Terms.of(candidate.horizon_ms, budget=budget)
    judged = judge(settings, record, models, terms, tell, seed=candidate.origin.seed)
    found = {_place(m.manifest): v.evaluation for m, v in zip(models, judged.verdicts, strict=True)}
    return decide(
        found[_place(candidate)],
        [found[_place(one)] for one in mine[1:]],
        found[_place(standing.manifest)] if standing is not None else None,
        budget=budget,
        life=architecture(candidate.architecture).objective == "life",
        notes=[*notes, *judged.notes],
    )


def live_champion(settings: ProcessSettings) -> ModelAnnouncement | None:
    """What is live as champion.

    Raises:
        UnreachableError: Kafka does not answer.
    """
    return asyncio.run(live(settings)).get(ModelSlot.CHAMPION)


def load(settings: ProcessSettings, store: ModelStore, manifest: Manifest) -> Model:
    """A stored version, ready to score.

    Raises:
        ModelRefusedError: its files are not what they were, or do not fit this catalogue.
    """
    announcement = store.announcement(manifest.name, manifest.version, time.time_ns() // 1_000_000)
    return load_model(*store.read(announcement), load_catalogue(settings.signals))


def _champion(
    settings: ProcessSettings, store: ModelStore, announced: ModelAnnouncement | None
) -> tuple[Model | None, list[str]]:
    if announced is None:
        return None, []
    name = f"{announced.name}:{announced.version}"
    try:
        manifest, weights = store.read(announced)
        return load_model(manifest, weights, load_catalogue(settings.signals)), []
    except (ModelRefusedError, TrainingError) as error:
        return None, [f"The champion {name} cannot be compared with: {error.what}"]


def _vehicles(
    settings: ProcessSettings,
    record: DatasetRecord,
    models: Sequence[Model],
    part: str,
    seed: int,
) -> tuple[frozenset[bytes], list[int | None], list[str]]:
    """The vehicles that judge, how many of them taught each model, and a word about it."""
    if part not in (*SHARES, "all"):
        raise DatasetError(
            f"There is no part {part!r} of a data set.", f"There are: {', '.join(SHARES)}, all."
        )
    everyone = [vin.encode() for vin in record.vins]
    split = by_vehicle(everyone, seed, test_vehicles=record.test_vehicles)
    wanted = frozenset(everyone) if part == "all" else split.vehicles(part)
    teachers = [_teachers(settings, record, model.manifest) for model in models]
    notes = []
    if part == TEST:
        clean = wanted.difference(*(one for one in teachers if one is not None))
        if len(clean) >= min(_FEWEST, len(wanted)):
            if len(clean) < len(wanted):
                notes.append(
                    f"{len(wanted) - len(clean)} vehicles are left out: they taught a model."
                )
            wanted = clean
    counts = [None if one is None else len(one & wanted) for one in teachers]
    for model, count in zip(models, counts, strict=True):
        name = f"{model.manifest.name}:{model.manifest.version}"
        if count is None:
            notes.append(f"Which vehicles taught {name} cannot be known: its data set is gone.")
        elif count:
            notes.append(f"{count} of the vehicles taught {name}: its figures flatter it.")
    return wanted, counts, notes


def _teachers(
    settings: ProcessSettings, record: DatasetRecord, manifest: Manifest
) -> frozenset[bytes] | None:
    """The vehicles that a model may have learnt from; None: it cannot be known."""
    own = record
    if manifest.origin.dataset != record.name:
        try:
            own = DatasetStore.of(settings).read(manifest.origin.dataset)
        except DatasetError:
            return None
    split = by_vehicle(
        (vin.encode() for vin in own.vins), manifest.origin.seed, test_vehicles=own.test_vehicles
    )
    return frozenset(split.part_of) - split.vehicles(TEST)


def _place(manifest: Manifest) -> tuple[str, int]:
    return manifest.name, manifest.version
