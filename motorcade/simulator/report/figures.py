"""The plots of a report: what is drawn of a run's series, with stages as bands, events as marks.

Pure: a document in, Plotly figures as plain values out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from motorcade.runtime.pages.plot import Plot, colour
from motorcade.simulator.report.document import Document, Series, Stage

#: Most points of a line; a longer run is thinned, keeping each stretch's highest value.
_POINTS = 500
#: Elapsed time is drawn as dates, for ticks of minutes and hours, from this midnight on: Plotly
#: takes small numbers for years.
_MIDNIGHT_MS = 365 * 86_400_000
_STATES = ("connected", "connecting", "reconnecting", "offline", "refused", "parked")
#: Share of a plot's width that a stage's name needs.
_NAMED_SHARE = 0.1
_NUMBERED = re.compile(r"-\d+$")

Values = list[float | None]


@dataclass(frozen=True)
class _Line:
    name: str
    values: Values
    dash: str = "solid"
    stack: bool = False
    colour: int | None = None


@dataclass(frozen=True)
class _Wanted:
    title: str
    note: str
    lines: list[_Line] = field(default_factory=list)
    log: bool = False


def family(name: str) -> str:
    """The kind of process that a numbered one is of: locust-worker-3 is a locust-worker."""
    return _NUMBERED.sub("", name)


def plots(document: Document) -> list[Plot]:
    """Every plot for which there are figures."""
    series = document.series
    if not series.time_ms:
        return []
    found = [_drawn(document, wanted) for wanted in _wanted(series)]
    if document.limit is not None and document.limit.steps:
        found.insert(0, _limit(document))
    return found


def both_plots(a: Document, b: Document) -> list[Plot]:
    """What two runs have in common, A beside B, each from its own beginning."""
    found = []
    for title, unit, name, log in (
        ("Cars connected", "cars", "cars.connected", False),
        ("Messages refined", "per second", "rate.refined", False),
        ("due → Kafka p99", "ms", "latency.kafka.p99", True),
        ("due → PUBACK p99", "ms", "latency.puback.p99", True),
        ("CPU of all processes", "cores", "cpu.", False),
        ("Memory of all processes", "MiB", "rss.", False),
    ):
        data: list[dict[str, Any]] = []
        end = 0
        for letter, dash, one in (("A", "dot", a), ("B", "solid", b)):
            figures, times = one.series.figures, one.series.time_ms
            mine = [
                values
                for key, values in figures.items()
                if key == name or (name.endswith(".") and key.startswith(name))
            ]
            if mine and times:
                line = _Line(letter, _total(mine), dash)
                data.append(_trace(line, [t - times[0] + _MIDNIGHT_MS for t in times], len(data)))
                end = max(end, times[-1] - times[0])
        if data:
            found.append(Plot(title, unit, {"data": data, "layout": _axes(end, log=log)}))
    return found


def _wanted(series: Series) -> Iterable[_Wanted]:
    named = _Named(series.figures)
    every = (
        _Wanted(
            "Cars",
            "in each state",
            named.lines("cars.", {name: name for name in _STATES}),
        ),
        _Wanted(
            "Messages",
            "per second",
            named.lines(
                "rate.",
                {
                    "sent": "sent by cars",
                    "acked": "acknowledged",
                    "raw": "in telemetry.raw",
                    "refined": "refined",
                    "scored": "scored or not",
                    "quarantined": "quarantined",
                },
            ),
        ),
        _Wanted("Latency", "ms, from when a message was due", named.latencies(), log=True),
        _Wanted(
            "Connections",
            "per second",
            named.lines(
                "rate.",
                {"connects": "made", "disconnects": "lost"},
            ),
        ),
        _Wanted("Lag", "records, that each group has not yet committed", named.all("lag.")),
        _Wanted("CPU", "cores", named.families("cpu.", stack=True)),
        _Wanted("Memory", "MiB, resident", named.families("rss.", stack=True)),
    )
    return [one for one in every if any(_is_there(line.values) for line in one.lines)]


class _Named:
    """Lines from figures by name."""

    def __init__(self, figures: Mapping[str, Values]) -> None:
        self._figures = figures

    def lines(self, prefix: str, names: Mapping[str, str]) -> list[_Line]:
        found = [(text, self._figures.get(prefix + name, [])) for name, text in names.items()]
        # A state in which no car ever was is no line.
        return [_Line(text, values) for text, values in found if any(values)]

    def all(self, prefix: str) -> list[_Line]:
        return [
            _Line(name.removeprefix(prefix), values)
            for name, values in self._figures.items()
            if name.startswith(prefix)
        ]

    def latencies(self) -> list[_Line]:
        names = {
            "connect": "connect",
            "puback": "due → PUBACK",
            "kafka": "due → Kafka",
            "reconnect": "reconnect",
        }
        found = []
        for number, (name, text) in enumerate(names.items()):
            for share, dash in (("p50", "dot"), ("p99", "solid")):
                values = self._figures.get(f"latency.{name}.{share}", [])
                if _is_there(values):
                    found.append(_Line(f"{text} {share}", values, dash, colour=number))
        lag = self._figures.get("generator.lag_ms", [])
        if _is_there(lag):
            found.append(_Line("generator's own lag", lag, "dash", colour=7))
        return found

    def families(self, prefix: str, *, stack: bool) -> list[_Line]:
        """Processes, those of a kind together, the largest first."""
        members: dict[str, list[Values]] = {}
        for line in self.all(prefix):
            members.setdefault(family(line.name), []).append(line.values)
        # The same process has the same colour in every plot.
        every = sorted({family(n.partition(".")[2]) for n in self._figures if n.startswith("rss.")})
        found = [
            _Line(
                name if len(some) == 1 else f"{name} × {len(some)}",
                _total(some),
                stack=stack,
                colour=every.index(name) if name in every else None,
            )
            for name, some in members.items()
        ]
        return sorted(found, key=lambda line: -sum(value or 0.0 for value in line.values))


def _total(some: Sequence[Values]) -> Values:
    table = np.array(some, dtype=float)
    nothing = np.isnan(table).all(axis=0)
    return [
        None if no else float(v) for v, no in zip(np.nansum(table, axis=0), nothing, strict=True)
    ]


def _is_there(values: Values) -> bool:
    return any(value is not None for value in values)


def _drawn(document: Document, wanted: _Wanted) -> Plot:
    began = document.series.time_ms[0] - _MIDNIGHT_MS
    elapsed = [moment - began for moment in document.series.time_ms]
    data = [_trace(line, elapsed, position) for position, line in enumerate(wanted.lines)]
    layout = _axes(elapsed[-1] - elapsed[0], log=wanted.log)
    layout["shapes"] = [*_bands(document, began, elapsed[-1]), *_marks(document, began)]
    return Plot(wanted.title, wanted.note, {"data": data, "layout": layout})


def _trace(line: _Line, elapsed: Sequence[int], position: int) -> dict[str, Any]:
    times, values = _thinned(elapsed, line.values)
    drawn = colour(position if line.colour is None else line.colour)
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines",
        "name": line.name,
        "x": times,
        "y": values,
        "line": {"color": drawn, "width": 1 if line.stack else 1.8, "dash": line.dash},
    }
    if line.stack:
        trace |= {"stackgroup": "all", "fillcolor": drawn + "99"}
    return trace


def _axes(lasts_ms: int, *, log: bool) -> dict[str, Any]:
    form = "%-H:%M:%S" if lasts_ms >= 3_600_000 else "%-M:%S"
    return {
        "xaxis": {"type": "date", "tickformat": form, "hoverformat": form, "nticks": 8},
        "yaxis": {"type": "log"} if log else {"rangemode": "tozero"},
        "hovermode": "x unified",
    }


def _thinned(times: Sequence[int], values: Values) -> tuple[list[int], Values]:
    """At most so many points: of each stretch the highest value, at its middle."""
    rounded = [None if value is None else float(f"{value:.4g}") for value in values]
    if len(rounded) <= _POINTS:
        return list(times), rounded
    edges = np.linspace(0, len(rounded), _POINTS + 1).astype(int).tolist()
    spans = list(pairwise(edges))
    highest = [
        max((value for value in rounded[start:end] if value is not None), default=None)
        for start, end in spans
    ]
    return [times[(start + end) // 2] for start, end in spans], highest


def _bands(document: Document, began: int, end: int) -> list[dict[str, Any]]:
    """Every other stage is shaded; each has its name."""
    return [
        {
            "type": "rect",
            "xref": "x",
            "yref": "paper",
            "x0": max(_MIDNIGHT_MS, stage.from_ms - began),
            "x1": min(end, stage.to_ms - began),
            "y0": 0,
            "y1": 1,
            "line": {"width": 0},
            "layer": "below",
            "fillcolor": "rgba(128,140,160,0.10)" if position % 2 else "rgba(128,140,160,0.03)",
            # A stage too short for its name is told by the table of stages alone.
            "label": {
                "text": stage.name if _is_wide(stage, end - _MIDNIGHT_MS) else "",
                "textposition": "top left",
                "font": {"size": 10},
            },
        }
        for position, stage in enumerate(document.stages)
        if stage.from_ms - began < end
    ]


def _is_wide(stage: Stage, whole_ms: int) -> bool:
    return stage.to_ms - stage.from_ms > _NAMED_SHARE * whole_ms


def _marks(document: Document, began: int) -> list[dict[str, Any]]:
    """A vertical line for each event, with its number in the table of events."""
    return [
        {
            "type": "line",
            "xref": "x",
            "yref": "paper",
            "x0": event.time_ms - began,
            "x1": event.time_ms - began,
            "y0": 0,
            "y1": 1,
            "line": {"color": "#ef4444", "width": 1.2, "dash": "dash"},
            "label": {
                "text": str(number),
                "textposition": "end",
                "textangle": 0,
                "yanchor": "bottom",
                "font": {"size": 11, "color": "#ef4444"},
            },
        }
        for number, event in enumerate(document.events, 1)
    ]


def _limit(document: Document) -> Plot:
    """Offered load by step, and whether it held."""
    assert document.limit is not None
    steps = document.limit.steps
    numbers = list(range(1, len(steps) + 1))
    data = [
        {
            "type": "bar",
            "name": text,
            "x": [number for number, step in zip(numbers, steps, strict=True) if step.held is held],
            "y": [float(f"{step.offered:.4g}") for step in steps if step.held is held],
            "text": [step.phase for step in steps if step.held is held],
            "marker": {"color": shown},
        }
        for held, text, shown in ((True, "held", colour(2)), (False, "broke", colour(3)))
    ]
    layout = {
        "xaxis": {"title": {"text": "step"}, "dtick": 1},
        "yaxis": {"rangemode": "tozero"},
        "barmode": "overlay",
    }
    return Plot("Search for the limit", "messages per second", {"data": data, "layout": layout})
