"""A plot as plain values, and the colours of its lines. Pure."""

from dataclasses import dataclass
from typing import Any

#: What lines and bars are drawn in, one after the other.
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
GREY = "#94a3b8"


@dataclass(frozen=True)
class Plot:
    """One plot.

    Attributes:
        title: above it; note: beside the title, its unit or what is not obvious.
        figure: data and layout for Plotly; the page adds the colours of its theme.
    """

    title: str
    note: str
    figure: dict[str, Any]


def colour_of(number: int) -> str:
    """The colour of the line of this number."""
    return _COLOURS[number % len(_COLOURS)]
