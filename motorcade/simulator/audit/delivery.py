"""What cars claim against what the raw topic holds: lost, excused, garbage, others' messages.

Pure. Garbage is what a car with bad firmware sent: it often has no readable identity, so what it
sent is balanced, car by car, with the samples without identity.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from motorcade.simulator.audit.partition import Seen
from motorcade.simulator.intervals import IntervalSet, Span

#: Losses that are named in the verdict; more are only counted.
_EXAMPLES = 10

_Session = tuple[str, int]


@dataclass(frozen=True)
class Claim:
    """One boot of one car: numbers that it sent, that were acknowledged, that were garbage."""

    vin: str
    boot: int
    sent: IntervalSet
    acked: IntervalSet
    garbage: IntervalSet


@dataclass(frozen=True)
class Excuse:
    """An event that explains the loss of acknowledged messages, as the broker's durability allows.

    Wall-clock milliseconds: a message is excused that was due between `from_ms` and `to_ms`, of a
    car on `endpoint` ("host:port"; None: on any).
    """

    from_ms: int
    to_ms: int
    reason: str
    endpoint: str | None = None


@dataclass(frozen=True)
class Delivery:
    """The first hop and the bridge; counts of distinct messages.

    acknowledged_missing: acknowledged and not in raw: excused + lost. sent_missing: sent and not
    in raw, whether acknowledged or not. others: in raw with an identity that no car of this run
    sent. reasons: of the excuses, with their counts.
    """

    sent: int = 0
    acknowledged: int = 0
    garbage: int = 0
    acknowledged_missing: int = 0
    excused: int = 0
    lost: int = 0
    sent_missing: int = 0
    others: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: tuple[str, ...] = ()


class _Run:
    """A car's run of numbers in raw, with the due times of its ends."""

    __slots__ = ("due_first", "due_last", "first", "last")

    def __init__(self, first: int, last: int, due_first: int, due_last: int) -> None:
        self.first, self.last = first, last
        self.due_first, self.due_last = due_first, due_last


def deliver(
    claims: Iterable[Claim],
    seen: Sequence[Seen],
    unidentified: Mapping[bytes, int],
    excuses: Sequence[Excuse] = (),
    endpoints: Mapping[str, str] | None = None,
) -> Delivery:
    """Hold claims against the raw topic.

    Args:
        claims: of every boot of every car.
        seen: identities in raw, a part a partition.
        unidentified: samples in raw without identity, by VIN.
        excuses: what the broker may have lost.
        endpoints: broker endpoint on which each car lived, by VIN; for excuses.
    """
    runs = _runs(seen)
    balance = _Balance(excuses, endpoints or {})
    for claim in claims:
        mine = runs.pop((claim.vin, claim.boot), [])
        # Somebody else's payload may hold no boot; then the car's only boot is meant.
        balance.take(claim, mine + runs.get((claim.vin, 0), []))
    balance.settle(unidentified)
    balance.figures["others"] += sum(
        run.last - run.first + 1 for (_, boot), left in runs.items() if boot for run in left
    )
    return balance.delivery()


