"""Spans and moments as people write them: "90", "90s", "2m", "500ms", "hold+10s"."""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = r"\d+(?:\.\d+)?(?:ms|s|m|h|d)"
_SPAN = re.compile(rf"(?:{_PART})+|\d+(?:\.\d+)?")
_MOMENT = re.compile(rf"([a-z][a-z0-9-]*)(?:\+((?:{_PART})+|\d+(?:\.\d+)?))?")
_SPAN_FORMS = 'seconds, such as 90, "90s", "2m", "1h30m" or "500ms"'


def seconds(value: object) -> float:
    """A span in seconds, from a number or a text such as "1m30s".

    Raises:
        ValueError: it is neither; says what is allowed.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and _SPAN.fullmatch(text := value.strip()):
        if text[-1].isdigit():
            return float(text)
        parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
        return sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    raise ValueError(f"must be {_SPAN_FORMS}")


@dataclass(frozen=True)
class Moment:
    """When something happens: seconds after a stage has begun, or after the ramp (no stage)."""

    offset_s: float
    stage: str | None = None

    def __str__(self) -> str:
        return f"{self.offset_s:g}s" if self.stage is None else f"{self.stage}+{self.offset_s:g}s"


def moment(value: object) -> Moment:
    """A moment from seconds after the ramp, "hold" or "hold+10s".

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, Moment):
        return value
    if isinstance(value, str) and (found := _MOMENT.fullmatch(value.strip())):
        stage, offset = found.groups()
        return Moment(seconds(offset or 0), stage)
    try:
        return Moment(seconds(value))
    except ValueError:
        raise ValueError(
            'must be seconds after the ramp, such as 90 or "2m", or a stage and seconds after its '
            'beginning, such as "hold" or "hold+10s"'
        ) from None


def _plain(value: Any) -> Any:
    return str(value)


#: Seconds, written as a number or with units; above zero, or not below it.
Span = Annotated[float, BeforeValidator(seconds), Field(gt=0, allow_inf_nan=False)]
SpanOrZero = Annotated[float, BeforeValidator(seconds), Field(ge=0, allow_inf_nan=False)]
At = Annotated[Moment, BeforeValidator(moment), PlainSerializer(_plain)]
