"""Reads scenarios: by the name of one that comes along, or by file; says exactly what is wrong."""

import re
import types
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from motorcade.simulator.scenarios.document import Document, ScenarioError, dotted
from motorcade.simulator.scenarios.document import Path as Key
from motorcade.simulator.scenarios.events import Event
from motorcade.simulator.scenarios.model import Fleet, Scenario

_FOLDER = "motorcade.simulator.scenarios"
#: Keys that name files; in a scenario file they are relative to it.
_FILES: tuple[tuple[str, str], ...] = (
    ("target", "credentials"),
    ("target", "ca"),
    ("target", "cert"),
    ("target", "key"),
    ("target", "kafka_credentials"),
    ("target", "kafka_ca"),
    ("target", "kafka_cert"),
    ("target", "kafka_key"),
    ("target", "payload_template"),
    ("fleet", "drives"),
    ("fleet", "signals"),
)
_MOST_SHOWN = 4
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")


def names() -> list[str]:
    """Names of the scenarios that come along."""
    found = (one.name for one in files(_FOLDER).iterdir())
    return sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml"))


def text_of(name_or_path: str) -> tuple[str, str]:
    """The YAML of a scenario and what messages call it.

    Raises:
        ScenarioError: there is none of that name, or the file cannot be read.
    """
    if name_or_path in names():
        return (files(_FOLDER) / f"{name_or_path}.yaml").read_text("utf-8"), f"{name_or_path}.yaml"
    path = Path(name_or_path)
    if not (path.suffix or "/" in name_or_path or path.exists()):
        raise ScenarioError(
            f"There is no scenario {name_or_path!r}.{_did_you_mean(name_or_path, names())}",
            f"There are {', '.join(names())}; or give the path of a YAML file.",
        )
    try:
        return path.read_text("utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(
            f"The scenario {path} cannot be read: {error}.",
            "`motorcade scenarios` lists those that come along.",
        ) from error


def load_scenario(name_or_path: str, overrides: Iterable[str] = ()) -> Scenario:
    """Read a scenario by name or path; overrides are assignments such as "fleet.cars=200".

    Raises:
        ScenarioError: it cannot be read, has a key that is not known, a value that is not allowed
            or a combination that cannot be; names file and line, key, what was found and what is
            allowed.
    """
    text, source = text_of(name_or_path)
    base = Path(source).absolute().parent if Path(source).exists() else Path.cwd()
    return parse_scenario(text, source, overrides, base)


def parse_scenario(
    text: str, source: str, overrides: Iterable[str] = (), base: Path | None = None
) -> Scenario:
    """As `load_scenario`, from text; file names in it are relative to `base`."""
    document = Document(text, source)
    _resolve_files(document, base or Path.cwd())
    document.override(overrides)
    _resolve_files(document, Path.cwd())
    _resolve_shares(document.values)
    scenario = _validated(document)
    for section, key in _FILES:
        path = getattr(getattr(scenario, section), key)
        if path is not None and "{vin}" not in str(path) and not path.exists():
            place = document.place((section, key))
            raise ScenarioError(f"{place}: {section}.{key}: {path} is not there.")
    return scenario


def _validated(document: Document) -> Scenario:
    while True:
        try:
            return Scenario.model_validate(document.values)
        except ValidationError as error:
            found = error.errors()
        texts = [
            _path(document.values, one["loc"]) for one in found if one["type"] == "string_type"
        ]
        if not document.take_as_spelled(texts):
            raise _objection(document, found)


def _resolve_files(document: Document, base: Path) -> None:
    for section, key in _FILES:
        holder = document.values.get(section)
        if isinstance(holder, dict) and isinstance(holder.get(key), str):
            holder[key] = str(base / holder[key])


def _resolve_shares(values: dict[str, Any]) -> None:
    """Turn cars such as "25%" of ramp and stages into numbers, so that fleets scale."""
    fleet = values.get("fleet")
    cars = fleet.get("cars", Fleet().cars) if isinstance(fleet, dict) else Fleet().cars
    stages = values.get("stages")
    for holder in (values.get("ramp"), *(stages if isinstance(stages, list) else ())):
        if not (isinstance(holder, dict) and isinstance(cars, int)):
            continue
        found = holder.get("cars")
        if isinstance(found, str) and (share := _SHARE.fullmatch(found)):
            holder["cars"] = round(cars * float(share[1]) / 100)


