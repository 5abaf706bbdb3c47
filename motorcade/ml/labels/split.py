"""Which vehicles and which time teach, choose, calibrate and judge; the same for the same seed."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from motorcade.fleet.arrays import Bools, Ints

#: Shares of the vehicles: what teaches, what chooses among settings, what thresholds and
#: probabilities are chosen on, what judges and is never seen by fitting.
SHARES: Mapping[str, float] = {"train": 0.6, "validate": 0.1, "calibrate": 0.1, "test": 0.2}
TEST = "test"
#: From here on no part is empty by chance: 0.9^100 is 3 in 100,000.
_MANY = 100


@dataclass(frozen=True)
class Split:
    """The part of every vehicle; none is in two.

    part_of: the name of its part in `SHARES`, by vehicle.
    """

    part_of: Mapping[bytes, str]

    def vehicles(self, part: str) -> frozenset[bytes]:
        """The vehicles of a part."""
        return self._parts[part]

    def digest(self, part: str) -> str:
        """SHA-256 of a part's vehicles: two splits with one digest hold out the same cars."""
        return hashlib.sha256(b"\n".join(sorted(self._parts[part]))).hexdigest()

    @cached_property
    def _parts(self) -> dict[str, frozenset[bytes]]:
        found: dict[str, set[bytes]] = {part: set() for part in SHARES}
        for vin, part in self.part_of.items():
            found[part].add(vin)
        return {part: frozenset(vins) for part, vins in found.items()}


def by_vehicle(vins: Iterable[bytes], seed: int, *, test_vehicles: str = "") -> Split:
    """Parts by a hash of the seed and the vehicle.

    In a fleet of many a vehicle's part depends on nothing else: it stays when the fleet grows or
    shrinks, so that a model of an earlier data set was not taught by those who judge it now. In a
    small one the vehicles are ranked by the hash, so that each part gets its share.

    Args:
        vins: the vehicles, in any order.
        seed: another seed gives other parts.
        test_vehicles: regular expression: the vehicles whose whole id matches are the test part,
            and the others share the other parts; empty: the hash decides.
    """
    part_of: dict[bytes, str] = {}
    shares = dict(SHARES)
    rest = []
    pattern = re.compile(test_vehicles) if test_vehicles else None
    for vin in vins:
        if pattern is not None and pattern.fullmatch(vin.decode()):
            part_of[vin] = TEST
        else:
            rest.append(vin)
    if pattern is not None:
        del shares[TEST]
    whole = sum(shares.values())
    key = seed.to_bytes(8, "big", signed=True)
    place = {vin: _uniform(vin, key) for vin in rest}
    if len(rest) < _MANY:
        # The smaller parts first, so that rounding leaves them their vehicle.
        shares = dict(sorted(shares.items(), key=lambda item: item[1]))
        ranked = sorted(rest, key=lambda vin: (place[vin], vin))
        place = {vin: (rank + 0.5) / len(ranked) for rank, vin in enumerate(ranked)}
    for vin in rest:
        part_of[vin] = _part(place[vin] * whole, shares)
    return Split(part_of)


class TimeSplit(NamedTuple):
    """Records up to `until_ms` teach, those from `from_ms` on judge; event time.

    What lies between is used by neither: its labels were not known yet when the later part began.
    """

    until_ms: int
    from_ms: int

    def earlier(self, time: Ints) -> Bools:
        """The rows that teach, by their event time, shape (n,)."""
        return time <= self.until_ms

    def later(self, time: Ints) -> Bools:
        """The rows that judge, shape (n,)."""
        return time >= self.from_ms


def by_time(
    event_from: int, event_to: int, *, share: float = SHARES[TEST], gap_ms: int = 0
) -> TimeSplit:
    """The last part of the event time judges.

    Args:
        event_from: event time of the first record, milliseconds.
        event_to: event time of the last record.
        share: of the time, for judging.
        gap_ms: event time before it that is left out, at least the horizon of the labels.
    """
    begin = event_to - round(share * (event_to - event_from))
    return TimeSplit(begin - 1 - gap_ms, begin)


def _uniform(vin: bytes, key: bytes) -> float:
    digest = hashlib.blake2b(vin, key=key, digest_size=8).digest()
    # The 53 bits that a float holds: never rounded up to 1.
    return (int.from_bytes(digest, "big") >> 11) / 2.0**53


def _part(place: float, shares: Mapping[str, float]) -> str:
    reached = 0.0
    for part, share in shares.items():
        reached += share
        if place < reached:
            return part
    return part
