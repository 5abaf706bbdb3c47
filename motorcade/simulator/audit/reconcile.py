"""Reconciliation: every message from the car's claim to its prediction, over distinct identities.

Pure: claims and the partitions' accounts in, figures out. Identity is (vin, boot, seq).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from motorcade.simulator.audit.delivery import Delivery
from motorcade.simulator.audit.partition import Counts, Part


@dataclass(frozen=True)
class Accounts:
    """How the messages of a run reconcile; every field is a count of messages or records.

    Attributes:
        sent, acknowledged: by cars, and by the broker to them.
        garbage: of those sent, what a car with bad firmware made unreadable or wrong.
        acknowledged_missing: acknowledged and not in raw; excused + lost.
        excused: of these, what the broker's declared durability and an event of the run explain.
        lost: of these, the rest.
        sent_missing: sent, acknowledged or not, and not in raw.
        others: in raw, but sent by no car of this run; perhaps once more, of an earlier one.
        raw_records, raw: samples in `telemetry.raw`, and distinct identities among them.
        raw_repeats: exact repeats. raw_reordered: behind a newer message of their car.
        raw_unidentified: without a readable identity.
        raw_overtaken: of the reordered, as many as cars counted that the broker had refused for
            now while it accepted later ones, so that they could only arrive behind those.
        refined, quarantined: distinct identities in `telemetry`; only in `telemetry.dlq`.
        quarantined_records: samples of raw in `telemetry.dlq`, with or without identity.
        unaccounted: samples in none of the two that are no exact repeat of an earlier one.
        refined_and_quarantined: samples in both.
        invented: derived from a source that is not there, or has another identity.
        refined_repeats, predicted_repeats: physical repeats in a derived topic; a second raw copy
            of a message that was refined too is one.
        late, reordered: refined behind a newer one of the car, flagged so; and not flagged.
        scored, not_scored, unpredicted: of the refined records.
    """

    sent: int
    acknowledged: int
    garbage: int
    acknowledged_missing: int
    excused: int
    lost: int
    sent_missing: int
    others: int
    raw_records: int
    raw: int
    raw_repeats: int
    raw_reordered: int
    raw_unidentified: int
    refined: int
    quarantined: int
    quarantined_records: int
    quarantined_by_rule: dict[str, int]
    unaccounted: int
    refined_and_quarantined: int
    invented: int
    refined_repeats: int
    late: int
    reordered: int
    scored: int
    not_scored: int
    unpredicted: int
    predicted_repeats: int
    raw_overtaken: int = 0


def reconcile(delivery: Delivery, parts: Sequence[Part], overtaken: int = 0) -> Accounts:
    """Reconcile a run; `overtaken` is what the cars' own books say of it.

    acknowledged ⊆ raw gives `acknowledged_missing`; raw = refined + quarantined gives
    `unaccounted`, `refined_and_quarantined` and `invented`; refined = scored + not scored gives
    `unpredicted`.
    """
    counts = Counts()
    rules: Counter[str] = Counter()
    for part in parts:
        counts.add(part.counts)
        rules += part.rules
    return Accounts(
        sent=delivery.sent,
        acknowledged=delivery.acknowledged,
        garbage=delivery.garbage,
        acknowledged_missing=delivery.acknowledged_missing,
        excused=delivery.excused,
        lost=delivery.lost,
        sent_missing=delivery.sent_missing,
        others=delivery.others,
        quarantined_by_rule=dict(rules.most_common()),
        raw_overtaken=min(counts.raw_reordered, overtaken),
        **vars(counts),
    )
