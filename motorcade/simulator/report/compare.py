"""Two runs of a scenario side by side: what got better or worse beyond noise. Pure.

How noisy a figure is, is told by the run itself: its series is cut into blocks, and the spread of
the blocks' means says how far the mean of another equal run may lie. A figure without a series
counts as changed from a fixed share on.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from motorcade.fleet.arrays import Floats
from motorcade.fleet.errors import MotorcadeError
from motorcade.simulator.audit.latency import Latency
from motorcade.simulator.audit.verdict import (
    CONNECT,
    DUE_TO_KAFKA,
    DUE_TO_PUBACK,
    RECONNECT,
    Outcome,
)
from motorcade.simulator.report.document import Document
from motorcade.simulator.report.figures import family
from motorcade.simulator.report.page import families

_BLOCKS = 10
#: Two runs of the same differ by this share however steady each is in itself: a process placed
#: differently, another file system cache.
_FLOOR = 0.05
#: Where no series tells the noise: highest percentiles and maxima hang on a few messages.
_UNKNOWN, _TAIL = 0.15, 0.5
#: Standard errors that the difference of two means must exceed.
_SIGMAS = 3.0
_SERIES = {
    CONNECT: "latency.connect",
    RECONNECT: "latency.reconnect",
    DUE_TO_PUBACK: "latency.puback",
    DUE_TO_KAFKA: "latency.kafka",
}


class ComparisonError(MotorcadeError):
    """Two documents cannot be compared; the message says why."""


class Change(StrEnum):
    SAME = "same"
    BETTER = "better"
    WORSE = "worse"
    #: It changed, and neither is better.
    OTHER = "other"


@dataclass(frozen=True)
class Row:
    """A figure of both runs; None where a run does not have it.

    noise is the share of the ratio that may be chance; None for counts that must not differ.
    """

    group: str
    name: str
    unit: str
    a: float | None
    b: float | None
    change: Change
    noise: float | None = None

    @property
    def ratio(self) -> float | None:
        """b to a; None where there is none."""
        if self.a is None or self.b is None or not self.a:
            return None
        return self.b / self.a


@dataclass(frozen=True)
class Comparison:
    """All rows, and what was asked differently of the two runs."""

    a: Document
    b: Document
    rows: tuple[Row, ...]
    differences: tuple[str, ...]

    def changed(self, change: Change) -> list[Row]:
        """Rows that changed so."""
        return [row for row in self.rows if row.change is change]


def compare(a: Document, b: Document) -> Comparison:
    """Compare two runs.

    Raises:
        ComparisonError: they are of different scenarios, one is INVALID or sent nothing, or one
            followed messages further than the other.
    """
    _require_comparable(a, b)
    return Comparison(a, b, tuple(_rows(a, b)), tuple(_differences(a, b)))


def _require_comparable(a: Document, b: Document) -> None:
    names = [one.manifest.scenario.get("name") for one in (a, b)]
    if names[0] != names[1]:
        raise ComparisonError(
            f"The runs are of different scenarios, {names[0]} and {names[1]}.",
            "Compare two runs of one scenario.",
        )
    for letter, one in zip("AB", (a, b), strict=True):
        if one.verdict.outcome is Outcome.INVALID:
            raise ComparisonError(
                f"Run {letter} is INVALID: its figures judge the load generator.",
                "Run it again with more workers, or less load.",
            )
        if not one.verdict.accounts.sent:
            raise ComparisonError(f"In run {letter} no message was sent.")
    if a.verdict.scope is not b.verdict.scope:
        raise ComparisonError(
            f"Run A was followed as far as the {a.verdict.scope}, run B as far as the "
            f"{b.verdict.scope}.",
            "Compare runs against targets of the same kind.",
        )


def _differences(a: Document, b: Document) -> Iterator[str]:
    first, second = a.manifest, b.manifest
    if (first.machine.cpu, first.machine.cores) != (second.machine.cpu, second.machine.cores):
        yield (
            f"other machines: {first.machine.cpu} with {first.machine.cores} cores, "
            f"{second.machine.cpu} with {second.machine.cores}; times do not compare"
        )
    if first.motorcade != second.motorcade:
        yield f"Motorcade {first.motorcade} and {second.motorcade}"
    for package in sorted(first.packages.keys() | second.packages.keys()):
        versions = first.packages.get(package), second.packages.get(package)
        if versions[0] != versions[1]:
            yield f"{package} {versions[0]} and {versions[1]}"
    left, right = _flat(first.scenario), _flat(second.scenario)
    for key in sorted(left.keys() | right.keys()):
        if left.get(key) != right.get(key) and key != "description":
            yield f"{key}: {left.get(key)} and {right.get(key)}"


def _flat(value: object, prefix: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        items = {str(at): one for at, one in enumerate(value)}.items()
    else:
        return {prefix: value}
    found: dict[str, object] = {}
    for key, one in items:
        found |= _flat(one, f"{prefix}.{key}" if prefix else str(key))
    return found


def _rows(a: Document, b: Document) -> Iterator[Row]:
    yield from _counts(a, b)
    yield from _rates(a, b)
    yield from _latencies(a, b)
    yield from _usage(a, b)


def _counts(a: Document, b: Document) -> Iterator[Row]:
    both = (a.verdict, b.verdict)
    accounts = [one.accounts for one in both]
    fleets = [one.fleet for one in both]
    yield _plain(
        "cars", "connected after the ramp", *(one.connected for one in fleets), lower=False
    )
    for name in ("disconnects", "connect_failures", "buffer_dropped"):
        yield _plain("cars", name.replace("_", " "), *(getattr(one, name) for one in fleets))
    recovered = [one.recovered_s for one in fleets]
    if any(one is not None for one in recovered):
        yield _noisy("cars", "recovered after", "s", *recovered, noise=_UNKNOWN)
    lost = ("lost", "excused") if a.verdict.qos and b.verdict.qos else ()
    for name in (*lost, "unaccounted", "invented", "reordered"):
        yield _plain("messages", name.replace("_", " "), *(getattr(one, name) for one in accounts))
    repeats = [one.raw_repeats for one in accounts]
    yield _noisy("messages", "exact repeats in raw", "", *repeats, noise=_TAIL)
    shares = [one.sent_missing / one.sent for one in accounts]
    yield _noisy("messages", "sent and not in Kafka", "share", *shares, noise=_UNKNOWN)


def _rates(a: Document, b: Document) -> Iterator[Row]:
    for name, text in (("sent", "sent"), ("raw", "into Kafka"), ("refined", "refined")):
        series = [_steady(one, [f"rate.{name}"]) for one in (a, b)]
        if all(len(one) for one in series):
            means = [float(one.mean()) for one in series]
            noise = _noise(*series)
            yield _noisy("rate", text, "messages/s", *means, noise=noise, lower=False)
    limits = [one.limit.confirmed_rate if one.limit else None for one in (a, b)]
    if any(one is not None for one in limits):
        yield _noisy("rate", "limit held", "messages/s", *limits, noise=_UNKNOWN, lower=False)


def _latencies(a: Document, b: Document) -> Iterator[Row]:
    for name in [n for n in a.verdict.latencies if n in b.verdict.latencies]:
        both: list[Latency] = [one.verdict.latencies[name] for one in (a, b)]
        if not all(one.n for one in both):
            continue
        for share, text in (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"), ("max", "max")):
            noise = _TAIL if share in {"p999", "max"} else _UNKNOWN
            if name in _SERIES and share in {"p50", "p99"}:
                series = [_steady(one, [f"{_SERIES[name]}.{share}"]) for one in (a, b)]
                noise = _noise(*series) if all(len(one) for one in series) else noise
            values = (getattr(one, share) for one in both)
            yield _noisy("latency", f"{name} {text}", "ms", *values, noise=noise)


def _usage(a: Document, b: Document) -> Iterator[Row]:
    both = [{one.name: one for one in families(d.verdict.usage)} for d in (a, b)]
    names = list(dict.fromkeys([*both[0], *both[1]]))
    for name in names:
        values = [one[name].cpu_us_per_message if name in one else None for one in both]
        series = [_steady(one, _members(one, name)) for one in (a, b)]
        noise = _noise(*series) if all(len(one) for one in series) else _UNKNOWN
        yield _noisy("CPU", name, "µs a message", *values, noise=noise)
    totals = [sum(one.cpu_us_per_message or 0.0 for one in some.values()) for some in both]
    yield _noisy("CPU", "together", "µs a message", *totals, noise=_FLOOR)
    for name in names:
        values = [one[name].rss_mib if name in one else None for one in both]
        yield _noisy("memory", name, "MiB", *values, noise=_UNKNOWN)


def _members(document: Document, name: str) -> list[str]:
    cpu = [one for one in document.series.figures if one.startswith("cpu.")]
    return [one for one in cpu if family(one.removeprefix("cpu.")) == name]


def _steady(document: Document, names: Sequence[str]) -> Floats:
    """The sum of series while nearly all cars were connected, without gaps."""
    figures = document.series.figures
    rows = [np.array(figures[name], dtype=float) for name in names if name in figures]
    if not rows:
        return np.zeros(0)
    total: Floats = np.sum(rows, axis=0)
    connected = np.array(figures.get("cars.connected", []), dtype=float)
    if len(connected) == len(total) and len(connected):
        total = total[connected >= 0.95 * np.nanmax(connected)]
    return total[~np.isnan(total)]


def _noise(a: Floats, b: Floats) -> float:
    """The share by which the means of two such series may differ by chance."""
    errors = [_relative_error(one) for one in (a, b)]
    if any(math.isnan(one) for one in errors):
        return _UNKNOWN
    return max(_FLOOR, _SIGMAS * math.hypot(*errors))


def _relative_error(values: Floats) -> float:
    """Standard error of the mean, from blocks, which keep what neighbouring seconds share."""
    if len(values) < 2 * _BLOCKS or not values.mean():
        return math.nan
    means = [block.mean() for block in np.array_split(values, _BLOCKS)]
    return float(np.std(means, ddof=1) / math.sqrt(_BLOCKS) / abs(values.mean()))


def _plain(group: str, name: str, a: float | None, b: float | None, *, lower: bool = True) -> Row:
    """A count, of which any difference is one."""
    return Row(group, name, "", a, b, _changed(a, b, 0.0, lower=lower))


def _noisy(
    group: str,
    name: str,
    unit: str,
    a: float | None,
    b: float | None,
    *,
    noise: float,
    lower: bool = True,
) -> Row:
    return Row(group, name, unit, a, b, _changed(a, b, noise, lower=lower), noise)


def _changed(a: float | None, b: float | None, noise: float, *, lower: bool) -> Change:
    if a is None or b is None:
        return Change.SAME if a is b else Change.OTHER
    if abs(b - a) <= noise * max(abs(a), abs(b)):
        return Change.SAME
    return Change.BETTER if (b < a) is lower else Change.WORSE
