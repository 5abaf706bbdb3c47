"""Generates docs/scenarios.md from the model of a scenario and the files that come along."""

import types
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from motorcade.simulator.scenarios.events import (
    Drop,
    Faults,
    Garbage,
    Kill,
    Offline,
    Pace,
    Pause,
    Stop,
)
from motorcade.simulator.scenarios.load import load_scenario, names
from motorcade.simulator.scenarios.model import Limit, Scenario, ServiceLevels, Stage, Thresholds
from motorcade.simulator.scenarios.times import moment, seconds

_INTRO = """# Scenarios

Generated from the model in `motorcade/simulator/scenarios/` by `motorcade scenarios page`; a test \
fails when this page differs.

A scenario is a YAML file that says what a load run does and what it must reach. `motorcade \
scenarios` lists those that come along, `motorcade scenarios show NAME` prints one, `motorcade \
load NAME` plays it, and `--set` changes any value: `motorcade load steady --set fleet.cars=200 \
--set stages.0.seconds=30s`. One of your own begins as a copy: `motorcade scenarios show steady > \
mine.yaml`, then `motorcade load mine.yaml`. What is wrong in it is said with file and line, the \
key, what was found and what is allowed.

In Locust's web UI the start form offers the same scenarios under *Custom parameters*; cars, ramp \
and interval can be changed there, also while one is played. What the workers were started with, \
such as QoS, cannot change while they run. Kills of the stack's own parts and the search for a \
limit need `motorcade load`. Five tabs show the fleet, delivery, latency to the 99.99th \
percentile, stages and faults.

![Stages and events of a scenario in the Locust UI](images/locust-stages.png)

A run begins with a ramp. When all its cars are connected, the stages follow one after the other; \
events happen at their times. Times are seconds, or have units: `90`, `90s`, `2m`, `1h30m`, \
`500ms`. The moment of an event counts from the end of the ramp (`90`, `2m`) or from a stage \
(`hold`, `hold+10s`)."""

_PARTS = ("target", "fleet", "ramp", "publish", "mqtt", "wear")
_EVENTS = (Drop, Offline, Garbage, Pace, Faults, Kill, Stop, Pause)


def scenarios_page() -> str:
    """The page as Markdown."""
    sections = [_INTRO, _shipped()]
    for name in _PARTS:
        field = Scenario.model_fields[name]
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        sections.append(_section(f"`{name}`", model))
    sections.append(_section("`stages`, each", Stage))
    sections += [_section(f"`events`, kind `{_kind(one)}`", one, {"kind"}) for one in _EVENTS]
    sections.append(_section("`thresholds`", Thresholds))
    sections.append(_section("`limit`", Limit, {"service_levels"}))
    sections.append(_section("`limit.service_levels`", ServiceLevels))
    return "\n\n".join(sections) + "\n"


def _shipped() -> str:
    lines = ["## Those that come along", ""]
    lines += [_row("scenario", "cars", "what it shows"), _row("---", "---:", "---")]
    for name in names():
        one = load_scenario(name)
        lines.append(_row(f"`{name}`", f"{one.fleet.cars:,}", one.description))
    return "\n".join(lines)


def _section(title: str, model: type[BaseModel], hidden: Iterable[str] = ()) -> str:
    first = " ".join((model.__doc__ or "").split("\n\n")[0].split())
    lines = [f"## {title}", "", first, "", _row("key", "allowed", "default", "meaning")]
    lines.append(_row("---", "---", "---", "---"))
    for name, field in model.model_fields.items():
        if name not in set(hidden):
            meaning = " ".join((field.description or "").split())
            lines.append(_row(f"`{name}`", _allowed(field), _default(field), meaning))
    return "\n".join(lines)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.default
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return ", ".join(str(one) for one in value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _allowed(field: FieldInfo) -> str:
    return _words(field.annotation, field.metadata)


def _words(annotation: Any, metadata: Iterable[Any]) -> str:
    metadata = list(metadata)
    if get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        return _words(annotation, [*more, *metadata])
    if get_origin(annotation) in {Union, types.UnionType}:
        [inner] = [one for one in get_args(annotation) if one is not types.NoneType]
        return _words(inner, metadata)
    converters = [one.func for one in metadata if isinstance(one, BeforeValidator)]
    if seconds in converters:
        return "seconds"
    if moment in converters:
        return "moment"
    if get_origin(annotation) is tuple:
        return f"list of {_words(get_args(annotation)[0], ())}"
    if get_origin(annotation) is Literal:
        return ", ".join(str(one) for one in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(str(one.value) for one in annotation)
    kinds = {bool: "true, false", int: "whole number", float: "number", str: "text", Path: "path"}
    bounds = [word for one in metadata for word in _bounds(one)]
    return f"{kinds[annotation]} {', '.join(bounds)}".rstrip()


def _bounds(constraint: Any) -> Iterable[str]:
    for one in getattr(constraint, "metadata", None) or [constraint]:
        for attribute, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤")):
            if (value := getattr(one, attribute, None)) is not None:
                yield f"{sign} {value:,}"


def _kind(model: type[BaseModel]) -> str:
    return str(get_args(model.model_fields["kind"].annotation)[0])


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"