class _Balance:
    """Takes claims one by one; what is unreadable is balanced at the end."""

    def __init__(self, excuses: Sequence[Excuse], endpoints: Mapping[str, str]) -> None:
        self._excuses = excuses
        self._endpoints = endpoints
        self.figures: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._examples: list[str] = []
        #: Garbage that has no readable identity in raw, by VIN: sent, acknowledged.
        self._unreadable: dict[str, tuple[int, int]] = {}

    def take(self, claim: Claim, runs: Sequence[_Run]) -> None:
        """A claim and the runs of its numbers in raw."""
        figures = self.figures
        present = IntervalSet((run.first, run.last) for run in runs)
        figures["sent"] += len(claim.sent)
        figures["acknowledged"] += len(claim.acked)
        if present == claim.sent and not claim.garbage:
            return
        figures["others"] += len(present.difference(claim.sent))
        sent, acked = claim.sent, claim.acked
        if claim.garbage:
            figures["garbage"] += len(claim.garbage)
            gone = claim.garbage.difference(present)
            known = self._unreadable.get(claim.vin, (0, 0))
            acked_gone = len(gone) - len(gone.difference(acked))
            self._unreadable[claim.vin] = (known[0] + len(gone), known[1] + acked_gone)
            sent, acked = sent.difference(claim.garbage), acked.difference(claim.garbage)
        figures["sent_missing"] += len(sent.difference(present))
        missing = acked.difference(present)
        figures["acknowledged_missing"] += len(missing)
        endpoint = self._endpoints.get(claim.vin)
        excuses = [one for one in self._excuses if one.endpoint in {None, endpoint}]
        for span in missing.spans:
            for part, reason in _judged(span, runs, excuses):
                count = part[1] - part[0] + 1
                if reason is None:
                    figures["lost"] += count
                    self._examples.append(_example(claim, part))
                else:
                    self._reasons[reason] += count
        del self._examples[_EXAMPLES:]

    def settle(self, unidentified: Mapping[bytes, int]) -> None:
        """Balance garbage with what came without identity, car by car."""
        for vin, (sent, acked) in self._unreadable.items():
            there = unidentified.get(vin.encode(), 0)
            self.figures["sent_missing"] += max(0, sent - there)
            if (short := acked - there) > 0:
                self.figures["acknowledged_missing"] += short
                self.figures["lost"] += short
                self._examples.append(f"{vin}: {short} garbage messages")

    def delivery(self) -> Delivery:
        """What came of it."""
        return Delivery(
            **self.figures,
            excused=self._reasons.total(),
            reasons=self._reasons,
            examples=tuple(self._examples[:_EXAMPLES]),
        )


def _runs(seen: Sequence[Seen]) -> dict[_Session, list[_Run]]:
    found: defaultdict[_Session, list[_Run]] = defaultdict(list)
    for part in seen:
        rows = zip(part.first, part.last, part.due_first, part.due_last, strict=True)
        names = zip(part.vin, part.boot, strict=True)
        for (vin, boot), row in zip(names, rows, strict=True):
            found[vin.decode("utf-8", "replace"), boot].append(_Run(*row))
    return dict(found)


def _judged(
    span: Span, mine: Sequence[_Run], excuses: Sequence[Excuse]
) -> Iterator[tuple[Span, str | None]]:
    """Missing numbers with what excuses them, if anything does.

    When a missing message was due is estimated from its neighbours in raw: messages are due at
    even distances, those beyond the first or the last one at the car's mean pace. Of a car of which
    too little came to tell its pace, nothing beyond is excused.
    """
    if not excuses:
        yield span, None
        return
    before = max((run for run in mine if run.last < span[0]), key=lambda r: r.last, default=None)
    after = min((run for run in mine if run.first > span[1]), key=lambda r: r.first, default=None)
    pace = _pace(mine)
    for seq in range(span[0], span[1] + 1):
        due = _due(seq, before, after, pace)
        reason = next(
            (e.reason for e in excuses if due is not None and e.from_ms <= due <= e.to_ms), None
        )
        yield (seq, seq), reason


def _pace(mine: Sequence[_Run]) -> float | None:
    """Milliseconds between two messages of a car, as raw shows them; None where it shows none."""
    if not mine:
        return None
    oldest = min(mine, key=lambda run: run.first)
    newest = max(mine, key=lambda run: run.last)
    if newest.last == oldest.first:
        return None
    return (newest.due_last - oldest.due_first) / (newest.last - oldest.first)


def _due(seq: int, before: _Run | None, after: _Run | None, pace: float | None) -> float | None:
    """When a missing message was due, wall-clock milliseconds; None if nothing tells."""
    if before is not None and after is not None:
        share = (seq - before.last) / (after.first - before.last)
        return before.due_last + share * (after.due_first - before.due_last)
    if pace is None:
        return None
    if before is not None:
        return before.due_last + pace * (seq - before.last)
    return None if after is None else after.due_first - pace * (after.first - seq)


def _example(claim: Claim, part: Span) -> str:
    first, last = part
    numbers = f"seq {first}" if first == last else f"seq {first} to {last}"
    return f"{claim.vin} boot {claim.boot} {numbers}"
