"""When cars failed, by what their own diagnosis reported; never by the simulator's truth."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from motorcade.fleet.arrays import Bools, Floats, Ids, Ints
from motorcade.fleet.messages import DiagnosticTroubleCode

#: Event time before a failure in which a car is not healthy, and within which failures are to be
#: foretold, unless somebody says otherwise: most kinds of wear last one to two hours.
HORIZON_MS = 2 * 3600 * 1000


class Failures:
    """Trouble codes of a data set, asked for each of its records.

    A car's code counts for its records of the same boot and of boots before it. What follows a
    code in the same boot is not healthy either: nothing was repaired while the engine ran.

    Args:
        kinds: trouble codes that were met, sorted.
        codes: by vehicle, (boot, event time, position in `kinds`) of each code.
    """

    def __init__(
        self, kinds: tuple[str, ...], codes: Mapping[bytes, Sequence[tuple[int, int, int]]]
    ) -> None:
        self.kinds = kinds
        self._codes = codes

    @classmethod
    def of(cls, codes: Iterable[DiagnosticTroubleCode]) -> "Failures":
        """The failures that codes tell of, in any order."""
        met = list(codes)
        kinds = tuple(sorted({code.code for code in met}))
        number = {kind: position for position, kind in enumerate(kinds)}
        by_car: dict[bytes, list[tuple[int, int, int]]] = defaultdict(list)
        for code in met:
            by_car[code.vin.encode()].append((code.boot, code.time, number[code.code]))
        return cls(kinds, by_car)

    @property
    def vehicles(self) -> frozenset[bytes]:
        """Cars that reported a trouble code."""
        return frozenset(self._codes)

    def ahead(self, vin: Ids, boot: Ints, time: Ints) -> Floats:
        """Time to the next failure of each kind.

        Args:
            vin: (n,) S17. boot, time: (n,) of the records.

        Returns:
            (n, kinds) milliseconds of event time, at least 0; inf where none is known.
        """
        ahead = np.full((len(vin), len(self.kinds)), np.inf)
        for rows, codes in self._cars(vin):
            for of_boot, at, kind in codes:
                left = (at - time[rows]).astype(np.float64)
                left[(left < 0) | (boot[rows] > of_boot)] = np.inf
                ahead[rows, kind] = np.minimum(ahead[rows, kind], left)
        return ahead

    def before(self, vin: Ids, boot: Ints, time: Ints) -> Bools:
        """Whether the car had failed before in the same boot, shape (n,); arguments as `ahead`."""
        before = np.zeros(len(vin), dtype=bool)
        for rows, codes in self._cars(vin):
            for of_boot, at, _ in codes:
                before[rows] |= (boot[rows] == of_boot) & (time[rows] > at)
        return before

    def healthy(self, vin: Ids, boot: Ints, time: Ints, horizon_ms: float) -> Bools:
        """No failure up to `horizon_ms` after, none before in the same boot; shape (n,)."""
        soonest = self.ahead(vin, boot, time).min(axis=1, initial=np.inf)
        healthy: Bools = (soonest > horizon_ms) & ~self.before(vin, boot, time)
        return healthy

    def _cars(self, vin: Ids) -> Iterator[tuple[Ints, Sequence[tuple[int, int, int]]]]:
        """Rows and codes of each car that failed and has rows."""
        if not self._codes or not len(vin):
            return
        order = np.argsort(vin, kind="stable")
        cars, starts = np.unique(vin[order], return_index=True)
        for car, rows in zip(cars.tolist(), np.split(order, starts[1:]), strict=True):
            if codes := self._codes.get(car):
                yield rows, codes