def _objection(document: Document, errors: Sequence[ErrorDetails]) -> ScenarioError:
    # A container that lacks a good entry is no second problem beside the bad entry itself.
    lines = [_explain(document, one) for one in errors if one["type"] != "too_short"]
    lines = list(dict.fromkeys(lines)) or [_explain(document, errors[0])]
    shown = "; ".join(lines[:_MOST_SHOWN])
    more = len(lines) - _MOST_SHOWN
    return ScenarioError(shown + (f"; and {more} more." if more > 0 else "."))


def _explain(document: Document, error: ErrorDetails) -> str:
    path = _path(document.values, error["loc"])
    context = error.get("ctx", {})
    kind = error["type"]
    if kind == "impossible":
        path = tuple(context["path"])
        found = _value(document.values, path)
        shown = "" if found is None or isinstance(found, dict | list) else f" {found!r}"
        return f"{document.place(path)}: {dotted(path) or 'the scenario'}{shown} {context['text']}"
    place = f"{document.place(path)}: {dotted(path)}"
    if kind == "extra_forbidden":
        allowed = _keys(document.values, path[:-1])
        hint = _did_you_mean(str(path[-1]), allowed)
        where = f"in {dotted(path[:-1])} " if path[:-1] else ""
        return f"{place} is not known.{hint} Keys {where}are {', '.join(allowed)}"
    if kind == "missing":
        return f"{place} is missing"
    if kind in {"union_tag_not_found", "union_tag_invalid"}:
        kinds = [_kind(one) for one in _members(Event)]
        at = (*path, "kind")
        if kind == "union_tag_not_found":
            return f"{place}.kind is missing; it is one of {', '.join(kinds)}"
        found = context["tag"]
        hint = _did_you_mean(found, kinds)
        place = f"{document.place(at)}: {dotted(at)}"
        return f"{place} is {found!r}.{hint} It is one of {', '.join(kinds)}"
    return f"{place} is {_short(error['input'])}; it {_rule(error)}"


def _rule(error: ErrorDetails) -> str:
    """What is allowed, to be read after "it"."""
    context = error.get("ctx", {})
    kind = error["type"]
    if kind == "value_error":
        return str(context["error"])
    if kind in {"literal_error", "enum"}:
        return f"must be {context['expected']}"
    plain = {
        "int_type": "must be a whole number",
        "float_type": "must be a number",
        "bool_type": "must be true or false",
        "string_type": "must be text, a number in quotes",
        "path_type": "must be the name of a file",
        "model_type": "must have keys of its own",
        "tuple_type": "must be a list",
        "string_too_short": "must not be empty",
        "too_short": "must not be empty",
    }
    if kind in plain:
        return plain[kind]
    return error["msg"].replace("Input should be", "must be").replace("Value should", "must")


def _path(values: Any, loc: tuple[str | int, ...]) -> Key:
    """A place in the document from pydantic's, which also names members of unions."""
    path: list[str | int] = []
    for position, step in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(values, dict):
            if step not in values and not last:
                continue
            path.append(step)
            values = values.get(step)
        elif isinstance(values, list):
            path.append(step)
            values = values[step] if isinstance(step, int) and step < len(values) else None
    return tuple(path)


def _value(values: Any, path: Key) -> Any:
    for step in path:
        if isinstance(values, dict):
            values = values.get(step)
        elif isinstance(values, list) and isinstance(step, int) and step < len(values):
            values = values[step]
        else:
            return None
    return values


def _keys(values: dict[str, Any], path: Key) -> list[str]:
    """Keys that are known at a place."""
    model: Any = Scenario
    for position, step in enumerate(path):
        if isinstance(step, int):
            kinds = {_kind(one): one for one in _members(model)} if _members(model) else {}
            if kinds:
                entry = _value(values, path[: position + 1])
                model = kinds.get(str(entry["kind"]), model)
            continue
        model = _inner(model.model_fields[step].annotation)
    return list(model.model_fields)


def _inner(annotation: Any) -> Any:
    """The model within Model | None, tuple[Model, ...] or Annotated[…]."""
    while not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        if annotation is Event or _members(annotation):
            return annotation
        annotation = next(one for one in get_args(annotation) if one is not type(None))
    return annotation


def _members(annotation: Any) -> list[Any]:
    """The models of a union of models; empty for anything else."""
    if get_origin(annotation) not in {Union, types.UnionType}:
        arguments = get_args(annotation)
        return _members(arguments[0]) if annotation is Event and arguments else []
    models = [one for one in get_args(annotation) if hasattr(one, "model_fields")]
    return models if all("kind" in one.model_fields for one in models) else []


def _kind(model: Any) -> str:
    return str(get_args(model.model_fields["kind"].annotation)[0])


def _did_you_mean(found: str, known: Sequence[str]) -> str:
    close = get_close_matches(found, known, n=1)
    return f" Did you mean {close[0]}?" if close else ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
