"""How straight a growth is: one line by part through what its points took. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.growth.points import Point, total

#: How far from the line a point may lie for the growth to count as linear.
LINEAR = 0.15
#: Of all parts together.
ALL = "all"


@dataclass(frozen=True)
class Line:
    """y = base + slope × x, and the worst relative deviation of a point from it."""

    base: float
    slope: float
    worst: float

    @property
    def linear(self) -> bool:
        return self.worst <= LINEAR


@dataclass(frozen=True)
class Growth:
    """What the parts took at each point.

    Attributes:
        x: messages a second, or cars; one a point.
        by_part: cores or MiB, one a point, by part; `ALL` is their sum.
        lines: by part.
    """

    x: list[float]
    by_part: dict[str, list[float]]
    lines: dict[str, Line]


def growth(
    points: Sequence[Point],
    x: Callable[[Point], float],
    taken: Callable[[Point], Mapping[str, float]],
    least: float = 0.0,
) -> Growth:
    """Lines through two points or more, by part.

    Args:
        points: the runs.
        x: what grows.
        taken: what the parts took.
        least: a part that never took so much is left out.
    """
    at = [x(point) for point in points]
    parts = sorted({part for point in points for part in taken(point)})
    by_part = {part: [taken(point).get(part, 0.0) for point in points] for part in parts}
    by_part[ALL] = [total(taken(point)) for point in points]
    kept = {part: values for part, values in by_part.items() if max(values) >= least}
    return Growth(at, kept, {part: fit(at, values) for part, values in kept.items()})


def fit(x: Sequence[float], y: Sequence[float]) -> Line:
    """The line with the least squares of relative deviations: a small point counts like a large.

    Its base is not negative: work that costs less than nothing at rest would hide a curve.
    """
    at, found = np.array(x, dtype=float), np.array(y, dtype=float)
    weight = 1 / np.maximum(found, 1e-9)
    design = np.stack([np.ones_like(at), at], axis=1)
    base, slope = np.linalg.lstsq(design * weight[:, None], found * weight, rcond=None)[0]
    if base < 0:
        base, slope = 0.0, np.sum(at * weight) / np.sum((at * weight) ** 2)
    worst = float(np.max(np.abs(design @ [base, slope] - found) * weight))
    return Line(float(base), float(slope), worst)
