"""Reconciliation: every message from the car's claim to its prediction, over distinct identities.

Pure: columns in, figures out. Identity is (vin, boot, seq); accounting inside Kafka goes by place,
that is by partition and offset, so a message without a readable identity is accounted for too.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from motorcade.fleet.arrays import Bools, Ids, Ints
from motorcade.simulator.audit.records import (
    Claims,
    PredictionRecords,
    QuarantinedRecords,
    RawRecords,
    RefinedRecords,
)

#: Bits of seq in an identity's integer; the rank of (vin, boot) has the others.
_SEQ_BITS = 30


@dataclass(frozen=True)
class Accounts:
    """How the messages of a run reconcile; every field is a count of messages or records."""

    sent: int
    acknowledged: int
    acknowledged_missing: int
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


def reconcile(
    sent: Claims,
    acknowledged: Claims,
    raw: RawRecords,
    refined: RefinedRecords,
    quarantined: QuarantinedRecords,
    predictions: PredictionRecords,
) -> Accounts:
    """Reconcile a run.

    acknowledged ⊆ raw gives `acknowledged_missing`; raw = refined + quarantined gives
    `unaccounted` (records in none of the two that are no exact repeat of an earlier one),
    `refined_and_quarantined` and `invented`; refined = scored + not scored gives `unpredicted`.
    """
    ack_vin, ack_boot, ack_seq = acknowledged.messages()
    index = _Identities(
        np.concatenate([raw.vin, refined.vin, ack_vin]),
        np.concatenate([raw.boot, refined.boot, ack_boot]),
    )
    known = raw.identified
    raw_ids = np.full(len(raw.seq), -1)
    raw_ids[known] = index.of(raw.vin[known], raw.boot[known], raw.seq[known])
    ack_ids = index.of(ack_vin, ack_boot, ack_seq)
    refined_ids = index.of(refined.vin, refined.boot, refined.seq)

    order = np.argsort(raw.place, kind="stable")
    repeat = np.zeros(len(order), dtype=bool)
    repeat[order] = _repeats(raw_ids[order], raw.digest[order]) & known[order]

    in_refined = np.isin(raw.place, refined.source)
    in_quarantine = np.isin(raw.place, quarantined.source)
    distinct_raw = np.unique(raw_ids[known])
    distinct_refined = np.unique(refined_ids)
    only_quarantined = np.setdiff1d(
        np.unique(raw_ids[known & in_quarantine]), distinct_refined, assume_unique=True
    )

    first_copy = np.sort(np.unique(refined.source, return_index=True)[1])
    predicted = np.isin(refined.place[first_copy], predictions.source)
    _, first_prediction = np.unique(predictions.source, return_index=True)
    scored = ~np.isnan(predictions.score[first_prediction])
    in_order = np.argsort(refined.place[first_copy], kind="stable")
    ids_in_order = refined_ids[first_copy][in_order]
    late_in_order = refined.late[first_copy][in_order]

    return Accounts(
        sent=sent.count(),
        acknowledged=acknowledged.count(),
        acknowledged_missing=int((~np.isin(ack_ids, distinct_raw)).sum()),
        raw_records=len(raw.place),
        raw=len(distinct_raw),
        raw_repeats=int(repeat.sum()),
        raw_reordered=int(index.behind(raw_ids[order][known[order] & ~repeat[order]]).sum()),
        raw_unidentified=int((~known).sum()),
        refined=len(distinct_refined),
        quarantined=len(only_quarantined),
        quarantined_records=int(in_quarantine.sum()),
        quarantined_by_rule=dict(Counter(quarantined.rule).most_common()),
        unaccounted=int((~in_refined & ~in_quarantine & ~repeat).sum()),
        refined_and_quarantined=int((in_refined & in_quarantine).sum()),
        invented=int((~np.isin(np.union1d(refined.source, quarantined.source), raw.place)).sum()),
        refined_repeats=len(refined.source) - len(first_copy),
        late=int(late_in_order.sum()),
        reordered=int((index.behind(ids_in_order) & ~late_in_order).sum()),
        scored=int(scored.sum()),
        not_scored=int((~scored).sum()),
        unpredicted=int((~predicted).sum()),
        predicted_repeats=len(predictions.source) - len(first_prediction),
    )


class _Identities:
    """Gives each (vin, boot, seq) one integer, ordered by vin, then boot, then seq."""

    def __init__(self, vin: Ids, boot: Ints) -> None:
        self._boots = np.unique(_boot_keys(vin, boot))
        #: Rank of the car of each boot.
        self._cars = np.unique(self._boots.astype("S17"), return_inverse=True)[1]

    def of(self, vin: Ids, boot: Ints, seq: Ints) -> Ints:
        rank = np.searchsorted(self._boots, _boot_keys(vin, boot)).astype(np.int64)
        return (rank << _SEQ_BITS) | seq

    def behind(self, identity: Ints) -> Bools:
        """Which records stand behind a newer one of their car; records in order of place."""
        if not len(identity):
            return np.zeros(0, dtype=bool)
        order = np.argsort(self._cars[identity >> _SEQ_BITS], kind="stable")
        newest = np.maximum.accumulate(identity[order])
        result = np.zeros(len(identity), dtype=bool)
        result[order] = identity[order] < newest
        return result


def _boot_keys(vin: Ids, boot: Ints) -> Ids:
    """VIN and boot as one sortable byte string of 25 bytes."""
    keys = np.zeros(len(vin), dtype=[("vin", "S17"), ("boot", ">i8")])
    keys["vin"], keys["boot"] = vin, boot
    return keys.view("S25")


def _repeats(identity: Ints, digest: Ints) -> Bools:
    """Which records repeat an earlier one exactly; records in order, shape (n,)."""
    if not len(identity):
        return np.zeros(0, dtype=bool)
    order = np.lexsort((np.arange(len(identity)), digest, identity))
    same = np.zeros(len(identity), dtype=bool)
    same[1:] = (identity[order][1:] == identity[order][:-1]) & (
        digest[order][1:] == digest[order][:-1]
    )
    result = np.zeros(len(identity), dtype=bool)
    result[order] = same
    return result
