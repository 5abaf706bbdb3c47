"""A plot as plain values, and the colours of all plots. Pure."""

from dataclasses import dataclass
from typing import Any

_COLOURS = (
    "#3b82f6",
    "#f59e0b",
    "#10b981",
    "#ef4444",
    "#8b5cf6",
    "#14b8a6",
    "#ec4899",
    "#94a3b8",
    "#84cc16",
    "#a16207",
    "#0ea5e9",
    "#f472b6",
)
#: Of what others are compared with.
GREY = _COLOURS[7]


@dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
        title: above it.
        note: beside the title: the unit, and what is not obvious.
        figure: data and layout for Plotly; the page adds the colours of its theme.
        wide: as the page, for what has much to name beside each other.
    """

    title: str
    note: str
    figure: dict[str, Any]
    wide: bool = False


def colour(number: int) -> str:
    """The colour of a line by its number, from 0; after the last colour they begin again."""
    return _COLOURS[number % len(_COLOURS)]
