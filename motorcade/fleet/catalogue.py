"""The signal catalogue: loads signals.yaml, refuses a bad one, answers by name and column."""

from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from motorcade.fleet.arrays import Bools, Floats, Ints
from motorcade.fleet.errors import CatalogueError

#: Field names of a message that no signal may take.
RESERVED = frozenset({"vin", "boot", "seq", "time", "due"})

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class Signal(BaseModel):
    """One signal: its name, unit, physical range (inclusive, in that unit) and uses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    unit: Annotated[str, StringConstraints(min_length=1)]
    range: tuple[float, float]
    precision: Annotated[int, Field(ge=0, le=9)]
    vss: Annotated[str, StringConstraints(min_length=1)]
    required: bool
    type: Literal["float", "double"]
    feature: bool
    description: Annotated[str, StringConstraints(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name in RESERVED:
            raise ValueError(f"the name {self.name!r} is reserved for the message's identity")
        if not self.range[0] < self.range[1]:
            raise ValueError(f"range {list(self.range)} must rise")
        return self


class Catalogue(BaseModel):
    """All signals of a fleet, in the order that every schema, matrix and table uses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    namespace: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.]*$")]
    identity: Literal["vin", "id17"]
    check_digit: bool = False
    signals: tuple[Signal, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        seen: dict[str, int] = {}
        for position, signal in enumerate(self.signals, 1):
            if signal.name in seen:
                raise ValueError(
                    f"signal {signal.name!r} stands twice, as number {seen[signal.name]} "
                    f"and as number {position}"
                )
            seen[signal.name] = position
        if not any(signal.feature for signal in self.signals):
            raise ValueError("no signal is marked as a feature, so no model could read it")
        return self

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Signal names in catalogue order."""
        return tuple(signal.name for signal in self.signals)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """Names of the signals that models read, in catalogue order."""
        return tuple(signal.name for signal in self.signals if signal.feature)

    @cached_property
    def feature_columns(self) -> Ints:
        """Columns of the features in a matrix of all signals, shape (features,), int."""
        return np.flatnonzero([signal.feature for signal in self.signals])

    @cached_property
    def low(self) -> Floats:
        """Lower physical limit of every signal, shape (signals,), float64."""
        return np.array([signal.range[0] for signal in self.signals])

    @cached_property
    def high(self) -> Floats:
        """Upper physical limit of every signal, shape (signals,), float64."""
        return np.array([signal.range[1] for signal in self.signals])

    @cached_property
    def required(self) -> Bools:
        """Whether each signal must be present, shape (signals,), bool."""
        return np.array([signal.required for signal in self.signals])

    def column(self, name: str) -> int:
        """Position of a signal in catalogue order.

        Raises:
            CatalogueError: the catalogue has no such signal.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise CatalogueError(
                f"The catalogue {self.name!r} has no signal {name!r}.",
                f"It has: {', '.join(self.names)}.",
            ) from None


def load_catalogue(path: Path | None = None) -> Catalogue:
    """Read a catalogue file, or the default one that comes with Motorcade.

    Raises:
        CatalogueError: the file is missing, is not YAML, or breaks a rule; the message names the
            file, the signal and the field.
    """
    if path is None:
        return _default_catalogue()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogueError(
            f"The signals file {path} cannot be read: {error}.", "Check --signals."
        ) from error
    return parse_catalogue(text, str(path))


@lru_cache(maxsize=1)
def _default_catalogue() -> Catalogue:
    source = files("motorcade.fleet") / "signals.yaml"
    return parse_catalogue(source.read_text(encoding="utf-8"), "signals.yaml")


def shipped_catalogue(name: str) -> Path:
    """The file of a catalogue that comes with Motorcade, such as "demo".

    Raises:
        CatalogueError: there is none of that name.
    """
    folder = Path(str(files("motorcade.fleet"))) / "catalogues"
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in folder.glob("*.yaml")))
        raise CatalogueError(f"There is no catalogue {name!r}.", f"There are: {known}.")
    return path


def parse_catalogue(text: str, source: str) -> Catalogue:
    """Build a catalogue from YAML text; `source` names it in errors.

    Raises:
        CatalogueError: as `load_catalogue`.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CatalogueError(f"{source} is not valid YAML: {error}.") from error
    if not isinstance(document, dict):
        raise CatalogueError(
            f"{source} must be a mapping with name, namespace, identity and signals."
        )
    try:
        return Catalogue.model_validate(document)
    except ValidationError as error:
        items = error.errors()
        # Signals that fail are missing from the tuple, which pydantic then finds too short.
        own = [item for item in items if item["type"] != "too_short"] or items
        problems = "; ".join(_explain(document, item["loc"], item["msg"]) for item in own)
        raise CatalogueError(f"{source}: {problems}.", "Correct the file.") from error


def _explain(document: dict[str, object], where: tuple[int | str, ...], message: str) -> str:
    message = message.removeprefix("Value error, ")
    if len(where) >= 2 and where[0] == "signals" and isinstance(where[1], int):
        signals = document.get("signals")
        entry = signals[where[1]] if isinstance(signals, list) else None
        name = entry.get("name") if isinstance(entry, dict) else None
        field = ".".join(str(part) for part in where[2:])
        label = f"signal {name!r}" if name else f"signal number {where[1] + 1}"
        return f"{label}: {field + ': ' if field else ''}{message}"
    field = ".".join(str(part) for part in where)
    return f"{field + ': ' if field else ''}{message}"
