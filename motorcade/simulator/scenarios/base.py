"""What the parts of a scenario share: strict models and the numbers they are made of."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, StringConstraints


class Part(BaseModel):
    """A part of a scenario: no key that is not known, no value that is silently converted."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


Flag = Annotated[bool, Strict()]
Whole = Annotated[int, Strict()]
Count = Annotated[int, Strict(), Field(ge=1)]
CountOrZero = Annotated[int, Strict(), Field(ge=0)]
Real = Annotated[float, Strict()]
Positive = Annotated[float, Strict(), Field(gt=0)]
AtLeastZero = Annotated[float, Strict(), Field(ge=0)]
Share = Annotated[float, Strict(), Field(gt=0, le=1)]
ShareOrZero = Annotated[float, Strict(), Field(ge=0, le=1)]
Text = Annotated[str, StringConstraints(min_length=1)]


def matching(pattern: str, allowed: str) -> AfterValidator:
    """A text that matches a pattern as a whole; `allowed` is what the message says."""
    whole = re.compile(pattern)

    def check(value: str) -> str:
        if not whole.fullmatch(value):
            raise ValueError(f"must be {allowed}")
        return value

    return AfterValidator(check)
